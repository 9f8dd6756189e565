"""Where networks can run: the choice of a device, and why one cannot be used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from srfast.errors import BackendError

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def on_cpu(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Decorate a function whose new tensors lie on the CPU, where they are not given a device.

    ``torch.set_default_device`` would have them elsewhere, beside weights that are read and folded on the CPU.
    """

    @functools.wraps(function)
    def called(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        with torch.device("cpu"):
            return function(*args, **kwargs)

    return called


def default_device() -> torch.device:
    """The first GPU, if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gpu_reason() -> str | None:
    """Why there is no GPU to use; None where there is one."""
    if torch.cuda.is_available():
        return None
    return "no GPU or driver was found" if torch.version.cuda or torch.version.hip else "this PyTorch is a CPU build"


def usable_device(device: torch.device | str | None) -> torch.device:
    """The device, found to work here; by default the first GPU, else the CPU.

    Raises:
        BackendError: there is no such device, or nothing can be computed on it.

    Examples:
        >>> usable_device("cpu")
        device(type='cpu')
    """
    if device is None:
        return default_device()
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise BackendError(f"no device is called {device!r}; there are cpu, cuda, cuda:1, ...") from error
    reason = _unusable_reason(chosen)
    if reason:
        raise BackendError(
            f"cannot run on the device {chosen}: {reason}; the default here is {default_device()} (see 'srfast info')"
        )
    return chosen


def _unusable_reason(device: torch.device) -> str | None:
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if gpu_reason() or (device.index or 0) < count:
            return gpu_reason()
        return f"the GPUs here are cuda:0 to cuda:{count - 1}" if count > 1 else "the only GPU here is cuda:0"
    try:
        # A device may exist and be unusable: a driver too old, memory all taken, no kernels for its generation.
        torch.zeros(1, device=device).cpu()
    except Exception:  # each kind of device fails in its own way: no module, no build, no memory behind it
        return "this PyTorch computes nothing on it here"
    return None
