"""Animations out: APNG and WebP files made of single encoded pictures, and palettes for GIF."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from srfast.errors import OutputError
from srfast.images.chunks import PNG, png_chunk, png_chunks, riff_chunk, riff_chunks
from srfast.video.settings import Settings
from srfast.video.source import require_av

PALETTE_INPUT = "bgra"  # what FFmpeg makes palettes of
_LONGEST = {"apng": 65_535, "webp": (1 << 24) - 1}  # milliseconds that one picture may be shown


class AnimationMuxer:
    """Joins pictures, each a packet of a PNG or WebP encoder, into one file that shows them in turn.

    FFmpeg's own encoders of these formats hold a whole animation, or number its pictures, so that a run could not be
    continued from a segment.

    Args:
        target: the file to make.
        kind: 'apng' or 'webp'.
        settings: of the encoder.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, target: Path, kind: str, settings: Settings) -> None:
        self.kind, self._settings = kind, settings
        self.refused: dict[int, int] = {}
        self._file = target.open("wb")
        self._waiting: tuple[bytes, Fraction, Fraction] | None = None
        self._frames = self._sequence = 0
        if kind == "webp":
            # WebP stores sides less one, in three bytes.
            size = b"".join((side - 1).to_bytes(3, "little") for side in (settings.width, settings.height))
            if max(settings.width, settings.height) > 16_384:
                raise OutputError(f"a side of a .webp has at most 16384 pixels, not {settings.width}x{settings.height}")
            flags = struct.pack("<I", 0x02 | 0x10)  # animated, with alpha
            self._file.write(
                b"RIFF\0\0\0\0WEBP"
                + riff_chunk(b"VP8X", flags + size)
                + riff_chunk(b"ANIM", struct.pack("<IH", 0, min(settings.plays, 65_535)))
            )

    def video(self, packet: Any) -> None:
        """Adds a picture; it is written when the next one tells how long it is shown."""
        time = packet.pts * packet.time_base
        length = Fraction(packet.duration or 0) * packet.time_base
        self._flush(time)
        # Held back by one picture: only the next one's time tells how long this one is shown.
        self._waiting = (bytes(packet), time, length)

    def copy(self, packet: Any, index: int) -> None:
        """Animations hold no other streams."""

    def moved(self, index: int) -> int:
        """No packet of another stream is moved: there are none."""
        return 0

    def finish(self) -> None:
        """Completes the file."""
        if self._waiting is not None:
            self._flush(self._waiting[1] + (self._waiting[2] or 1 / (self._settings.rate or Fraction(25))))
        size = self._file.tell()
        if self.kind == "webp":
            self._file.seek(4)
            self._file.write(struct.pack("<I", size - 8))
        else:
            self._file.write(png_chunk(b"IEND", b""))
            # Only now is the number of pictures known; the chunk at the beginning has its place already.
            self._file.seek(self._count_at)
            self._file.write(png_chunk(b"acTL", struct.pack(">II", self._frames, self._settings.plays)))
        self._file.close()

    def abandon(self) -> None:
        """Closes the file, which is to be deleted."""
        self._file.close()

    def _flush(self, until: Fraction) -> None:
        if self._waiting is None:
            return
        data, time, _ = self._waiting
        # Times are rounded, not lengths, so that errors do not add up over the film.
        shown = min(max(1, round(until * 1000) - round(time * 1000)), _LONGEST[self.kind])
        if self.kind == "webp":
            self._add_webp(data, shown)
        else:
            self._add_png(data, shown)
        self._frames += 1

    def _add_webp(self, data: bytes, shown: int) -> None:
        # ANMF: the place in the canvas, sides less one, milliseconds, and how the picture meets the one below it.
        place = b"\0" * 6 + b"".join(
            (s - 1).to_bytes(3, "little") for s in (self._settings.width, self._settings.height)
        )
        parts = b"".join(riff_chunk(k, c) for k, c in riff_chunks(data) if k in (b"ALPH", b"VP8 ", b"VP8L"))
        self._file.write(
            riff_chunk(b"ANMF", place + shown.to_bytes(3, "little") + b"\x02" + parts)
        )  # replaces the last

    def _add_png(self, data: bytes, shown: int) -> None:
        chunks = list(png_chunks(data))
        if not self._frames:
            self._file.write(PNG)
            for kind, content in chunks:
                if kind in (b"IDAT", b"IEND"):
                    break
                self._file.write(png_chunk(kind, content))
            self._count_at = self._file.tell()
            self._file.write(png_chunk(b"acTL", struct.pack(">II", 0, 0)))
        self._file.write(png_chunk(b"fcTL", self._next() + self._place(shown)))
        for kind, content in chunks:
            # The first picture stays one of plain PNG, for programs that know no animations.
            if kind == b"IDAT" and not self._frames:
                self._file.write(png_chunk(kind, content))
            elif kind == b"IDAT":
                self._file.write(png_chunk(b"fdAT", self._next() + content))

    def _next(self) -> bytes:
        self._sequence += 1
        return struct.pack(">I", self._sequence - 1)

    def _place(self, shown: int) -> bytes:
        # Size, place, seconds as a fraction, and that a picture replaces the last one whole.
        return struct.pack(">IIIIHHBB", self._settings.width, self._settings.height, 0, 0, shown, 1000, 0, 0)


class Palette:
    """Makes frames with palettes of their own for GIF: of 256 colours, one of which is transparent."""

    def __init__(self, settings: Settings) -> None:
        av = require_av()
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=settings.width, height=settings.height, format=av.VideoFormat(PALETTE_INPUT), time_base=settings.clock
        )
        split, use, sink = (
            graph.add("split"),
            graph.add("paletteuse", "new=1:alpha_threshold=128"),
            graph.add("buffersink"),
        )
        # A palette of each picture's own, not of the whole film: the film is not known yet, and a run may continue in its
        # middle.
        made = graph.add("palettegen", "stats_mode=single:reserve_transparent=1")
        source.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(made, 1, 0)
        made.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        self._graph, self._errors = graph, (av.error.BlockingIOError, av.error.EOFError)

    def __call__(self, frame: Any | None) -> Iterator[Any]:
        """The frames that are ready after one more, or after the last (None)."""
        self._graph.push(frame)
        while True:
            try:
                ready = self._graph.pull()
            except self._errors:
                return
            yield ready


def continued_gif(data: bytes) -> bytes:
    """A packet of a GIF encoder that began anew, for the middle of a file: without a header, its palette with the picture."""
    if not data.startswith(b"GIF8") or len(data) < 13 or not data[10] & 0x80:
        return data
    # The global palette has 2 ** (size + 1) colours; what is moved to the picture becomes its local one.
    size = data[10] & 7
    begin = 13 + (3 << (size + 1))
    palette, at = data[13:begin], begin
    while at + 10 <= len(data) and data[at] == 0x21:  # extensions before the picture
        at += 2
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    if at + 10 > len(data) or data[at] != 0x2C or data[at + 9] & 0x80:
        return data[begin:]
    return data[begin : at + 9] + bytes([data[at + 9] & 0x78 | 0x80 | size]) + palette + data[at + 10 :]
