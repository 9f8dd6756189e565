"""Prepared launches of the compiled module as functions on the current stream, and names as the module's enumerations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from srfast.kernels import cuda

_Member = TypeVar("_Member")


class Prepared(Protocol):
    """A launch of the compiled module whose arguments are settled."""

    def run(self, stream: cuda.compiled.Stream) -> int:
        """Launch on a stream and return CUDA's error code, 0 for none."""
        ...


def launch_of(
    prepared: Prepared, kept: tuple[object, ...], device: torch.device, programmatic: bool = False
) -> cuda.Launch:
    """Make a function that launches on the device's current stream.

    Args:
        kept: the memory that the launch points to, which lives as long as the function.
        programmatic: starts while the kernel in front still runs (programmatic dependent launch).
    """

    def launch(_kept: tuple[object, ...] = kept) -> None:
        prepared.run(current_stream(device, programmatic))

    return launch


def current_stream(device: torch.device, programmatic: bool = False) -> cuda.compiled.Stream:
    """Return the device's current stream as the module takes it; see ``launch_of``."""
    if device.type != "cuda":
        return cuda.compiled.Stream(device=0, handle=0, programmatic=False)
    index = torch.cuda.current_device() if device.index is None else device.index
    handle = torch.cuda.current_stream(index).cuda_stream
    return cuda.compiled.Stream(device=index, handle=handle, programmatic=programmatic)


def dtype_of(tensor: Tensor) -> cuda.compiled.DType:
    """Return the module's name for a tensor's dtype, one of ``DTYPES``."""
    return member("dtype", cuda.compiled.DType.__members__, str(tensor.dtype).removeprefix("torch."))


def member(field: str, members: Mapping[str, _Member], name: str) -> _Member:
    """Return the member of an enumeration of the module.

    Raises:
        ValueError: it has none of that name.
    """
    if name not in members:
        raise ValueError(f"{field}: {name!r} is none of {', '.join(members)}")
    return members[name]
