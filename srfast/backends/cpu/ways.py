"""The ways to run a network on a CPU, and measurements of networks in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from srfast.kernels import cpu as kernels
from srfast.kernels.configs.networks import check_times, check_words
from srfast.kernels.cpu.classes import CLASSES, sets_of


@dataclass(frozen=True)
class Way:
    """A dtype with the kernels that compute in it.

    Attributes:
        dtype: float32 or bfloat16.
        path: 'avx512', 'avx2' or 'portable' (srfast's kernels in that instruction set), 'avx512_bf16' or 'amx' (srfast's
            kernels for bfloat16), or 'onednn' (node by node through oneDNN).
    """

    dtype: torch.dtype
    path: str

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {self.path}"

    @property
    def words(self) -> str:
        """For people: 'float32 by srfast's avx2 kernels'."""
        how = "through oneDNN" if self.path == "onednn" else f"by srfast's {self.path} kernels"
        return f"{str(self.dtype).removeprefix('torch.')} {how}"


@dataclass(frozen=True)
class Measurement:
    """Milliseconds of one network in several ways, measured in turn.

    Attributes:
        cpu: vendor and class, as 'amd avx2'.
        kind: of the network, one of ``networks.KINDS``.
        network: name and size of the image, for people.
        ms: milliseconds for an image by ``str(Way)``.
        source: machine and commit, or record.
    """

    cpu: str
    kind: str
    network: str
    ms: Mapping[str, float]
    source: str

    @property
    def times(self) -> Mapping[str, float]:
        """The milliseconds, as ``measured.Timed`` names them."""
        return self.ms


def ways(name: str) -> tuple[Way, ...]:
    """The ways that CPUs of a class have, the most exact first, then those that are usually faster."""
    # Portable code is never the fastest where there are vectors, so it is not even measured there.
    own = [Way(torch.float32, path) for path in sets_of(name) if path != "portable" or name == "none"]
    found = [*own, Way(torch.float32, "onednn")]
    if CLASSES.index(name) >= CLASSES.index("avx512_bf16"):
        found += [Way(torch.bfloat16, "avx512_bf16"), Way(torch.bfloat16, "onednn")]
    if name == "amx":
        found.append(Way(torch.bfloat16, "amx"))
    return tuple(found)


def parse_way(text: str) -> Way:
    """Returns the way that ``str`` wrote.

    Raises:
        ValueError: it is no way of any class.
    """
    for name in CLASSES:
        for way in ways(name):
            if str(way) == text:
                return way
    raise ValueError(f"no way to run a network is called {text[:40]!r}")


def runnable(way: Way) -> Way:
    """``way`` where this machine has its kernels, else what stands for it: the machine's best set, or oneDNN."""
    if way.path == "onednn" or way.path in (*kernels.instruction_sets(), *kernels.lowp_sets()):
        return way
    if way.dtype == torch.bfloat16 or not kernels.instruction_sets():
        return Way(way.dtype, "onednn")
    return Way(way.dtype, kernels.default_instruction_set())


def parse_measurements(rows: Any) -> list[Measurement]:
    """Checks rows of a file.

    Raises:
        ValueError: what is wrong with them.
    """
    if not isinstance(rows, list) or not rows:
        raise ValueError("it holds no measurements")
    return [_measurement(row) for row in rows]


def _measurement(row: Any) -> Measurement:
    try:
        found = Measurement(**row)
    except TypeError as error:
        raise ValueError("a measurement has the fields cpu, kind, network, ms and source") from error
    check_words(found, "network", "source")
    if not isinstance(found.cpu, str) or len(found.cpu.split()) != 2:
        raise ValueError("a measurement names a CPU's vendor and class")
    check_times(found.ms, "milliseconds")
    for name in found.ms:
        parse_way(name)
    return found
