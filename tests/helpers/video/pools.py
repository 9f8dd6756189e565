"""Pools of workers without Ray: machines in this process whose faults are made to order, or in simulated time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srfast.cluster.pool import Event
from srfast.cluster.schedule import Task
from srfast.cluster.worker import Worker

Fault = Callable[[str, Task, str], "str | dict[str, Any] | None"]


class LocalPool:
    """Workers in this process, one segment of each at a time.

    Args:
        nodes: their machines.
        fault: called with machine, task and plan before each segment: 'lost' loses the worker, which comes back; a dict is
            its answer; None goes on.
        shared: the machines see the driver's folder.
    """

    def __init__(self, nodes: list[str], fault: Fault = lambda node, task, plan: None, shared: bool = True) -> None:
        self._nodes, self._fault, self._shared = nodes, fault, shared
        self._tasks: dict[str, list[tuple[Task, str, Path, str]]] = {}
        self._count = 0
        self._engines: dict[str, Worker] = {}
        self.submitted: list[tuple[str, Task]] = []

    @property
    def workers(self) -> dict[str, str]:
        return {name: name.split("#")[0] for name in self._tasks}

    def grow(self, waiting: int) -> None:
        there = {name.split("#")[0] for name in self._tasks}
        for node in self._nodes:
            if node not in there and waiting:
                self._count += 1
                self._tasks[f"{node}#{self._count}"] = []

    def submit(self, name: str, task: Task, plan: str, folder: Path, token: str) -> None:
        self.submitted.append((name.split("#")[0], task))
        self._tasks[name].append((task, plan, folder, token))

    def load(self, name: str) -> int:
        return len(self._tasks[name])

    def wait(self, seconds: float) -> list[Event]:
        events = []
        for name in list(self._tasks):
            if self._tasks[name]:
                events.append(self._work(name))
        return events

    def _work(self, name: str) -> Event:
        node = name.split("#")[0]
        task, plan, folder, token = self._tasks[name].pop(0)
        answer: Any = self._fault(node, task, plan)
        if answer == "lost":
            others = tuple(entry[0] for entry in self._tasks.pop(name))
            return Event("lost", name, node, task, message="it was killed", others=others)
        if answer is None:
            engine = self._engines.setdefault(node, Worker(node))
            answer = engine.segment(plan, task.segment, str(folder), token if self._shared else "not seen")
        if "error" in answer:
            return Event("error", name, node, task, message=answer["error"], code=answer["code"])
        return Event("done", name, node, task, result=answer)

    def close(self) -> None:
        return None


class SimulatedPool:
    """Workers that compute nothing, in simulated time: segments take the seconds that a function tells.

    Args:
        count: workers, each on a machine of its own.
        seconds: by worker's number and task.
    """

    def __init__(self, count: int, seconds: Callable[[int, Task], float]) -> None:
        self._count, self._seconds = count, seconds
        self.now = 0.0
        self._free = [0.0] * count
        self._loads = [0] * count
        self._queue: list[tuple[float, int, int, Task]] = []
        self._serial = 0
        self.computed = 0

    @property
    def workers(self) -> dict[str, str]:
        return {str(number): f"node {number}" for number in range(self._count)}

    def grow(self, waiting: int) -> None:
        return None

    def submit(self, name: str, task: Task, plan: str, folder: Path, token: str) -> None:
        number = int(name)
        self._serial += 1
        self._loads[number] += 1
        self._free[number] = max(self._free[number], self.now) + self._seconds(number, task)
        heapq.heappush(self._queue, (self._free[number], self._serial, number, task))

    def load(self, name: str) -> int:
        return self._loads[int(name)]

    def wait(self, seconds: float) -> list[Event]:
        if not self._queue or self._queue[0][0] > self.now + seconds:
            self.now += seconds
            return []
        self.now, _, number, task = heapq.heappop(self._queue)
        self._loads[number] -= 1
        self.computed += 1
        result = {"record": {"seconds": self._seconds(number, task)}}
        return [Event("done", str(number), f"node {number}", task, result=result)]

    def close(self) -> None:
        return None
