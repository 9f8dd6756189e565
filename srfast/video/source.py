"""What a video can come from: a file, a pipe, a network address, a camera, numbered images."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from srfast._names import openable
from srfast.errors import InputError, MissingDependencyError
from srfast.video.animation import as_video, is_animated_webp
from srfast.video.hardware import accelerator
from srfast.video.pipe import CountedPipe
from srfast.video.pyav import tags_replaced, version
from srfast.video.untrusted import Limits, open_alone, regular_file

Source: TypeAlias = "str | os.PathLike[str]"
_NUMBER = re.compile(r"(%\d*d)")
_AV = "'av>=17.1,<20'"  # as in pyproject.toml
COPIED = ("audio", "subtitle", "attachment", "data", "video")
_NETWORK_SECONDS = 15.0
_LARGEST_FRAME = 16384 * 16384  # pixels: a damaged header must not ask for all the memory there is


@dataclass(frozen=True)
class InputOptions:
    """How to read a source that does not say it itself, in ffmpeg's words.

    Attributes:
        format: demuxer, such as 'rawvideo'; by default found from the content.
        options: of the demuxer, such as video_size, pixel_format and framerate for rawvideo.
        hwaccel: hardware decoder, such as 'cuda' or 'vaapi'; software where it does not take the stream or does not open.
        deinterlace: make whole frames of interlaced ones: as many as there are (True), or one of each field ('field'), so
            that 25 interlaced frames a second become 50.
        start: seconds from the beginning at which the first frame is shown; what comes before is left out.
        end: seconds from the beginning at which what follows is left out.
        untrusted: the source is a file that a stranger sent: nothing but this one file is read whatever it names, and it is
            refused where it is larger or longer than these limits.

    Raises:
        ValueError: ``start`` or ``end`` is negative or not finite, or ``end`` is not after ``start``; or a stranger's file is
            given with a demuxer, its options or a hardware decoder.

    Examples:
        >>> InputOptions(start=61.5, end=90.0).start  # from 1:01.5 to 1:30
        61.5
    """

    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    hwaccel: str | None = None
    deinterlace: bool | Literal["field"] = False
    start: float | None = None
    end: float | None = None
    untrusted: Limits | None = None

    def __post_init__(self) -> None:
        if self.untrusted is not None and (self.format or self.options or self.hwaccel):
            raise ValueError("an untrusted file is read by its content alone, without format, options and hwaccel")
        for name, value in (("start", self.start), ("end", self.end)):
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} takes seconds from 0, not {value!r}")
        if self.end is not None and self.end <= (self.start or 0):
            raise ValueError(f"the end, {self.end:g} s, is not after the start, {self.start or 0:g} s")


def require_av() -> Any:
    """The PyAV module.

    Raises:
        MissingDependencyError: it is not installed, or is of a version whose interface srfast does not know.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(f"video needs PyAV ({error}); install it with: pip install {_AV}") from error
    if not (17, 1) <= version(av) < (20,):
        raise MissingDependencyError(
            f"video needs PyAV 17.1 to 19, not {av.__version__}; install it with: pip install {_AV}"
        )
    return av


def label(source: Source) -> str:
    """A source in words."""
    return "the standard input" if os.fspath(source) == "-" else os.fspath(source)


def is_live(source: Source) -> bool:
    """True for cameras and network streams, which have no end."""
    name = os.fspath(source)
    return bool(re.match(r"(?!file:)[a-zA-Z][a-zA-Z0-9+.-]+://", name)) or name.startswith("/dev/video")


def is_sequence(source: Source) -> bool:
    """True for numbered images such as ``frames/%05d.png``, unless that is the very name of a file."""
    return _NUMBER.search(Path(source).name) is not None and not Path(source).is_file()


def numbered_name(pattern: Source, number: int) -> Path:
    """The name of one of the images; signs of percent elsewhere in the path are left alone."""
    path = Path(pattern)
    before, count, after = _NUMBER.split(path.name, maxsplit=1)
    return path.parent / (before.replace("%%", "%") + count % number + after.replace("%%", "%"))


def numbered(pattern: Source) -> list[Path]:
    """The images of a pattern that are there, in their order."""
    path = Path(pattern)
    parts = _NUMBER.split(path.name, maxsplit=1)
    if len(parts) != 3 or not path.parent.is_dir():
        return []
    before, number, after = (part.replace("%%", "%") for part in parts)
    name = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    found = {
        int(m[1]): p for p in path.parent.iterdir() if (m := name.fullmatch(p.name)) and number % int(m[1]) == m[1]
    }
    return [found[key] for key in sorted(found)]


