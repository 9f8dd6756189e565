"""Decoding times of a video whose segments were encoded one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np


class ReorderingError(Exception):
    """A segment reorders its frames more deeply than those before it; ``depth`` frames are needed from the start."""

    def __init__(self, depth: int) -> None:
        super().__init__(f"the frames are reordered by {depth}")
        self.depth = depth


class DecodeTimes(Iterator[int]):
    """Rising decoding times, none after its packet's presentation, for packets in decoding order.

    Encoders count them from each segment's own start. Where the steps between frames vary these may overlap, and a player
    that trusts them stumbles there.

    Args:
        step: the usual distance of two frames, for those before the first.
        depth: by how many frames the deepest reordering moves one; None takes that of the first segment.

    >>> times = DecodeTimes(30)
    >>> times.add([0, 90, 30, 60])  # a frame that two B-frames lean on is decoded before them
    >>> [next(times) for _ in range(4)]
    [-30, 0, 30, 60]
    """

    def __init__(self, step: int, depth: int | None = None) -> None:
        self._step, self._depth = step, depth
        self._times: deque[int] = deque()
        self._begun = False

    def add(self, shown: Sequence[int]) -> None:
        """Takes the next segment's presentation times, no two alike and all after those before, in decoding order.

        Raises:
            ReorderingError: its reordering is deeper than what the times that were given are for.
        """
        if not len(shown):
            return
        # A packet may be decoded at the time of the frame that is shown when it is needed: the sorted presentation times,
        # put earlier by as many frames as the deepest reordering takes.
        order = np.sort(np.asarray(shown, np.int64))
        depth = int(max(0, (np.arange(len(order)) - np.searchsorted(order, np.asarray(shown, np.int64))).max()))
        if self._depth is None:
            self._depth = depth
        elif depth > self._depth:
            raise ReorderingError(depth)
        if not self._begun:
            self._begun = True
            self._times.extend(int(order[0]) - self._step * before for before in range(self._depth, 0, -1))
        self._times.extend(order.tolist())

    def __next__(self) -> int:
        return self._times.popleft()
