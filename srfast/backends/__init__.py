"""Backends, fastest first, and the choice among them."""

from __future__ import annotations

import logging

import torch

from srfast.backends.base import Backend, Executable, FrameExecutable
from srfast.backends.cpu import CpuBackend, has_bf16
from srfast.backends.cuda import CudaBackend
from srfast.backends.kernel_choice import preferred
from srfast.backends.mixed import MixedBackend
from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton import TritonBackend
from srfast.devices import default_device
from srfast.errors import BackendError
from srfast.kernels.configs import device_names
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


def select_backend(plan: Plan, device: torch.device, dtype: torch.dtype, backend: str | Backend = "auto") -> Backend:
    """Return the backend that shall run a plan; one log line says which and why.

    Args:
        plan, device, dtype: what shall run, where and in what.
        backend: "auto" for the first without a reason against it, a backend's name, or a backend, as
            ``CpuBackend(winograd=False)``.

    Raises:
        BackendError: no such backend, or it cannot run the plan; the message has its reasons.
    """
    asked = backend != "auto"
    passed: list[str] = []
    for candidate in [_named(backend)] if asked else _ordered(plan, device):
        reasons = candidate.not_supported_reasons(plan, device, dtype)
        if not reasons:
            because = "asked for" if asked else "; ".join(passed) or "the fastest"
            name = str(dtype).removeprefix("torch.")
            _log.info("backend %s (%s) on %s in %s", candidate.name, because, device, name)
            return candidate
        passed.append(f"{candidate.name}: {', '.join(reasons)}")
    raise BackendError(f"cannot run on {device} in {str(dtype).removeprefix('torch.')}: {'; '.join(passed)}")


def _named(backend: str | Backend) -> Backend:
    """The backend of that name, or the one that is given."""
    if not isinstance(backend, str):
        return backend
    found = {known.name: known for known in BACKENDS}
    if backend not in found:
        raise BackendError(f"no backend is called {backend!r}; there are auto, {', '.join(found)}")
    return found[backend]


def _ordered(plan: Plan, device: torch.device) -> list[Backend]:
    """Fastest first: the CUDA kernels only where they were measured to be."""
    names = device_names(device) if torch.cuda.is_available() else ()
    first = [backend for backend in BACKENDS if backend.name == preferred(plan, names)]
    return [*first, *(backend for backend in BACKENDS if backend not in first)]
