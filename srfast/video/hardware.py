"""FFmpeg's hardware decoders and encoders: which of those that it was built with work on this machine."""

from __future__ import annotations

import functools
import logging
from fractions import Fraction
from typing import Any

from srfast.errors import InputError

_log = logging.getLogger("srfast")
_HARDWARE = 1 << 18  # AV_CODEC_CAP_HARDWARE


def accelerator(av: Any, name: str | None) -> Any:
    """What ``av.open`` takes as the hardware decoder of that name; None, with a warning, where none opens on this machine.

    Raises:
        InputError: this FFmpeg knows none of that name.
    """
    if not name:
        return None
    known = av.codec.hwaccel.hwdevices_available()
    if name not in known:
        there = f"this FFmpeg has {', '.join(known)}" if known else "this FFmpeg was built without any"
        raise InputError(f"no hardware decoder is called {name!r}; {there}")
    return av.codec.hwaccel.HWAccel(name, allow_software_fallback=True) if _opens(av, name) else None


@functools.cache  # a run opens its input several times
def _opens(av: Any, name: str) -> bool:
    """Tries the device by itself: within a container it would take the whole input down."""
    try:
        av.codec.hwaccel.HWAccel(name).create(av.Codec("h264", "r"))
    except NotImplementedError:
        return True  # not for H.264; each stream then falls back by itself
    except (av.error.FFmpegError, OSError) as error:
        _log.warning("the hardware decoder %s does not open here (%s); decoding in software", name, error.strerror)
        return False
    return True


def encoder_opens(av: Any, name: str) -> bool:
    """Whether an encoder of this FFmpeg finds the hardware that it needs, if it needs some."""
    context = av.CodecContext.create(name, "w")
    if not context.codec.capabilities & _HARDWARE:
        return True
    context.width, context.height, context.pix_fmt, context.time_base = 256, 256, "yuv420p", Fraction(1, 25)
    try:
        context.open()
    except (av.error.FFmpegError, OSError, ValueError):
        return False
    return True
