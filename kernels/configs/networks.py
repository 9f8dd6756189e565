"""Measurements of whole networks: their words, which CPUs and GPUs share, and the files of GPUs.

A file holds what one GPU, or a GPU of one architecture, took for networks of each kind and size in each backend, and the
configurations of the kernels that ran then. ``gpu-*.json`` beside this file come with srfast; a file that ``SRFAST_GPU_MEASURED``
names goes before them. ``python -m benchmarks.gpu.choice`` writes such a file.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from srfast._files import FileState, file_state, small_json
from srfast.errors import escaped

KINDS = ("plain", "residual", "dense")
# What runs a network on a GPU, the most general first. Eager is PyTorch without srfast's kernels.
BACKENDS = ("triton", "gluon", "cuda", "mixed", "trunk", "eager")
# Sizes of frames, by the most input pixels. Up to 256x256 a large GPU is not full (132 multiprocessors at four programs of 128
# pixels), beyond 512x512 there are several waves of everything.
SIZES = {"small": 1 << 16, "medium": 1 << 18, "large": math.inf}
VARIABLE = "SRFAST_GPU_MEASURED"
FOLDER = Path(__file__).parent
# Files of configurations that a GPU's file may have a part of.
KERNELS = ("cuda", "triton")
FORMAT = "srfast gpu 1"
_LARGEST = 1 << 20  # bytes: a file that is larger is another program's
_log = logging.getLogger("srfast")


@dataclass(frozen=True)
class GpuMeasurement:
    """Seconds of one network in several backends.

    Attributes:
        kind: of the network, one of ``KINDS``.
        network: name and size of the image, for people.
        pixels: of the image.
        seconds: for an image, by the name in ``BACKENDS``.
        source: record or run, and commit.
    """

    kind: str
    network: str
    pixels: int
    seconds: Mapping[str, float]
    source: str

    @property
    def size(self) -> str:
        """The class of the image's size, one of ``SIZES``."""
        return size_class(self.pixels)

    @property
    def times(self) -> Mapping[str, float]:
        """The seconds, as ``backends.measured.Timed`` names them."""
        return self.seconds


@dataclass(frozen=True)
class GpuFile:
    """What was measured on a GPU.

    Attributes:
        path: where it was read.
        gpu: a name of ``device_names``: the GPU's own, or 'sm90'.
        measured: whole networks.
        kernels: for 'cuda' and 'triton' the configurations that ran, by shape.
    """

    path: Path
    gpu: str
    measured: tuple[GpuMeasurement, ...]
    kernels: Mapping[str, dict[str, dict[str, Any]]]


def size_class(pixels: int) -> str:
    """Names the class of a frame's size.

    Args:
        pixels: width times height of the network's input.

    Examples:
        >>> size_class(480 * 270)
        'medium'
    """
    return next(name for name, most in SIZES.items() if pixels <= most)


def check_words(row: Any, *texts: str) -> None:
    """Checks what rows for CPUs and GPUs have in common.

    Args:
        row: with the attribute ``kind``.
        texts: names of attributes that are words.

    Raises:
        ValueError: a word is none, or the kind is unknown.
    """
    if not all(isinstance(getattr(row, name), str) for name in texts) or row.kind not in KINDS:
        raise ValueError(f"a measurement has words for {', '.join(texts)}, and a kind of {', '.join(KINDS)}")


def check_times(times: Any, unit: str) -> None:
    """Checks that times are positive numbers by a name.

    Raises:
        ValueError: they are something else.
    """
    if not isinstance(times, dict) or not times:
        raise ValueError(f"a measurement has {unit} by the way")
    for value in times.values():
        # JSON's true is an int to Python.
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise ValueError(f"{unit} are positive numbers, not {str(value)[:40]!r}")


def user_file() -> GpuFile | None:
    """Returns the file that ``SRFAST_GPU_MEASURED`` names; None without one, and where it cannot be used.

    One that cannot be used is named in the log, once for each state of it.
    """
    name = os.environ.get(VARIABLE)
    found = _read(Path(name), file_state(Path(name))) if name else None
    return found if isinstance(found, GpuFile) else None


