"""Configurations of GPU kernels as data: JSON files that map a GPU to a shape of convolution to a configuration.

A GPU is named by its name, by "sm90", by "sm9x" or as "default"; a shape as "conv 3x3 64->64", or as "conv" for all. The most
exact entry wins. A user's file goes first, then what files of whole networks (``networks.py``) hold for kernels, the user's
and the shipped ones, and the shipped file last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from srfast.kernels.configs.networks import GpuFile, shipped_files, user_file

Table = dict[str, dict[str, dict[str, Any]]]
C = TypeVar("C")


def device_names(device: torch.device) -> tuple[str, ...]:
    """Return the names under which configurations for the device are looked up, the most exact first."""
    if device.type != "cuda":
        return ("default",)
    major, minor = torch.cuda.get_device_capability(device)
    return torch.cuda.get_device_name(device), f"sm{major}{minor}", f"sm{major}x", "default"


def conv_key(channels: int, out: int, kernel: int) -> str:
    """Return the name of a convolution's shape in the files."""
    return f"conv {kernel}x{kernel} {channels}->{out}"


def pair_key(channels: int, kernel: int, middle: int, second: int, out: int) -> str:
    """Return the name of the shape of two convolutions in a row."""
    return f"pair {kernel}x{kernel} {channels}->{middle}, {second}x{second} ->{out}"


def trunk_key(channels: int, kernel: int) -> str:
    """Return the name of a run of convolutions of as many channels in as out."""
    return f"trunk {kernel}x{kernel} {channels}"


def find_entry(shipped: Path, variable: str, names: tuple[str, ...], keys: tuple[str, ...]) -> dict[str, Any] | None:
    """Look a configuration up; None where no file has one.

    Args:
        shipped: the file that comes with srfast.
        variable: the environment variable that names the user's.
        names: of the GPU, from ``device_names``.
        keys: of the shape, the most exact first.

    Raises:
        ValueError: a file cannot be read.
    """
    for table in tables(shipped, variable):
        for name in names:
            for key in keys:
                if key in table.get(name, {}):
                    return table[name][key]
    return None


def tables(shipped: Path, variable: str) -> tuple[Table, ...]:
    """Return all tables in the order in which they count.

    Args:
        shipped: the file that comes with srfast; its name without the ending is that of the part of other files.
        variable: the environment variable that names the user's.

    Raises:
        ValueError: a file cannot be read.
    """
    named, user = os.environ.get(variable, ""), user_file()
    of_networks = [_part(shipped.stem, [user] if user is not None else []), _part(shipped.stem, shipped_files())]
    return (*([_read(Path(named))] if named else []), *filter(None, of_networks), _read(shipped))


def made(kind: type[C], entry: dict[str, Any]) -> C:
    """Return a configuration made of a file's entry.

    Args:
        kind: a dataclass.
        entry: its fields by name.

    Raises:
        ValueError: a field is unknown, or has a value of another type.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(set(entry) - set(known)):
        raise ValueError(f"a kernel's configuration has no {unknown[0][:40]!r}; it has {', '.join(known)}")
    try:
        return kind(**entry)
    except TypeError as error:
        raise ValueError(
            f"a kernel's configuration has a value of another type: {str(entry)[:100]} ({error})"
        ) from error


def _part(name: str, files: Sequence[GpuFile]) -> Table:
    return {file.gpu: file.kernels[name] for file in files if name in file.kernels}


@lru_cache(maxsize=8)
def _read(path: Path) -> Table:
    try:
        table: Table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"the kernel configurations {path} cannot be read: {error}") from error
    return table
