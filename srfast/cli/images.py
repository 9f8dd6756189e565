"""``srfast upscale`` for one image, which may come and go through pipes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from srfast.cli.options import UpscaleOptions, upscaler_from
from srfast.errors import InputError, OutputError, escaped

if TYPE_CHECKING:
    from srfast.images import Picture
    from srfast.images.arrays import Array

_PNG = b"\x89PNG\r\n\x1a\n"
# How files of still pictures begin, with the place of what follows; those of WebP, AVIF and GIF may also move.
_BEGINNINGS = (
    _PNG,
    b"\xff\xd8\xff",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"GIF8",
    *(b"P%d" % n for n in range(1, 8)),
    b"\0\0\0\x0cjP  ",
)


def upscale_image(options: UpscaleOptions, source: str, target: str) -> int:
    """One image, from a file or '-' to a file or '-'; returns 0."""
    from srfast.images import check_image_output, check_size, encode_image, write_image

    if source != "-" and not Path(source).exists():
        raise InputError(f"{source} is missing")
    overwrite, pipe = options.output.overwrite, target == "-"
    path = Path(f"the standard output.{_format(options.video.format, source)}") if pipe else Path(target)
    if pipe:
        _check_standard_output(path)
    else:
        check_image_output(path, overwrite)
    picture = _read(source)
    upscaler = upscaler_from(options.model, "image", options.model.memory(None))
    check_size(path, *upscaler.output_size(*picture.image.shape[:2]))
    started = time.perf_counter()
    result: Array = upscaler(picture.image)
    seconds = time.perf_counter() - started
    if pipe:
        sys.stdout.buffer.write(encode_image(path, result, picture.metadata))
        # Flushed here, where an error of the pipe can still be told; at the interpreter's end it would be a traceback.
        sys.stdout.buffer.flush()
    else:
        write_image(path, result, overwrite, picture.metadata)
    height, width = result.shape[:2]
    name = path.stem if pipe else target
    print(escaped(f"{name}: {width}x{height} in {seconds:.2f} s on {upscaler}"), file=sys.stderr)
    return 0


def _format(asked: str | None, source: str) -> str:
    """The suffix of the standard output's format: the one that is asked for, or the input's own where that is written."""
    from srfast.images import SUFFIXES

    own = Path(source).suffix.lower()
    return (asked or (own if own in SUFFIXES else "png")).lstrip(".").lower()


def _check_standard_output(path: Path) -> None:
    from srfast.images import check_format

    check_format(path)
    if sys.stdout.isatty():
        raise OutputError("the standard output is a terminal; send it to a program or a file")


def _read(source: str) -> Picture:
    import numpy as np

    from srfast.images import picture_of, read_picture

    named = Path(source).is_fifo()  # such as the shell's <(...): read once, from its start to its end
    if source != "-" and not named:
        return read_picture(Path(source))
    data = Path(source).read_bytes() if named else sys.stdin.buffer.read()
    name = source if named else "the standard input"
    # ``ffmpeg -f image2pipe`` sends pictures without anything between them; a decoder of one picture would drop the others
    # without a word.
    if data.startswith(_PNG) and _PNG in data[8:]:
        raise InputError(f"{name} holds more than one picture; give --input-format png_pipe for a video of them")
    return picture_of(np.frombuffer(data, np.uint8), name)


def is_image_format(name: str | None) -> bool:
    """True for an image format by the name of its suffix, such as png."""
    from srfast.images import SUFFIXES

    return name is not None and f".{name.lstrip('.').lower()}" in SUFFIXES


def comes_an_image() -> bool:
    """True where the standard input begins as the file of a still picture does; nothing of it is taken."""
    from srfast.video.animation import is_animated_webp

    file = sys.stdin.buffer
    if hasattr(file, "peek"):
        head = bytes(file.peek(64)[:64])
    else:
        head = bytes(file.read(64))
        file.seek(-len(head), 1)
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP" and not is_animated_webp(head)
    return webp or head.startswith(_BEGINNINGS)
