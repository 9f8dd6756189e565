"""Which segment goes to which worker: longest videos first, failures elsewhere, stragglers twice. It knows nothing of Ray."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

TRIES = 3  # of a segment that fails
LOSSES = 6  # of a segment whose worker or machine goes away
AHEAD = 2  # segments that a worker has at a time: the next one is there when one is done
_SLOW, _LEAST = 2.0, 5.0  # a segment is late after as many usual times, and as many seconds
_RETIRED = 2  # failures in a row after which a machine gets no more, while there are others


@dataclass(frozen=True)
class Task:
    """A segment of a video; both are numbers."""

    video: int
    segment: int


@dataclass
class _State:
    tries: int = 0
    losses: int = 0
    failed_on: set[str] = field(default_factory=set)
    running: dict[str, float] = field(default_factory=dict)  # since when, by worker


class Scheduler:
    """Hands out the segments of several videos.

    Args:
        videos: for each the number of its segments, those that are there already, and its work in any unit.
        clock: seconds.

    Attributes:
        failed: by video, why it failed; its other segments are not handed out any more.
    """

    def __init__(
        self, videos: Sequence[tuple[int, Iterable[int], float]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._left: dict[int, set[int]] = {}
        self._waiting: deque[Task] = deque()
        self._states: dict[Task, _State] = {}
        self._seconds: deque[float] = deque(maxlen=101)
        self._nodes: dict[str, str] = {}  # of each worker
        self._streaks: dict[str, set[Task]] = {}  # tasks that failed on a node since its last success
        self.failed: dict[int, str] = {}
        self.retired: set[str] = set()
        for video in sorted(range(len(videos)), key=lambda number: -videos[number][2]):
            count, there, _ = videos[video]
            self._left[video] = set(range(count)) - set(there)
            self._waiting.extend(Task(video, segment) for segment in sorted(self._left[video]))

    @property
    def finished(self) -> bool:
        """Nothing is waiting or running."""
        return not self._waiting and not any(state.running for state in self._states.values())

    @property
    def waiting(self) -> int:
        """Segments that no worker has."""
        return len(self._waiting)

    def is_complete(self, video: int) -> bool:
        """All of a video's segments are there."""
        return not self._left[video]

    def join(self, worker: str, node: str) -> None:
        """A worker is there."""
        self._nodes[worker] = node

    def next(self, worker: str) -> Task | None:
        """What a worker is to do next, None for nothing."""
        node = self._nodes[worker]
        if node in self.retired:
            return None
        others = {n for w, n in self._nodes.items() if n not in self.retired}
        for _ in range(len(self._waiting)):
            task = self._waiting.popleft()
            state = self._state(task)
            # Not where it has failed already, as long as there are machines where it has not.
            if node in state.failed_on and others - state.failed_on:
                self._waiting.append(task)
                continue
            state.running[worker] = self._clock()
            return task
        return self._late(worker, node)

    def _late(self, worker: str, node: str) -> Task | None:
        """The oldest segment that is late and has one worker only, for one that has nothing to do."""
        now = self._clock()
        if not self._seconds or any(worker in state.running for state in self._states.values()):
            return None
        limit = max(_LEAST, _SLOW * statistics.median(self._seconds))
        late = [
            (min(state.running.values()), task)
            for task, state in self._states.items()
            if len(state.running) == 1 and worker not in state.running and node not in state.failed_on
        ]
        since, task = min(late, key=lambda entry: entry[0], default=(now, None))
        if task is None or now - since < limit:
            return None
        self._states[task].running[worker] = now
        return task

    def done(self, task: Task, worker: str, seconds: float) -> bool:
        """A worker is done; False if another was first."""
        self._states.pop(task, None)  # whoever else is at it is not waited for
        self._streaks.pop(self._nodes.get(worker, ""), None)
        first = task.segment in self._left[task.video]
        self._left[task.video].discard(task.segment)
        if first:
            self._seconds.append(seconds)
        return first

    def error(self, task: Task, worker: str, message: str) -> str | None:
        """A worker could not do a task, which another one is to try. Returns a line for people where something ends by it."""
        state, node = self._state(task), self._nodes[worker]
        state.running.pop(worker, None)
        state.tries += 1
        state.failed_on.add(node)
        streak = self._streaks.setdefault(node, set())
        streak.add(task)
        line = None
        rest = {n for n in self._nodes.values() if n not in self.retired} - {node}
        if len(streak) >= _RETIRED and rest and node not in self.retired:
            self.retired.add(node)
            line = f"{node} gets no more segments: {message}"
        self._again(task, state, state.tries >= TRIES, message)
        return line

    def lost(self, worker: str, begun: Iterable[Task], others: Iterable[Task] = ()) -> None:
        """A worker is gone, with tasks that it may have begun and ``others`` that it cannot have."""
        self._nodes.pop(worker, None)
        for tasks, counts in ((begun, 1), (others, 0)):
            for task in tasks:
                state = self._state(task)
                state.running.pop(worker, None)
                state.losses += counts
                self._again(task, state, state.losses >= LOSSES, f"{state.losses} workers were lost while they did it")

    def _again(self, task: Task, state: _State, gives_up: bool, why: str) -> None:
        if task.segment not in self._left[task.video] or state.running or task.video in self.failed:
            return
        if gives_up:
            self.fail(task.video, f"segment {task.segment} failed {max(state.tries, state.losses)} times: {why}")
        else:
            # First in the queue: others, and a join, may wait for it alone.
            self._waiting.appendleft(task)

    def fail(self, video: int, why: str) -> None:
        """Hands out no more of a video."""
        self.failed.setdefault(video, why)
        self._waiting = deque(task for task in self._waiting if task.video != video)

    def _state(self, task: Task) -> _State:
        return self._states.setdefault(task, _State())
