"""srfast runs super-resolution networks on real images and video, fast and exact.

The import is light: PyTorch, OpenCV and PyAV load on first use of what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from srfast._version import __version__ as __version__

if TYPE_CHECKING:
    from srfast.backends import Backend as Backend
    from srfast.backends.cpu import CpuBackend as CpuBackend
    from srfast.checkpoint import LoadedModel as LoadedModel
    from srfast.checkpoint import load_model as load_model
    from srfast.compiler import CompiledModule as CompiledModule
    from srfast.compiler import compile as compile  # noqa: A004
    from srfast.engine import Engine as Engine
    from srfast.errors import BackendError as BackendError
    from srfast.errors import CheckpointError as CheckpointError
    from srfast.errors import FrameLossError as FrameLossError
    from srfast.errors import InputError as InputError
    from srfast.errors import MissingDependencyError as MissingDependencyError
    from srfast.errors import OutputError as OutputError
    from srfast.errors import SrfastError as SrfastError
    from srfast.errors import UnsupportedModelError as UnsupportedModelError
    from srfast.live import LiveUpscaler as LiveUpscaler
    from srfast.upscaler import Upscaler as Upscaler
    from srfast.upscaler import load as load
    from srfast.video import Encoding as Encoding
    from srfast.video import InputOptions as InputOptions
    from srfast.video import LiveResult as LiveResult
    from srfast.video import Progress as Progress
    from srfast.video import UpscaledFrame as UpscaledFrame
    from srfast.video import VideoResult as VideoResult
    from srfast.video import iter_video as iter_video
    from srfast.video import upscale_live as upscale_live
    from srfast.video import upscale_video as upscale_video


_HOME = {
    "Backend": "srfast.backends",
    "BackendError": "srfast.errors",
    "CheckpointError": "srfast.errors",
    "CompiledModule": "srfast.compiler",
    "CpuBackend": "srfast.backends.cpu",
    "Encoding": "srfast.video",
    "Engine": "srfast.engine",
    "FrameLossError": "srfast.errors",
    "InputError": "srfast.errors",
    "InputOptions": "srfast.video",
    "LiveResult": "srfast.video",
    "LiveUpscaler": "srfast.live",
    "LoadedModel": "srfast.checkpoint",
    "MissingDependencyError": "srfast.errors",
    "OutputError": "srfast.errors",
    "Progress": "srfast.video",
    "SrfastError": "srfast.errors",
    "UnsupportedModelError": "srfast.errors",
    "UpscaledFrame": "srfast.video",
    "Upscaler": "srfast.upscaler",
    "VideoResult": "srfast.video",
    "compile": "srfast.compiler",
    "iter_video": "srfast.video",
    "load": "srfast.upscaler",
    "load_model": "srfast.checkpoint",
    "upscale_live": "srfast.video",
    "upscale_video": "srfast.video",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'srfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
