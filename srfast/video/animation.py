"""Animated pictures in: which files are some, and those that FFmpeg cannot read as a video of their pictures."""

from __future__ import annotations

import io
import itertools
import math
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from srfast.errors import InputError
from srfast.video.boxes import inside, movie

_MOST = 1 << 30  # bytes of decoded pictures: they are in memory all at once
_HEAD = 1 << 16
_GIF_PICTURE = 0x2C
SUFFIXES = (".gif", ".png", ".apng", ".webp", ".avif")  # of files that may hold an animation


def is_animation(path: Path) -> bool:
    """True for a GIF, PNG, WebP or AVIF file that holds more than one picture in time.

    Only regular files are looked into: what is read from a pipe is gone, and one that is silent would be waited for.
    """
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if head.startswith(b"GIF8"):
                return _gif_pictures(head + file.read()) > 1
    except OSError:
        return False
    if head.startswith(b"\x89PNG"):
        at = 8
        while at + 8 <= len(head):
            length, kind = struct.unpack_from(">I4s", head, at)
            # APNG's own chunk comes before the pixels; a PNG without it is one picture.
            if kind in (b"acTL", b"IDAT"):
                return bool(kind == b"acTL" and struct.unpack_from(">I", head, at + 8)[0] > 1)
            at += 12 + length
        return False
    if is_animated_webp(head):
        return True
    return head[4:8] == b"ftyp" and b"avis" in head[8 : max(8, struct.unpack_from(">I", head)[0])]


def is_animated_webp(head: bytes) -> bool:
    """True for the beginning of a WebP file with more than one picture."""
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20:21]) and bool(head[20] & 0x02)


def plays_of(path: Path) -> int:
    """How often the animation in a GIF, PNG, WebP or AVIF file is shown; 0 for ever, and for all other files."""
    if not path.is_file():
        return 0
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
            if head[4:8] == b"ftyp":
                return _avif_plays(file)
    except OSError:
        return 0
    if head.startswith(b"GIF8"):
        # An extension of Netscape's browser that never became part of the format, and that everybody writes.
        at = head.find(b"\x21\xff\x0bNETSCAPE2.0\x03\x01")
        if at < 0 or at + 18 > len(head):
            return 1  # nothing says that it is to be repeated
        repeats = struct.unpack_from("<H", head, at + 16)[0]
        return repeats + 1 if repeats else 0
    if head.startswith(b"\x89PNG"):
        at = head.find(b"acTL")
        return struct.unpack_from(">I", head, at + 8)[0] if 0 < at <= len(head) - 12 else 0
    if is_animated_webp(head):
        at = head.find(b"ANIM")
        return struct.unpack_from("<H", head, at + 12)[0] if 0 < at <= len(head) - 14 else 0
    return 0


def _avif_plays(file: BinaryIO) -> int:
    """Tell how often the first track is shown: its length in those of its edit list, which says whether it is repeated."""
    track = inside(movie(file), b"trak")
    header, edits = inside(track, b"tkhd"), inside(track, b"edts", b"elst")
    if len(header) < 36 or len(edits) < 16:
        return 0
    if not edits[3] & 1:
        return 1
    length = int.from_bytes(header[28:36] if header[0] else header[20:24], "big")
    segment = int.from_bytes(edits[8:16] if edits[0] else edits[8:12], "big")
    endless = length >= ((1 << 63) - 1 if header[0] else (1 << 32) - 1)
    return 0 if endless or not segment else math.ceil(length / segment)


def _gif_pictures(data: bytes) -> int:
    """Pictures of a GIF, up to two."""
    return sum(1 for _ in itertools.islice((kind for kind, _ in _gif_blocks(data) if kind == _GIF_PICTURE), 2))


def is_whole_gif(data: bytes) -> bool:
    """True where all blocks of a GIF, or of a packet of one, end within it; FFmpeg decodes what there is of a picture."""
    return all(whole for _, whole in _gif_blocks(data))


def _gif_blocks(data: bytes) -> Iterator[tuple[int, bool]]:
    """The blocks up to the end mark: what each is, and whether it ends within the data."""
    at = 0
    if data.startswith(b"GIF8"):
        at = 13 + (3 << ((data[10] & 7) + 1) if data[10:11] and data[10] & 0x80 else 0)
    while at < len(data) and data[at] != 0x3B:
        kind = data[at]
        try:
            if kind == _GIF_PICTURE:
                at += 10 + (3 << ((data[at + 9] & 7) + 1) if data[at + 9] & 0x80 else 0) + 1
            else:
                at += 2
            while data[at]:
                at += data[at] + 1
        except IndexError:
            yield kind, False
            return
        at += 1
        yield kind, True


def as_video(path: Path) -> io.BytesIO:
    """An animated WebP or AVIF as a MOV file of lossless RGBA, with its times in milliseconds.

    Raises:
        InputError: it cannot be read, is too large, or OpenCV is older than 4.11.
    """
    import av

    if not hasattr(cv2, "imdecodeanimation"):
        raise InputError(f"{path} is an animation that needs OpenCV 4.11 or newer to be read")
    data = np.fromfile(path, np.uint8)
    try:
        done, animation = cv2.imdecodeanimation(data)
    except (cv2.error, MemoryError) as error:
        raise InputError(f"{path} cannot be decoded; it may be damaged or too large") from error
    pictures = list(animation.frames) if done else []
    if not pictures:
        cut = int.from_bytes(data[4:8].tobytes(), "little") + 8 - data.size if data[:4].tobytes() == b"RIFF" else 0
        why = f": it is {cut} bytes shorter than it says, so it is cut off" if cut > 0 else "; it may be damaged"
        raise InputError(f"{path} holds no picture that can be read{why}")
    if sum(picture.nbytes for picture in pictures) > _MOST:
        raise InputError(f"{path} is too large an animation: its pictures take more than {_MOST >> 30} GiB")
    file, time = io.BytesIO(), 0
    with av.open(file, "w", format="mov") as out:
        height, width = pictures[0].shape[:2]
        video: Any = out.add_stream("png", rate=25)
        video.width, video.height, video.pix_fmt = width, height, "rgba"
        video.codec_context.time_base = video.time_base = Fraction(1, 1000)
        # Two pictures at one time would be one frame, so each has a millisecond at least.
        for picture, shown in zip(pictures, animation.durations, strict=True):
            rgba = cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA if picture.shape[2] == 4 else cv2.COLOR_BGR2RGBA)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba, np.uint8), format="rgba")
            frame.pts, frame.time_base, frame.duration = time, Fraction(1, 1000), int(shown)
            time += max(1, int(shown))
            for packet in video.encode(frame):  # each picture is one
                packet.duration = max(1, int(shown))
                out.mux(packet)
        out.mux(video.encode(None))
    file.seek(0)
    return file
