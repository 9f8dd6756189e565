"""Campaigns on a local Ray cluster, run with -m slow: losses at random moments, drivers that are killed, one to four nodes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from srfast.cluster.job import work_folder
from tests.helpers.video.gradients import leftovers
from tests.helpers.video.ray_nodes import STORE, CountingPool, cluster_of, kill_a_worker, upscale, work_of
from tests.helpers.video.segments import assert_same, in_one_run, moving_clip

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
FRAMES, SEGMENTS = 600, 60
LONG = 15_000  # ten minutes, cut at every tenth second


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = work_of(tmp_path_factory.mktemp("campaign"), FRAMES)
    moving_clip(folder / "long.mkv", frames=LONG, gop=250, options={"x264-params": "scenecut=0"}, beside=True)
    in_one_run(folder / "long.mkv", folder / "whole_long.mkv", str(folder / "tiny.pth"))
    return folder


@pytest.mark.parametrize("count", [1, 2, 4])
def test_ten_minutes_on_nodes_are_those_of_a_single_run(folder: Path, tmp_path: Path, count: int) -> None:
    with cluster_of(count):
        pool = CountingPool()
        started = time.perf_counter()
        outcome = upscale(folder, tmp_path / "out.mkv", pool, name="long.mkv", seconds=10)
        pool.close()
    assert outcome.error == "" and pool.again(len(outcome.plan.segments)) == 0
    assert_same(tmp_path / "out.mkv", folder / "whole_long.mkv")
    assert 25 <= len(outcome.plan.segments) <= 60
    hosts = {record.host for record in outcome.joined.segments}
    print(f"{count} nodes: equal, {len(hosts)} machines at work, {time.perf_counter() - started:.1f} s")


def test_thirty_runs_with_a_loss_at_a_random_moment(folder: Path, tmp_path: Path) -> None:
    again = 0
    with cluster_of(2) as nodes:
        pool = CountingPool()
        for run in range(30):
            rng, lost = random.Random(run), []
            moment = rng.randrange(0, FRAMES - 50)

            def lose(done: int, rng: Any = rng, lost: list = lost, moment: int = moment) -> None:
                if done >= moment and not lost and pool.workers:
                    if rng.random() < 0.7:
                        lost.append("worker" if kill_a_worker(rng.randrange(9)) else "none")
                    else:
                        nodes.remove_node(nodes.nodes.pop(rng.randrange(2)), allow_graceful=False)
                        nodes.nodes.append(nodes.add_node(num_cpus=1, object_store_memory=STORE))
                        lost.append("node")

            target = tmp_path / f"{run}.mkv"
            outcome = upscale(folder, target, pool.reset(), lose)
            extra = pool.again(SEGMENTS)
            assert outcome.error == "", run
            assert extra <= 2, (run, lost)
            assert_same(target, folder / "whole.mkv")
            again += extra
            target.unlink()
            assert leftovers(tmp_path) == []
            print(
                f"run {run}: lost a {lost[0]} after {moment} frames; {extra} segments handed out again; equal",
                flush=True,
            )
        pool.close()
    print(f"30 runs equal; {again} of {30 * SEGMENTS} segments were handed out again")


def test_ten_runs_whose_driver_is_killed(folder: Path, tmp_path: Path) -> None:
    with cluster_of(2) as nodes:
        for run in range(10):
            rng, target, kills, kept = random.Random(run), tmp_path / f"{run}.mkv", 0, []
            command = [sys.executable, "-m", "srfast", "upscale", str(folder / "in.mkv"), str(target), "--resume"]
            command += ["-m", str(folder / "tiny.pth"), "--fp32", "--device", "cpu", "-c", "ffv1", "--progress", "none"]
            command += ["--ray", nodes.address]
            work = work_folder(target)
            while not target.exists():
                process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
                # Of three segments: the last would leave nothing to kill.
                wanted = min(len(list(work.glob("*.segment"))) + rng.randrange(1, 3), 2)
                while process.poll() is None and len(list(work.glob("*.segment"))) < wanted and not target.exists():
                    time.sleep(0.02)
                if kills < 2 and process.poll() is None and not target.exists():
                    process.kill()
                    kills += 1
                _, said = process.communicate(timeout=600)
                kept.append(len(list(work.glob("*.segment"))))
                assert process.returncode in (0, -9), said
            assert kills, run
            assert_same(target, folder / "whole.mkv")
            assert leftovers(tmp_path) == [target.name]
            target.unlink()
            print(f"run {run}: killed {kills} times with {kept} segments done; equal", flush=True)
