"""How a limit on the whole process divides between the engine and the frames on their way."""

from __future__ import annotations

import resource
import sys

from srfast._threads import QUEUED
from srfast.errors import SrfastError

# Frames that an encoder holds: its lookahead and its threads (libx264 and libx265 at their defaults).
_ENCODER_FRAMES = 64
_LEAST_ENGINE = 32 << 20


def peak_memory() -> int:
    """Bytes of memory that this process has held at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def frames_memory(height: int, width: int, scale: float) -> int:
    """Bytes of frames between the stages and in the encoder, for 8-bit input of that size."""
    pixels = height * width
    large = pixels * scale**2
    # Three bytes a pixel between the stages, one and a half (4:2:0) in the encoder.
    return int(3 * (QUEUED + 3) * (pixels + large) + 1.5 * large * _ENCODER_FRAMES)


def engine_budget(limit: int, size: tuple[int, int] | None, scale: float | None) -> int:
    """Bytes that the engine may take so that the process stays below ``limit``.

    Args:
        limit: bytes for the whole process.
        size: height and width of the input; None where it is not known yet.
        scale: enlargement; None for the largest usual one, 4.

    Raises:
        SrfastError: the limit is too small for this input.
    """
    import torch  # noqa: F401  # counted in what the process holds already

    frames = frames_memory(*size, scale or 4) if size else 0
    rest = limit - peak_memory() - frames
    if rest < _LEAST_ENGINE:
        needed = (limit - rest + _LEAST_ENGINE) / 2**20
        raise SrfastError(f"--max-memory {limit / 2**20:.0f}M is too small for this input; it needs {needed:.0f}M")
    return rest
