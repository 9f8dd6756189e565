"""Queues of a device that is not there: they run their work late and in any order that the events allow."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class LateEvent:
    def __init__(self, queues: LateQueues) -> None:
        self._queues, self.done = queues, False

    def synchronize(self) -> None:
        while not self.done:
            self._queues.step()


@dataclass
class Entry:
    work: Callable[[], object]
    after: Sequence[LateEvent]
    event: LateEvent


class LateQueues:
    """Does nothing until somebody waits, and then whatever comes, chosen at random among what the events allow.

    Host memory begins full of rubbish, so that whoever reads too early is seen.
    """

    def __init__(self, seed: int) -> None:
        self._queues: dict[str, deque[Entry]] = {"up": deque(), "run": deque(), "down": deque()}
        self._random = random.Random(seed)
        self.order: list[str] = []

    def submit(self, queue: str, work: Callable[[], object], after: Sequence[LateEvent]) -> LateEvent:
        event = LateEvent(self)
        self._queues[queue].append(Entry(work, list(after), event))
        return event

    def host_memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.full(tuple(shape), 99, dtype=dtype)

    @property
    def waiting(self) -> int:
        """Pieces of work that are not done."""
        return sum(map(len, self._queues.values()))

    def step(self) -> None:
        ready = [name for name, q in self._queues.items() if q and all(event.done for event in q[0].after)]
        assert ready, "the queues wait for one another"
        name = self._random.choice(ready)
        entry = self._queues[name].popleft()
        entry.work()
        entry.event.done = True
        self.order.append(name)


class EagerQueues(LateQueues):
    """Fails at once, as an allocation on a GPU does."""

    def submit(self, queue: str, work: Callable[[], object], after: Sequence[LateEvent]) -> LateEvent:
        event = super().submit(queue, work, after)
        event.synchronize()
        return event