def can_reopen(source: Source) -> bool:
    """True for what can be read again from its start."""
    return os.fspath(source) != "-" and not is_live(source) and not _is_pipe(Path(source))


def _is_pipe(path: Path) -> bool:
    return path.exists() and not path.is_file() and not stat.S_ISBLK(path.stat().st_mode)


def open_source(source: Source, options: InputOptions, counted: CountedPipe) -> Any:
    """Opens an input container; where it is a pipe, ``counted`` is what it is read through.

    Raises:
        InputError: it is missing, or not a media file; or no hardware decoder has the name that is asked for.
    """
    av = require_av()
    name = os.fspath(source)
    if options.untrusted is not None:
        return open_alone(av, name, counted.hold(regular_file(Path(name))), options.untrusted)
    hwaccel = accelerator(av, options.hwaccel)
    file: Any = name
    if name == "-":
        # A file redirected to the standard input can be sought in, which MP4 with its index at the end needs.
        read = counted.note if sys.stdin.buffer.seekable() else counted.attach
        file = read(sys.stdin.buffer)
    kind, settings = options.format, dict(options.options)
    if kind == "y4m":
        kind = "yuv4mpegpipe"
    if name == "-" or is_live(source):
        pass
    elif is_sequence(source):
        kind = kind or "image2"
        file = file_address(counted.hold(openable(name)))
    else:
        _check_file(Path(source))
        if stat.S_ISFIFO(os.stat(name).st_mode):  # FFmpeg would wait for it without an end
            file = counted.attach(open(name, "rb"), name)  # noqa: SIM115
        elif kind is None and _needs_opencv(Path(name)):
            file = as_video(Path(name))
        else:
            file = file_address(counted.hold(_readable(name)))
    if name.startswith("/dev/video"):
        kind = kind or "v4l2"
    try:
        container = av.open(
            file,
            format=kind,
            options=settings,
            **tags_replaced(av),
            timeout=_NETWORK_SECONDS if is_live(source) else None,
            hwaccel=hwaccel,
        )
        counted.check()
    except (av.error.FFmpegError, OSError, ValueError) as error:
        counted.check()
        hint = ""
        if (kind == "rawvideo" or Path(name).suffix in (".yuv", ".rgb", ".raw")) and "video_size" not in settings:
            hint = (
                "; raw frames need their size: --input-option video_size=640x360 "
                "--input-option pixel_format=yuv420p --input-option framerate=25"
            )
        elif isinstance(error, av.error.EOFError) or getattr(error, "errno", None) == errno.EIO:
            hint = "; it may be cut off"  # Matroska's demuxer calls that an error of input and output
        raise InputError(f"{label(source)} is not a video that can be read: {reason(error)}{hint}") from error
    return container


def file_address(name: str) -> str:
    """A file's name as FFmpeg takes it: what stands before a colon would be a protocol."""
    return f"file:{name}" if ":" in name else name


@contextlib.contextmanager
def _readable(name: str) -> Iterator[str]:
    """``openable``, for what the user may read."""
    with contextlib.ExitStack() as held:
        try:
            known = held.enter_context(openable(name))
        except OSError as error:
            raise InputError(f"cannot read {name}: {error.strerror}") from error
        yield known


def _needs_opencv(path: Path) -> bool:
    """True for animations that FFmpeg reads in part: WebP, and AVIF whose alpha is a video of its own."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    return is_animated_webp(head) or (head[4:8] == b"ftyp" and b"avis" in head[8:64] and b"alpha" in head)


def _check_file(path: Path) -> None:
    if not path.exists() or path.is_dir():
        raise InputError(f"{path} is {'not a file' if path.exists() else 'missing'}")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")


def limit_size(context: Any, options: InputOptions) -> None:
    """Makes the decoder refuse frames of absurd size, or above the limit of an untrusted file."""
    most = options.untrusted.pixels if options.untrusted is not None else _LARGEST_FRAME
    context.options = {**context.options, "max_pixels": str(most)}


def reason(error: BaseException) -> str:
    """An error of FFmpeg or the system in words."""
    return str(getattr(error, "strerror", None) or error)
