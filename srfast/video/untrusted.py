"""Videos from strangers: one file is read and no other, no address is opened, and no more is decoded than is allowed.

Three fences stand behind each other, as a file decides by its content what FFmpeg makes of it:

- only containers that hold all of their content are taken: no playlists, scripts, manifests or pictures that name files;
- no protocol of FFmpeg is allowed: the file is read by Python, from a handle that is open already;
- what a demuxer asks to open beside it is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from srfast.errors import InputError
from srfast.video.pyav import tags_replaced

# Demuxers of containers that hold all of their content, and that tell sizes in a header, before a decoder is asked.
CONTAINERS = ("mov", "matroska", "avi", "ivf", "nut", "gif", "yuv4mpegpipe")
NAMES = "MP4, MOV, MKV, WebM, AVI, NUT, IVF, GIF and Y4M"
_NO_PROTOCOL = "none"  # no protocol of FFmpeg has the name


class LimitError(InputError):
    """A stranger's file is larger or longer than what is allowed."""


class NoVideoError(InputError):
    """A stranger's file is in none of the containers that are taken."""


@dataclass(frozen=True)
class Limits:
    """How much a stranger's video may ask for; headers are compared with it before anything is decoded.

    Attributes:
        pixels: of a frame.
        seconds: from the first frame to the last.
        frames: of the whole video.

    Raises:
        ValueError: one is not positive.

    Examples:
        >>> Limits(pixels=1920 * 1080, seconds=60).frames
        100000
    """

    pixels: int = 4096 * 2304
    seconds: float = 3600.0
    frames: int = 100_000

    def __post_init__(self) -> None:
        for name in ("pixels", "seconds", "frames"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"a limit of {name} takes a positive number, not {getattr(self, name)!r}")

    def check_size(self, height: int, width: int, what: str) -> None:
        """Refuses pictures that are too large.

        Raises:
            LimitError: these are.
        """
        if width * height > self.pixels:
            raise LimitError(f"{what} has {width}x{height} pixels, more than the {self.pixels} that are allowed")

    def check_frame(self, number: int, seconds: Fraction | None, what: str) -> None:
        """Refuses a frame after the last one that is allowed, whatever the header said.

        Args:
            number: of frames with this one.
            seconds: from the first frame to this one.
            what: the video's name.

        Raises:
            LimitError: it is one.
        """
        if number > self.frames:
            raise LimitError(f"{what} has more than {self.frames} frames, which are allowed")
        if seconds is not None and seconds > self.seconds:
            raise LimitError(f"{what} lasts longer than {self.seconds:g} s, which are allowed")


def open_alone(av: Any, name: str, file: BinaryIO, limits: Limits) -> Any:
    """Opens a container from an open file, which can reach nothing else.

    Args:
        av: PyAV.
        name: for messages.
        file: at its start, seekable.
        limits: on what it may hold.

    Raises:
        NoVideoError: it is none of the containers that are allowed.
    """

    def refuse(url: str, flags: int, options: Any) -> Any:
        raise PermissionError(f"{name} may open no other file")

    options = {
        "format_whitelist": ",".join(CONTAINERS),
        "protocol_whitelist": _NO_PROTOCOL,
        "max_pixels": str(limits.pixels),  # of the decoders that look for what a header leaves open
    }
    try:
        # ``io_open`` is asked for every file that a demuxer wants beside the one that it has.
        return av.open(file, options=options, io_open=refuse, **tags_replaced(av))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        why = str(getattr(error, "strerror", None) or error)
        raise NoVideoError(f"{name} is no video that is taken here ({why}); {NAMES} are") from error


def regular_file(path: Path) -> BinaryIO:
    """Opens a file that is one: no pipe, device or folder.

    Raises:
        InputError: it is none, or cannot be read.
    """
    if not path.is_file():
        raise InputError(f"{path} is {'not a file' if path.exists() else 'missing'}")
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def check_header(container: Any, stream: Any, promised: int, limits: Limits, what: str) -> None:
    """Compares what a container says of its video with the limits, before anything is decoded.

    Args:
        container: open.
        stream: its video.
        promised: frames by its own count, 0 where it has none.
        limits: the limits.
        what: the video's name.

    Raises:
        LimitError: it says that it is larger or longer.
    """
    context = stream.codec_context
    limits.check_size(context.height, context.width, what)
    seconds = Fraction(container.duration or 0, 1_000_000)
    if stream.duration and stream.time_base:
        seconds = max(seconds, stream.duration * stream.time_base)
    limits.check_frame(max(promised, stream.frames), seconds, what)
