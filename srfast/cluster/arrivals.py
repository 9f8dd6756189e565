"""Segments of one video as they come, for a join that runs beside the workers."""

from __future__ import annotations

import threading
from collections.abc import Iterable


class StoppedError(Exception):
    """No more segments will come."""


class Arrivals:
    """Says which segments are there; a join waits for them in their order.

    Args:
        there: segments that are there from the start.
    """

    def __init__(self, there: Iterable[int] = ()) -> None:
        self._there, self._stopped = set(there), False
        self._change = threading.Condition()

    def add(self, number: int) -> None:
        """A segment's file is there and whole."""
        with self._change:
            self._there.add(number)
            self._change.notify_all()

    def stop(self) -> None:
        """Nothing more comes: whoever waits gives up."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def wait_for(self, number: int) -> None:
        """Returns when a segment is there.

        Raises:
            StoppedError: it will not come.
        """
        with self._change:
            self._change.wait_for(lambda: self._stopped or number in self._there)
            if number not in self._there:
                raise StoppedError
