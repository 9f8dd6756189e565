"""Backends, fastest first, and the choice among them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import torch

from srfast.backends.base import Backend, Candidate, Executable, FrameExecutable, has_no_kernel
from srfast.backends.cpu import CpuBackend
from srfast.backends.cpu.choice import choose
from srfast.backends.cpu.ways import Way
from srfast.backends.cuda import CudaBackend, TrunkBackend
from srfast.backends.gpu.choice import choose as choose_gpu
from srfast.backends.kernel_choice import preferred
from srfast.backends.measured import Choice, network_kind
from srfast.backends.mixed import MixedBackend
from srfast.backends.parts import PartsBackend
from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton import GluonBackend, TritonBackend
from srfast.devices import default_device
from srfast.errors import BackendError
from srfast.kernels.configs import device_names
from srfast.kernels.configs.networks import KINDS, size_class
from srfast.plan import Eager, Plan, Resize

__all__ = [
    "BACKENDS",
    "FLOATING_BITS",
    "KEPT_BITS",
    "SAMPLE_BITS",
    "Backend",
    "Executable",
    "FrameExecutable",
    "backend_for_size",
    "cpu_choices",
    "default_device",
    "default_dtype",
    "gpu_choice",
    "select_backend",
]

BACKENDS: tuple[Candidate, ...] = (
    TritonBackend(),
    GluonBackend(),
    CudaBackend(),
    MixedBackend(),
    TrunkBackend(),
    CpuBackend(),
    ReferenceBackend(),
)

_log = logging.getLogger("srfast")


# Bits of a sample that come through a network in each dtype without a level lost; found with a network that changes
# nothing (see tests/engine/test_depth.py). Floating images have no levels: float16 carries them, bfloat16 does not.
KEPT_BITS = {torch.bfloat16: 8, torch.float16: 10, torch.float32: 16}
SAMPLE_BITS = {torch.uint8: 8, torch.uint16: 16}
FLOATING_BITS = 10


def default_dtype(device: torch.device, plan: Plan | None = None, bits: int = 8) -> torch.dtype:
    """Chooses the dtype for samples of ``bits`` bits: the fastest that keeps all of their levels.

    On GPUs that is float16 to 10 bits and float32 beyond. On CPUs it is what ``cpu_choice`` takes, and float32 where that
    keeps too few.

    Args:
        device: where the network runs.
        plan: the network; without one, the least exact dtype that any kind of network would get.
        bits: of a sample, from 1; floating images count as 10.

    Examples:
        >>> default_dtype(torch.device("cpu"), bits=16)
        torch.float32
    """
    if device.type == "cpu":
        kinds = KINDS if plan is None else (network_kind(plan),)
        found = min((choose(kind).way.dtype for kind in kinds), key=KEPT_BITS.__getitem__)
    else:
        found = torch.float16
    return found if bits <= KEPT_BITS[found] else torch.float32


def cpu_choices() -> dict[str, Choice[Way]]:
    """The way and its reason for 8-bit samples on this CPU, by the kind of network."""
    return {kind: choose(kind) for kind in KINDS}


def select_backend(
    plan: Plan,
    device: torch.device,
    dtype: torch.dtype,
    backend: str | Backend = "auto",
    pixels: int | None = None,
) -> Backend:
    """Return the backend that shall run a plan; one log line says which and why.

    Args:
        plan, device, dtype: what shall run, where and in what.
        backend: "auto" for the first without a reason against it, a backend's name, or a backend, as
            ``CpuBackend(winograd=False)``.
        pixels: width times height of the frames, where they are known: on GPUs the choice may depend on it.

    Raises:
        BackendError: no such backend, or it cannot run the plan; the message has its reasons.

    Examples:
        >>> from torch import nn
        >>> from srfast.capture import capture
        >>> plan = capture(nn.Conv2d(3, 3, 3, padding=1))
        >>> select_backend(plan, torch.device("cpu"), torch.float32, "reference").name
        'reference'
    """
    if _in_parts(plan, device, backend):
        _log.info("compiled segments (%s) with PyTorch between them on %s", backend, device)
        return PartsBackend(select_backend, backend)
    chosen = _chosen(plan, device, dtype, backend, pixels)
    name = str(dtype).removeprefix("torch.")
    _log.info("backend %s (%s) on %s in %s", chosen.way.name, chosen.reason, device, name)
    return chosen.way


def backend_for_size(plan: Plan, device: torch.device, dtype: torch.dtype, pixels: int) -> str | None:
    """Tell which backend "auto" takes for frames of so many pixels; None where that does not depend on their size.

    Args:
        plan, device, dtype, pixels: as of ``select_backend``.
    """
    if not _sees_gpu(device) or _in_parts(plan, device, "auto"):
        return None
    return _chosen(plan, device, dtype, "auto", pixels).way.name


def gpu_choice(plan: Plan, device: torch.device, dtype: torch.dtype, pixels: int | None = None) -> Choice[str] | None:
    """Return the backend that was measured to be the fastest on this GPU of those that run the plan, and why.

    Args:
        plan, device, dtype, pixels: as of ``select_backend``.

    Returns:
        None where no file has an entry for such networks.
    """
    if not _sees_gpu(device):
        return None
    runnable = [candidate.name for candidate in BACKENDS if not _reasons(candidate, plan, device, dtype)]
    size = None if pixels is None else size_class(pixels)
    return choose_gpu(network_kind(plan), device_names(device), size, runnable)


def _chosen(
    plan: Plan, device: torch.device, dtype: torch.dtype, backend: str | Backend, pixels: int | None
) -> Choice[Backend]:
    """The backend that is asked for, or the first of all without a reason against it, and why; as of ``select_backend``."""
    asked = backend != "auto"
    passed: list[str] = []
    measured = None if asked else gpu_choice(plan, device, dtype, pixels)
    for candidate, reasons in _tried(plan, device, dtype, backend, measured):
        if not reasons:
            faster = measured.reason if measured is not None and measured.way == candidate.name else ""
            return Choice(candidate, "asked for" if asked else faster or "; ".join(passed) or "the fastest")
        passed.append(f"{candidate.name}: {', '.join(reasons)}")
    raise BackendError(f"cannot run on {device} in {str(dtype).removeprefix('torch.')}: {'; '.join(passed)}")


def _tried(
    plan: Plan, device: torch.device, dtype: torch.dtype, backend: str | Backend, measured: Choice[str] | None
) -> Iterator[tuple[Backend, list[str]]]:
    """Backends in the order of the choice, with the reasons against them: the one that is asked for, or all."""
    if backend != "auto":
        named = _named(backend)
        yield named, named.not_supported_reasons(plan, device, dtype)
        return
    for candidate in _ordered(plan, device, measured):
        yield candidate, _reasons(candidate, plan, device, dtype)


def _reasons(candidate: Candidate, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
    # A plan is not taken apart for the kernels of a device that is not there.
    return candidate.device_reasons(device, dtype) or candidate.not_supported_reasons(plan, device, dtype)


def _in_parts(plan: Plan, device: torch.device, backend: str | Backend) -> bool:
    """Whether compiled segments with PyTorch between them run a plan: what no kernel covers is PyTorch's own, or a resize.

    The CPU backend would run such a plan node by node.
    """
    if not isinstance(backend, str) and not isinstance(backend, CpuBackend):
        return False
    if any(isinstance(node, Eager) for node in plan.nodes):
        return backend != ReferenceBackend.name
    on_cpu = device.type == "cpu" and (backend in ("auto", CpuBackend.name) or isinstance(backend, CpuBackend))
    without = [node for node in plan.nodes if has_no_kernel(node)]
    return on_cpu and bool(without) and all(isinstance(node, Resize) for node in without)


def _named(backend: str | Backend) -> Backend:
    """The backend of that name, or the one that is given."""
    if not isinstance(backend, str):
        if isinstance(backend, type) or not hasattr(backend, "compile"):
            raise BackendError(f"a backend is 'auto', a name, or a backend such as CpuBackend(), not {backend!r}")
        return backend
    found = {known.name: known for known in BACKENDS}
    if backend not in found:
        raise BackendError(f"no backend is called {backend!r}; there are auto, {', '.join(found)}")
    return found[backend]


def _ordered(plan: Plan, device: torch.device, measured: Choice[str] | None) -> list[Candidate]:
    """Fastest first: as whole networks were measured, else the CUDA kernels where single convolutions were faster there."""
    if not _sees_gpu(device):
        return list(BACKENDS)
    name = preferred(plan, device_names(device)) if measured is None else measured.way
    first = [backend for backend in BACKENDS if backend.name == name]
    return [*first, *(backend for backend in BACKENDS if backend not in first)]


def _sees_gpu(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_available()
