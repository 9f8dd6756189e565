"""srfast runs super-resolution networks on real images and video, fast and exact.

The import is light: PyTorch, OpenCV and PyAV load on first use of what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srfast.checkpoint import load_model as load_model
    from srfast.compiler import compile as compile  # noqa: A004
    from srfast.engine import Engine as Engine
    from srfast.errors import SrfastError as SrfastError
    from srfast.live import LiveUpscaler as LiveUpscaler
    from srfast.upscaler import Upscaler as Upscaler
    from srfast.upscaler import load as load
    from srfast.video import Encoding as Encoding
    from srfast.video import iter_video as iter_video
    from srfast.video import upscale_video as upscale_video

__version__ = "0.1.0"

_HOME = {
    "Encoding": "srfast.video",
    "Engine": "srfast.engine",
    "LiveUpscaler": "srfast.live",
    "SrfastError": "srfast.errors",
    "Upscaler": "srfast.upscaler",
    "iter_video": "srfast.video",
    "compile": "srfast.compiler",
    "load": "srfast.upscaler",
    "load_model": "srfast.checkpoint",
    "upscale_video": "srfast.video",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'srfast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
