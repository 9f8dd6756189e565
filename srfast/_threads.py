"""Stages that run at the same time, with short queues between them, and the account of their times."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
QUEUED = 3  # items between two stages: enough to even out their times, few enough to bound memory


PATIENCE = 2.0  # seconds for which a source that gives nothing is waited for at the end
_END = object()  # not None, which may be among the items


class StoppedError(Exception):
    """Another stage has failed; this one ends."""


class Channel(Generic[T]):
    """A bounded queue from a producing thread whose failure reaches the consumer, and the reverse."""

    def __init__(self, stop: threading.Event, length: int = QUEUED) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(length)
        self._stop = stop
        self.error: BaseException | None = None

    def put(self, item: T) -> None:
        """Adds an item; waits while the queue is full."""
        self._put(item)

    def end(self) -> None:
        """Adds the end mark."""
        self._put(_END)

    def _put(self, item: object) -> None:
        while not self._stop.is_set():
            try:
                # Not for ever: a consumer that failed never takes anything again, and only a wait that ends sees that.
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue
        raise StoppedError

    def __iter__(self) -> Iterator[T]:
        while True:
            try:
                item = self._queue.get(timeout=0.1)
            except queue.Empty:
                if self.error is not None:
                    raise self.error from None
                if self._stop.is_set():
                    raise StoppedError from None
                continue
            if item is _END:
                return
            yield item

    def feed(self, items: Iterable[T]) -> None:
        """Puts all items, then the end mark; an error is kept for the consumer."""
        try:
            for item in items:
                self.put(item)
            self.end()
        except StoppedError:
            return
        # KeyboardInterrupt included: the thread has nobody else to tell.
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        """Ends both sides."""
        self._stop.set()


class Feeding(threading.Thread):
    """Feeds a channel in the background; a daemon, as its source may never answer again.

    Args:
        channel: what it feeds.
        items: with what.
        name: of the thread.
        release: called in the thread at its end.
    """

    def __init__(
        self, channel: Channel[T], items: Iterable[T], name: str, release: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._channel, self._items, self._release = channel, items, release

    def run(self) -> None:
        try:
            self._channel.feed(self._items)
        finally:
            self._release()

    def leave(self) -> None:
        """Stops the channel and waits; a source that stays silent is left to itself."""
        self._channel.stop()
        if self.ident is not None:
            self.join(PATIENCE)


@dataclass
class StageTimes:
    """Seconds of work by stage, waiting left out; stages run at the same time, so they add up to more than the whole."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Adds the time of its block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)

    def add(self, stage: str, seconds: float) -> None:
        """Adds to a stage; each stage is written by one thread only."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def timed(self, stage: str, items: Iterator[T]) -> Iterator[T]:
        """The items, with the time that each takes to come."""
        while True:
            with self.measure(stage):
                item: Any = next(items, _END)
            if item is _END:
                return
            yield item
