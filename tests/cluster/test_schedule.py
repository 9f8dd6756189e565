"""The schedule without Ray, in simulated time: which worker gets what, and that no segment is lost or done twice for nothing."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from srfast.cluster.schedule import AHEAD, LOSSES, TRIES, Scheduler, Task
from tests.helpers.video.pools import SimulatedPool


def simulate(scheduler: Scheduler, pool: SimulatedPool) -> list[Task]:
    """The driver's loop, with nothing computed."""
    done = []
    while not scheduler.finished:
        names = pool.workers
        for name, node in names.items():
            scheduler.join(name, node)
        for depth in range(1, AHEAD + 1):
            for name in names:
                if pool.load(name) >= depth or (depth > 1 and scheduler.waiting < len(names)):
                    continue
                task = scheduler.next(name)
                if task is not None:
                    pool.submit(name, task, "", Path(), "")
        for event in pool.wait(0.2):
            if event.task is not None and scheduler.done(event.task, event.worker, event.result["record"]["seconds"]):
                done.append(event.task)
    return done


@pytest.mark.parametrize("workers", [1, 2, 4, 64])
def test_workers_share_the_work_evenly(workers: int) -> None:
    pool = SimulatedPool(workers, lambda number, task: 10.0)
    scheduler = Scheduler([(1280, (), 1.0)], clock=lambda: pool.now)
    done = simulate(scheduler, pool)
    assert sorted(done, key=lambda task: task.segment) == [Task(0, number) for number in range(1280)]
    assert pool.computed == 1280
    assert pool.now == pytest.approx(12_800 / workers, rel=0.02)


def test_slow_workers_get_less_and_a_straggler_is_overtaken() -> None:
    pool = SimulatedPool(4, lambda number, task: 200.0 if number == 0 else 10.0)
    scheduler = Scheduler([(60, (), 1.0)], clock=lambda: pool.now)
    simulate(scheduler, pool)
    # Three workers take 200 s for 60 segments. The slow one's segments are started again once they are late.
    assert scheduler.is_complete(0)
    assert pool.computed <= 64


def test_the_longest_video_is_first() -> None:
    scheduler = Scheduler([(2, (), 1.0), (2, (), 9.0), (2, (0,), 5.0)])
    scheduler.join("a", "node")
    order = []
    while (task := scheduler.next("a")) is not None:
        order.append(task)
    assert order == [Task(1, 0), Task(1, 1), Task(2, 1), Task(0, 0), Task(0, 1)]


def test_a_failure_goes_to_another_node_and_a_node_that_fails_is_retired() -> None:
    scheduler = Scheduler([(6, (), 1.0)])
    for name in ("bad", "good"):
        scheduler.join(name, name)
    first, second = scheduler.next("bad"), scheduler.next("bad")
    assert first is not None and second is not None
    assert scheduler.error(first, "bad", "disk full") is None
    assert scheduler.next("good") == first
    assert scheduler.error(second, "bad", "disk full") == "bad gets no more segments: disk full"
    assert scheduler.next("bad") is None
    assert scheduler.failed == {}


def test_a_segment_that_always_fails_ends_its_video_only() -> None:
    scheduler = Scheduler([(2, (), 2.0), (1, (), 1.0)])
    scheduler.join("a", "node")
    for number in range(TRIES):
        task = scheduler.next("a")
        assert task == Task(0, 0), number
        scheduler.error(task, "a", "no")
    assert scheduler.failed == {0: f"segment 0 failed {TRIES} times: no"}
    assert scheduler.next("a") == Task(1, 0) and scheduler.next("a") is None


def test_a_segment_that_kills_its_workers_ends() -> None:
    scheduler = Scheduler([(1, (), 1.0)])
    for number in range(LOSSES):
        scheduler.join(str(number), "node")
        task = scheduler.next(str(number))
        assert task == Task(0, 0)
        scheduler.lost(str(number), [task])
    assert f"failed {LOSSES} times: {LOSSES} workers were lost" in scheduler.failed[0]
    assert scheduler.finished


def test_random_losses_lose_nothing() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        scheduler = Scheduler([(rng.randrange(1, 9), (), rng.random()) for _ in range(3)])
        workers: dict[str, list[Task]] = {}
        done: Counter[Task] = Counter()
        for step in range(10_000):
            if scheduler.finished:
                break
            if len(workers) < 3:
                workers[str(step)] = []
                scheduler.join(str(step), f"node {rng.randrange(2)}")
            name = rng.choice(list(workers))
            if len(workers[name]) < AHEAD and (task := scheduler.next(name)) is not None:
                workers[name].append(task)
            if rng.random() < 0.02:
                tasks = workers.pop(name)
                scheduler.lost(name, tasks[:1], tasks[1:])
            elif workers[name] and rng.random() < 0.5:
                task = workers[name].pop(0)
                done[task] += scheduler.done(task, name, 1.0)
        assert scheduler.finished and not scheduler.failed, seed
        assert all(scheduler.is_complete(video) for video in range(3)) and set(done.values()) == {1}, seed
