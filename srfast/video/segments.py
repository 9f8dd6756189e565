"""How long the segments of a run are: what a crash may cost."""

from __future__ import annotations

import time
from collections.abc import Callable

SEGMENT = 120  # frames at most, and so the longest distance of key frames
LOST = 30.0  # seconds of computing that a crash may cost


class Segments:
    """Ends the segments of a run, all after as many frames.

    The number is settled within the first segment, by the speed measured there, and kept in the journal: a run that is
    continued ends its segments, and so makes its key frames, where the uninterrupted one would.

    Args:
        length: frames, if that is settled already.
        cost: seconds that a whole frame takes to compute; None as long as that is not known.

    Attributes:
        length: frames in each; None until the first segment ends.
    """

    def __init__(self, length: int | None, cost: Callable[[], float | None] = lambda: None) -> None:
        self.length = length
        self._cost, self._started = cost, time.monotonic()

    def ended(self, frames: int) -> bool:
        """Whether one ends with the last of ``frames`` from the start of the video."""
        if self.length is None and self._is_long(frames):
            self.length = frames
        return self.length is not None and frames % self.length == 0

    def _is_long(self, frames: int) -> bool:
        if frames >= SEGMENT or time.monotonic() - self._started >= LOST:
            return True
        # What is copied from the last frame costs nothing, but what comes later may not be copied.
        cost = self._cost()
        return cost is not None and (frames + 1) * cost > LOST
