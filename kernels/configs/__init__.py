"""Configurations of GPU kernels as data: JSON files that map a GPU to a shape of convolution to a configuration.

A GPU is named by its name, by "sm90", by "sm9x" or as "default"; a shape as "conv 3x3 64->64", or as "conv" for all. The most
exact entry wins; a user's file goes before the shipped one.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

Table = dict[str, dict[str, dict[str, Any]]]


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
    """Return the user's table, where there is one, and the shipped one.

    Raises:
        ValueError: a file cannot be read.
    """
    return _read(shipped, os.environ.get(variable, ""))


@lru_cache(maxsize=8)
def _read(shipped: Path, extra: str) -> tuple[Table, ...]:
    found = []
    for path in [*([Path(extra)] if extra else []), shipped]:
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(f"the kernel configurations {path} cannot be read: {error}") from error
    return tuple(found)
