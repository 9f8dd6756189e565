"""Accounts of what a damaged input cost."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

_LISTED = 20
_HEADERS = 96  # bytes: a cluster's and a block's, with what muxers note in them
# A decoder may hold back this many frames: a time that is still missing after as many others does not come any more.
_DELAY = 64


@dataclass
class Damage:
    """What was wrong with the input so far.

    Attributes:
        packets: packets that were damaged or could not be decoded.
        concealed: frames with errors that the decoder covered up.
        lost: frames that should be there and are not.
        resized: frames of another size than the first, scaled to it.
        gaps: frames that a steady rate lets expect where the times leap; they may never have been, so they are no loss.
        places: time in seconds (None where unknown) and kind of the first 20.
    """

    packets: int = 0
    concealed: int = 0
    lost: int = 0
    resized: int = 0
    gaps: int = 0
    places: list[tuple[float | None, str]] = field(default_factory=list)

    def add(self, kind: str, time: float | None, count: int = 1) -> None:
        """Counts ``count`` of 'packets', 'concealed', 'lost', 'resized' or 'gaps' at ``time`` seconds."""
        setattr(self, kind, getattr(self, kind) + count)
        if len(self.places) < _LISTED:
            self.places.append((time, kind))

    def __bool__(self) -> bool:
        return bool(self.packets or self.concealed or self.lost or self.resized)

    def __str__(self) -> str:
        counts = (
            (self.packets, "damaged packets"),
            (self.concealed, "frames with concealed errors"),
            (self.lost, "frames lost"),
            (self.resized, "frames of another size, scaled"),
            (self.gaps, "frames missing in a steady rate"),
        )
        said = ", ".join(f"{count} {what}" for count, what in counts if count)
        times = ", ".join(f"{time:.2f}" for time in sorted({t for t, _ in self.places if t is not None}))
        return f"{said or 'no damage'}" + (f" (at {times} s)" if times else "")


class Steps:
    """The steps between frames: where nearly all are one, a leap is told."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, step: int) -> None:
        """A frame came ``step`` after the last; rare steps of a long uneven video are not remembered."""
        if step in self._counts or len(self._counts) < 256:
            self._counts[step] += 1

    def gaps(self) -> int:
        """Frames that are missing between the others; 0 where the rate is not steady."""
        if not self._counts:
            return 0
        usual, _ = self._counts.most_common(1)[0]
        near = sum(count for step, count in self._counts.items() if 2 * abs(step - usual) < usual)
        if near < 0.8 * self._counts.total():
            return 0
        return sum(count * (round(step / usual) - 1) for step, count in self._counts.items() if step > 1.5 * usual)


class Holes:
    """Stretches of a file between two packets that belong to none: a demuxer passes over damage in silence.

    For containers whose packets lie one behind the other, with only short headers between them (Matroska).
    """

    def __init__(self) -> None:
        self._end: int | None = None

    def before(self, position: int | None, size: int) -> bool:
        """True if bytes were passed over before a packet at ``position`` of ``size`` bytes."""
        if position is None or position < 0 or not size:
            return False
        hole = self._end is not None and position - self._end > _HEADERS
        self._end = max(self._end or 0, position + size)
        return hole


def missing_bytes(path: str | os.PathLike[str]) -> int:
    """By how many bytes a Matroska file is shorter than its segment says; 0 for other files.

    EBML (RFC 8794): an element is an id, a size of 1 to 8 bytes whose leading zero bits tell how many, and its data; a size
    of ones is unknown.
    """
    if not os.path.isfile(path):  # a pattern of numbered images, a device
        return 0
    with open(path, "rb") as file:
        for element in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
            if file.read(4) != element:
                return 0
            first = file.read(1)
            if not first or not first[0]:
                return 0
            length = 9 - first[0].bit_length()
            size = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
            if element == b"\x1a\x45\xdf\xa3":
                file.seek(size, os.SEEK_CUR)
        if size == (1 << 7 * length) - 1:
            return 0
        return max(0, file.tell() + size - os.fstat(file.fileno()).st_size)


class Expected:
    """Times at which packets promise frames; those that no frame takes up are lost."""

    def __init__(self) -> None:
        self._waiting: dict[int, int] = {}
        self._seen = 0
        self._first: int | None = None

    def packet(self, pts: int | None, keyframe: bool) -> None:
        """A packet goes to the decoder. What lies before the first key frame was never whole."""
        if pts is None or (self._first is None and not keyframe):
            return
        if self._first is None:
            self._first = pts
        if pts >= self._first:
            self._waiting[pts] = self._seen

    def frame(self, pts: int | None) -> None:
        """A frame came out."""
        self._seen += 1
        if pts is not None:
            self._waiting.pop(pts, None)

    def missing(self, end: bool = False) -> Iterator[int]:
        """Takes out the times that no frame will have; at the ``end`` all that are left."""
        late = [pts for pts, seen in self._waiting.items() if end or self._seen - seen > _DELAY]
        for pts in late:
            del self._waiting[pts]
            yield pts
