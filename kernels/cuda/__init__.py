"""Checked access to the compiled CUDA kernels: the fused convolution of ``kernels.reference`` on NHWC canvases.

The module ``srfast._cuda`` takes addresses; everything it is given is checked here. ``setup.py`` builds it from
``csrc/cuda``; without it, ``unavailable_reason`` says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import srfast._cuda

    compiled = srfast._cuda  # the module in use; what it holds: srfast/_cuda.pyi

_module: ModuleType | None = None
_error = ""
try:
    import srfast._cuda as _module  # type: ignore[no-redef]
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


def __getattr__(name: str) -> Any:
    """Give ``compiled``, the module in use, which ``use_module`` may change.

    Raises:
        RuntimeError: it is not there.
    """
    if name != "compiled":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    reason = unavailable_reason()
    if reason:
        raise RuntimeError(reason)
    return _module


def use_module(other: ModuleType | None) -> ModuleType | None:
    """Put another compiled module in its place (the emulated one, for tests) and return the one before."""
    global _module
    before, _module = _module, other
    return before


def architectures() -> tuple[str, ...]:
    """Architectures that the module was built for, such as "80" and "90a"; empty without it."""
    return () if _module is None else tuple(str(_module.architectures).split())


def emulated() -> bool:
    """Whether the kernels run on the host, for tests."""
    return _module is not None and bool(_module.emulated)


def check_device(tensor: Tensor) -> None:
    """Raises ValueError unless the kernels can reach the tensor."""
    expected = "cpu" if emulated() else "cuda"
    if tensor.device.type != expected:
        raise ValueError(f"the CUDA kernels take tensors on {expected}, not on {tensor.device}")
