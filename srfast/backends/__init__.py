"""Backends, fastest first, and the choice among them."""

from __future__ import annotations

import logging

import torch

from srfast.backends.base import Backend, Executable, FrameExecutable
from srfast.backends.cpu import CpuBackend, has_bf16
from srfast.backends.cuda import CudaBackend
from srfast.backends.gpu.kernel_choice import preferred
from srfast.backends.mixed import MixedBackend
from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton import TritonBackend
from srfast.devices import default_device
from srfast.errors import BackendError
from srfast.kernels.triton.config import device_names
from srfast.plan import Plan

__all__ = [
    "BACKENDS",
    "Backend",
    "Executable",
    "FrameExecutable",
    "default_device",
    "default_dtype",
    "select_backend",
]

BACKENDS: tuple[Backend, ...] = (TritonBackend(), CudaBackend(), MixedBackend(), CpuBackend(), ReferenceBackend())

_log = logging.getLogger("srfast")


def default_dtype(device: torch.device) -> torch.dtype:
    """float16 on GPUs, bfloat16 on CPUs that have it, else float32."""
    if device.type == "cpu":
        return torch.bfloat16 if has_bf16() else torch.float32
    return torch.float16


def select_backend(plan: Plan, device: torch.device, dtype: torch.dtype, name: str = "auto") -> Backend:
    """The named backend, or with ``auto`` the first without a reason against it; one log line says which and why.

    Raises:
        BackendError: no such backend, or it cannot run the plan; the message has its reasons.
    """
    names = [backend.name for backend in BACKENDS]
    if name != "auto" and name not in names:
        raise BackendError(f"no backend is called {name!r}; there are auto, {', '.join(names)}")
    passed: list[str] = []
    for backend in _ordered(plan, device):
        if name not in ("auto", backend.name):
            continue
        reasons = backend.not_supported_reasons(plan, device, dtype)
        if not reasons:
            because = "asked for" if name != "auto" else "; ".join(passed) or "the fastest"
            _log.info("backend %s (%s) on %s in %s", backend.name, because, device, str(dtype).removeprefix("torch."))
            return backend
        passed.append(f"{backend.name}: {', '.join(reasons)}")
    raise BackendError(f"cannot run on {device} in {str(dtype).removeprefix('torch.')}: {'; '.join(passed)}")


def _ordered(plan: Plan, device: torch.device) -> list[Backend]:
    """Fastest first: the CUDA kernels only where they were measured to be."""
    names = device_names(device) if torch.cuda.is_available() else ()
    first = [backend for backend in BACKENDS if backend.name == preferred(plan, names)]
    return [*first, *(backend for backend in BACKENDS if backend not in first)]
