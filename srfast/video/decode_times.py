"""Decoding times of a video whose segments were encoded one by one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def decode_times(shown: npt.NDArray[np.int64], step: int) -> npt.NDArray[np.int64]:
    """Rising decoding times, none after its packet's presentation, for packets in decoding order.

    Encoders count them from each segment's own start. Where the steps between frames vary these may overlap, and a player
    that trusts them stumbles there.

    Args:
        shown: presentation times, no two alike.
        step: the usual distance of two frames, for those before the first.

    >>> decode_times(np.array([0, 90, 30, 60]), 30).tolist()  # a frame that two B-frames lean on is decoded before them
    [-30, 0, 30, 60]
    """
    if not len(shown):
        return shown
    # A packet may be decoded at the time of the frame that is shown when it is needed: the sorted presentation times, put
    # earlier by as many frames as the deepest reordering takes.
    order = np.sort(shown)
    delay = int(max(0, (np.arange(len(shown)) - np.searchsorted(order, shown)).max()))
    before = order[0] - step * np.arange(delay, 0, -1, dtype=np.int64)
    return np.concatenate([before, order])[: len(shown)]
