"""Checked access to the compiled CUDA kernels: the fused convolution of ``kernels.conv`` on NHWC canvases.

The module ``srfast._cuda`` takes addresses; everything it is given is checked here. ``setup.py`` builds it from
``csrc/cuda``; without it, ``unavailable_reason`` says what to do.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_module: Any = None
_error = ""
try:
    # By name: the module need not be there, for type checkers either.
    _module = importlib.import_module("srfast._cuda")
except ImportError as error:
    _error = str(error)

Launch = Callable[[], None]
DTYPES = (torch.float16, torch.bfloat16)


def unavailable_reason() -> str | None:
    """Why the compiled kernels cannot be used, and what helps; None if they can."""
    if _module is None:
        return (
            f"the module srfast._cuda is missing ({_error}); put nvcc of CUDA 12.4 or newer on PATH and run "
            "pip install --force-reinstall --no-deps srfast (in a checkout: pip install -e .)"
        )
    return None


def module() -> Any:
    """The compiled module.

    Raises:
        RuntimeError: it is not there.
    """
    reason = unavailable_reason()
    if reason:
        raise RuntimeError(reason)
    return _module


def use_module(compiled: Any) -> Any:
    """Puts another compiled module in its place (the emulated one, for tests) and returns the one before."""
    global _module
    before, _module = _module, compiled
    return before


def architectures() -> tuple[str, ...]:
    """Architectures that the module was built for, such as "80" and "90a"; empty without it."""
    return () if _module is None else tuple(str(_module.architectures).split())


def emulated() -> bool:
    """Whether the kernels run on the host, for tests."""
    return _module is not None and bool(_module.emulated)


def queue(device: torch.device, early: bool) -> tuple[int, int, bool]:
    """Device number, stream and whether kernels start before the one in front has ended."""
    if device.type != "cuda":
        return 0, 0, False
    index = torch.cuda.current_device() if device.index is None else device.index
    return index, torch.cuda.current_stream(index).cuda_stream, early


def check_device(tensor: Tensor) -> None:
    """Raises ValueError unless the kernels can reach the tensor."""
    expected = "cpu" if emulated() else "cuda"
    if tensor.device.type != expected:
        raise ValueError(f"the CUDA kernels take tensors on {expected}, not on {tensor.device}")
