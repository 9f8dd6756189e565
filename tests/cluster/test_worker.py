"""A worker that has several segments at a time computes one after another, in their order, and passes failures on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from srfast import cluster
from srfast.cluster.plan import Plan
from srfast.cluster.segment import segment_path
from srfast.cluster.worker import Worker
from srfast.video.upscale_stage import NetworkStage
from tests.helpers.video.children import save_tiny
from tests.helpers.video.segments import in_segments, moving_clip


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Six segments of ten frames."""
    folder = tmp_path_factory.mktemp("worker")
    clip = moving_clip(folder / "in.mp4", frames=60)
    in_segments(clip, folder, folder / "plan.mkv", save_tiny(folder / "tiny.pth"), seconds=0.3)
    return cluster.read_plan(folder / "plan.json")


@pytest.fixture
def computing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the networks of all threads do, in order: 'first', 'last'."""
    told: list[str] = []
    whole = NetworkStage.__call__

    def tell(self: NetworkStage, items: Any) -> Iterator[Any]:
        told.append("first")
        yield from whole(self, items)
        told.append("last")

    monkeypatch.setattr(NetworkStage, "__call__", tell)
    return told


def compute(plan: Plan, folder: Path, threads: int, numbers: list[int]) -> list[dict[str, Any]]:
    folder.mkdir()
    (folder / "seen").touch()
    worker, text = Worker("here"), plan.to_json()
    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(lambda number: worker.segment(text, number, str(folder), "seen"), numbers))


@pytest.mark.parametrize("threads", [2, 3])
def test_one_after_another(plan: Plan, tmp_path: Path, computing: list[str], threads: int) -> None:
    numbers = list(range(6))
    alone, beside = (compute(plan, tmp_path / str(n), n, numbers) for n in (1, threads))
    same = ("segment", "frames", "first", "last", "redone", "resumed", "reuse")
    assert [{key: one["record"][key] for key in same} for one in beside] == [
        {key: one["record"][key] for key in same} for one in alone
    ]
    assert computing == ["first", "last"] * 12


def test_in_the_order_in_which_they_came(plan: Plan, tmp_path: Path) -> None:
    """The one that has the network waits here until all others stand behind it."""
    worker = Worker("here")
    turns = [worker._turns.last() for _ in range(4)]
    order: list[int] = []

    def take(number: int) -> None:
        with turns[number]:
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in (3, 1, 2)]
    for thread in threads:
        thread.start()
    with turns[0]:
        assert order == []
    for thread in threads:
        thread.join(60)
    assert order == [1, 2, 3]


def test_a_segment_that_fails_gives_its_place_up(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its first frame, in its middle, or as it is no segment at all."""
    whole, calls = NetworkStage.__call__, []

    def fail(self: NetworkStage, items: Any) -> Iterator[Any]:
        calls.append(self)
        for done, item in enumerate(whole(self, items)):
            if len(calls) == 2 and done == 5:
                raise MemoryError("too much")
            yield item

    monkeypatch.setattr(NetworkStage, "__call__", fail)
    answers = compute(plan, tmp_path / "out", 2, [0, 99, 1, 2, 3])
    assert ["error" in answer for answer in answers] == [False, True, True, False, False]
    assert "no segment 99" in answers[1]["error"] and "too much" in answers[2]["error"]
    assert segment_path(tmp_path / "out", 3).exists() and not segment_path(tmp_path / "out", 1).exists()
