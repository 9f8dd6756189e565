"""Accounts of what a damaged input cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

_LISTED = 20
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
        jumps: places where the times jump, and what follows was put behind; nothing is lost by that.
        gaps: frames that a steady rate lets expect where the times leap; they may never have been, so they are no loss.
        places: time in seconds (None where unknown) and kind of the first 20.
    """

    packets: int = 0
    concealed: int = 0
    lost: int = 0
    resized: int = 0
    gaps: int = 0
    jumps: int = 0
    places: list[tuple[float | None, str]] = field(default_factory=list)

    def add(self, kind: str, time: float | None, count: int = 1) -> None:
        """Counts ``count`` of 'packets', 'concealed', 'lost', 'resized', 'gaps' or 'jumps' at ``time`` seconds."""
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
            (self.jumps, "places where the times jump, repaired"),
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

    def usual(self) -> int | None:
        """The step that nearly all are; None where the rate is not steady."""
        if not self._counts:
            return None
        usual, _ = self._counts.most_common(1)[0]
        near = sum(count for step, count in self._counts.items() if 2 * abs(step - usual) < usual)
        return usual if near >= 0.8 * self._counts.total() else None

    def uneven(self) -> int:
        """How many steps differ from the most usual one by more than a tenth of it, or the rounding of a clock."""
        if not self._counts:
            return 0
        usual, _ = self._counts.most_common(1)[0]
        return sum(count for step, count in self._counts.items() if abs(step - usual) > max(1, usual / 10))

    def gaps(self) -> int:
        """Frames that are missing between the others; 0 where the rate is not steady."""
        usual = self.usual()
        if usual is None:
            return 0
        longer = 1.5 * usual + 1  # what is shown for three fields instead of two is no gap
        return sum(count * (round(step / usual) - 1) for step, count in self._counts.items() if step > longer)


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
        # Decoders may start anywhere in a stream, but show nothing right until a key frame.
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