def shipped_files() -> tuple[GpuFile, ...]:
    """Returns the files that come with srfast, by name."""
    paths = sorted(FOLDER.glob("gpu-*.json"))
    return tuple(found for path in paths if isinstance(found := _read(path, file_state(path)), GpuFile))


def files_of(names: Sequence[str]) -> list[GpuFile]:
    """Returns the files of a GPU, in the order in which they count: the user's, then the shipped ones, the most exact first.

    Args:
        names: of the GPU, from ``kernels.configs.device_names``.
    """
    user = user_file()
    shipped = sorted((file for file in shipped_files() if file.gpu in names), key=lambda file: names.index(file.gpu))
    return [*([user] if user is not None and user.gpu in names else []), *shipped]


def problem() -> str | None:
    """Tells why the user's file is not used; None without a file and where it is used."""
    name = os.environ.get(VARIABLE)
    found = _read(Path(name), file_state(Path(name))) if name else None
    return found if isinstance(found, str) else None


def parse(path: Path) -> GpuFile:
    """Reads a file.

    Raises:
        OSError: it cannot be read.
        ValueError: what is wrong with it.
    """
    content = small_json(path, _LARGEST)
    names = ("format", "gpu", "measured", "kernels")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"it is no file of GPU measurements of this version (its format is not {FORMAT!r})")
    _no_others("the file", content, names)
    gpu, rows = content.get("gpu"), content.get("measured")
    if not isinstance(gpu, str) or not gpu:
        raise ValueError("it names no GPU: 'gpu' is a GPU's name, or an architecture as 'sm90'")
    if not isinstance(rows, list) or not rows:
        raise ValueError("it holds no measurements")
    return GpuFile(path, gpu, tuple(map(_measurement, rows)), _kernels(content.get("kernels", {})))


def written(file: GpuFile) -> str:
    """Returns a file's text, which ``parse`` reads."""
    rows = [asdict(row) for row in file.measured]
    content = {"format": FORMAT, "gpu": file.gpu, "measured": rows, "kernels": file.kernels}
    return json.dumps(content, indent=1) + "\n"


def _measurement(row: Any) -> GpuMeasurement:
    names = tuple(field.name for field in fields(GpuMeasurement))
    if not isinstance(row, dict):
        raise ValueError(f"a measurement has the fields {', '.join(names)}")
    _no_others("a measurement", row, names)
    if missing := [name for name in names if name not in row]:
        raise ValueError(f"a measurement lacks {missing[0]!r}; it has {', '.join(names)}")
    found = GpuMeasurement(**row)
    check_words(found, "kind", "network", "source")
    if not isinstance(found.pixels, int) or isinstance(found.pixels, bool) or found.pixels < 1:
        raise ValueError(f"pixels are a whole number from 1 on, not {str(found.pixels)[:40]!r}")
    check_times(found.seconds, "seconds")
    _no_others("seconds", found.seconds, BACKENDS)
    return found


def _kernels(given: Any) -> dict[str, dict[str, dict[str, Any]]]:
    """Checks that configurations are tables by shape; the kernels check what stands in them."""
    if not isinstance(given, dict):
        raise ValueError("'kernels' holds tables for cuda and triton")
    _no_others("'kernels'", given, KERNELS)
    for name, table in given.items():
        if not isinstance(table, dict) or not all(isinstance(entry, dict) for entry in table.values()):
            raise ValueError(f"the configurations for {name} are tables by the shape of a convolution")
    return given


def _no_others(what: str, given: Mapping[str, Any], names: tuple[str, ...]) -> None:
    if unknown := sorted(set(given) - set(names)):
        raise ValueError(f"{what} has an unknown field {unknown[0][:40]!r}; there are {', '.join(names)}")


@lru_cache(maxsize=32)
def _read(path: Path, state: FileState) -> GpuFile | str:
    """Returns what a file holds, or why it cannot be used."""
    try:
        if state is None:
            raise ValueError("there is no such file")
        if isinstance(state, str):
            raise ValueError(state)
        return parse(path)
    except (OSError, ValueError, RecursionError) as error:
        said = f"{escaped(path)} is not used: {escaped(error)[:400]}"
        _log.warning("%s; give a file of 'python -m benchmarks.gpu.choice', or unset %s", said, VARIABLE)
        return said
