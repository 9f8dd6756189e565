"""Runs on a local cluster of several Ray nodes, on the CPU in float32: outputs equal those of single runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from srfast.cluster.pool import RayPool
from srfast.errors import OutputError
from tests.helpers.video.gradients import leftovers
from tests.helpers.video.ray_nodes import STORE, CountingPool, cluster_of, kill_a_worker, upscale, wait_for, work_of
from tests.helpers.video.segments import assert_same, in_one_run, moving_clip

ray = pytest.importorskip("ray")  # an extra of its own, and part of the developers'
FRAMES, SEGMENTS = 120, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of twelve segments."""
    return work_of(tmp_path_factory.mktemp("ray"), FRAMES)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    with cluster_of(2) as made:
        yield made


@pytest.fixture(scope="module")
def pool(nodes: Any) -> Iterator[CountingPool]:
    made = CountingPool()
    yield made
    made.close()


def test_two_nodes(pool: CountingPool, folder: Path, tmp_path: Path) -> None:
    pool.start(2, SEGMENTS)
    outcome = upscale(folder, tmp_path / "out.mkv", pool.reset())
    assert len(pool._workers) == 2  # none that would wait for room
    assert outcome.error == "" and pool.again(SEGMENTS) == 0
    assert_same(tmp_path / "out.mkv", folder / "whole.mkv")
    assert leftovers(tmp_path) == ["out.mkv"]


def test_a_killed_worker_costs_its_segments(pool: CountingPool, folder: Path, tmp_path: Path) -> None:
    killed: list[bool] = []

    def kill(done: int) -> None:
        if done >= 30 and not killed:
            killed.append(kill_a_worker())

    outcome = upscale(folder, tmp_path / "out.mkv", pool.reset(), kill)
    assert killed == [True] and [e.kind for e in pool.events].count("lost") == 1
    assert outcome.error == "" and pool.again(SEGMENTS) <= 2
    assert_same(tmp_path / "out.mkv", folder / "whole.mkv")


def test_a_removed_node_costs_its_segments(nodes: Any, pool: CountingPool, folder: Path, tmp_path: Path) -> None:
    removed: list[bool] = []

    def remove(done: int) -> None:
        if done >= 30 and not removed:
            removed.append(True)
            nodes.remove_node(nodes.nodes.pop(), allow_graceful=False)

    outcome = upscale(folder, tmp_path / "out.mkv", pool.reset(), remove)
    assert removed == [True]
    assert outcome.error == "" and pool.again(SEGMENTS) <= 2
    assert_same(tmp_path / "out.mkv", folder / "whole.mkv")


def test_a_full_cluster_is_told_and_what_waits_is_given_up(
    nodes: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that found no room would take the place of another command's, once there is room."""
    monkeypatch.setattr("srfast.cluster.pool._PATIENCE", 2.0)
    full = CountingPool(cpus=64)
    full.grow(SEGMENTS)
    wait_for(lambda: full.wait(0.1) or full.grow(SEGMENTS) or caplog.messages)
    assert "no worker is ready after 2 s, and it goes on waiting: each takes 64 CPU (" in caplog.text
    assert len(full._workers) == 1 and not full.workers
    full.grow(0)
    assert not full._workers
    full.close()


def test_the_command_on_a_cluster_with_a_broken_file(nodes: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    nodes.add_node(num_cpus=1, object_store_memory=STORE)  # the others are the pool's
    for name in ("a.mkv", "b.mp4"):
        moving_clip(tmp_path / "in" / name, frames=20)
    (tmp_path / "in" / "c.mp4").write_bytes(b"no video" * 64)
    command = [sys.executable, "-m", "srfast", "upscale", str(tmp_path / "in"), str(tmp_path / "out")]
    command += ["-m", str(folder / "tiny.pth"), "--fp32", "--device", "cpu", "--progress", "json"]
    done = subprocess.run([*command, "--ray", nodes.address], capture_output=True, text=True, timeout=200)
    assert done.returncode == 6, done.stderr
    assert "c.mp4 is not a video that can be read" in done.stderr and "2 of 3 files" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.mkv", "b.mp4"]
    assert '"done": 40, "total": 40' in done.stderr


def test_a_cluster_of_its_own_beside_another(nodes: Any, folder: Path, tmp_path: Path) -> None:
    """Without an address a command starts a Ray of its own, though Ray itself would join the one of this machine."""
    clip = moving_clip(tmp_path / "in.mkv", frames=20)
    command = [sys.executable, "-m", "srfast", "upscale", str(clip), str(tmp_path / "out.mkv"), "--ray"]
    command += ["-m", str(folder / "tiny.pth"), "--fp32", "--device", "cpu", "-c", "ffv1", "--progress", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    in_one_run(clip, tmp_path / "whole.mkv", str(folder / "tiny.pth"))
    assert_same(tmp_path / "out.mkv", tmp_path / "whole.mkv")


def test_two_workers_share_a_gpu_and_an_autoscaler_is_asked(
    nodes: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU is one by name alone: the network runs on the CPU."""
    asked: list[Any] = []
    monkeypatch.setattr("ray.autoscaler.sdk.request_resources", lambda bundles: asked.append(bundles))
    with_gpu = nodes.add_node(num_cpus=1, num_gpus=1, object_store_memory=STORE)
    pool = CountingPool(gpus=0.5)
    try:
        pool.start(2, SEGMENTS)
        outcome = upscale(folder, tmp_path / "out.mkv", pool)
        at_once = len(pool.workers)
    finally:
        pool.close()
        nodes.remove_node(with_gpu)
    assert outcome.error == "" and at_once == 2
    assert len({event.node for event in pool.events if event.kind == "done"}) == 1
    assert_same(tmp_path / "out.mkv", folder / "whole.mkv")
    # As many as would be of use: two segments each; none once all is handed out.
    assert asked[0] == [{"GPU": 0.5}] * (SEGMENTS // 2) and asked[-1] == []


def test_no_cluster_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def init(**settings: Any) -> None:
        raise ConnectionError("nobody answers\nat all")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        OutputError, match=r"there is no Ray cluster at 192.0.2.1:6379: nobody answers\nsee: ray status"
    ):
        RayPool("192.0.2.1:6379")
