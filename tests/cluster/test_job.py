"""Jobs of videos on machines in this process, whose faults are made to order: what is done, named, kept and resumed."""

from __future__ import annotations

import errno
import logging
import os
import random
from pathlib import Path
from typing import Any

import pytest

from srfast import cluster
from srfast.cluster.job import work_folder
from srfast.cluster.schedule import Task
from srfast.video import Encoding
from tests.helpers.video.children import save_tiny
from tests.helpers.video.gradients import leftovers
from tests.helpers.video.pools import LocalPool
from tests.helpers.video.segments import LOSSLESS, assert_same, in_one_run, moving_clip

NODES = ["north", "south"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a clip of six segments, and whole.mkv by a single run."""
    folder = tmp_path_factory.mktemp("job")
    save_tiny(folder / "tiny.pth")
    moving_clip(folder / "in.mkv", frames=60, beside=True)
    in_one_run(folder / "in.mkv", folder / "whole.mkv", str(folder / "tiny.pth"))
    return folder


def upscale(folder: Path, target: Path, pool: LocalPool, **options: Any) -> cluster.Outcome:
    options = {"encoding": LOSSLESS, "seconds": 0.3, "device": "cpu", "dtype": "fp32"} | options
    return cluster.upscale(folder / "in.mkv", target, str(folder / "tiny.pth"), pool=pool, **options)[0]


@pytest.mark.parametrize("shared", [True, False])
def test_a_job_gives_what_a_single_run_gives(folder: Path, tmp_path: Path, shared: bool) -> None:
    pool, told = LocalPool(NODES, shared=shared), []
    outcome = upscale(folder, tmp_path / "out.mkv", pool, on_progress=lambda *state: told.append(state))
    assert (outcome.error, outcome.code) == ("", 0)
    assert_same(tmp_path / "out.mkv", folder / "whole.mkv")
    assert leftovers(tmp_path) == ["out.mkv"]
    assert [task.segment for _, task in pool.submitted] == list(range(6))
    assert {node for node, _ in pool.submitted} == set(NODES)
    assert [state[:2] for state in told] == [(10 * done, 60) for done in range(7)]
    report = cluster.as_dict(outcome.joined, outcome.plan, outcome.target)
    assert set(report["hosts"]) == set(NODES) and sum(host["frames"] for host in report["hosts"].values()) == 60


def test_workers_that_are_lost_at_random_cost_their_segments_only(folder: Path, tmp_path: Path) -> None:
    for seed in range(5):
        rng, lost = random.Random(seed), []

        def fault(node: str, task: Task, plan: str, rng: random.Random = rng, lost: list = lost) -> Any:
            if len(lost) < 4 and rng.random() < 0.4:
                lost.append(task)
                return "lost"
            return None

        pool = LocalPool(NODES, fault)
        outcome = upscale(folder, tmp_path / f"{seed}.mkv", pool)
        assert outcome.error == ""
        assert len(pool.submitted) - 6 <= 2 * len(lost)
        assert_same(tmp_path / f"{seed}.mkv", folder / "whole.mkv")


def test_a_full_disk_on_one_machine_is_named_and_the_other_does_the_work(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = {"error": f"cannot write the output: {os.strerror(errno.ENOSPC)}; make room first (on south)", "code": 7}
    pool = LocalPool(NODES, lambda node, task, plan: full if node == "south" else None)
    outcome = upscale(folder, tmp_path / "out.mkv", pool)
    assert outcome.error == ""
    assert_same(tmp_path / "out.mkv", folder / "whole.mkv")
    lines = [r.getMessage() for r in caplog.records if "gets no more segments" in r.getMessage()]
    assert lines == [f"south gets no more segments: {full['error']}"]
    assert sum(node == "south" for node, _ in pool.submitted) <= 3  # two failures, and what it had already


def test_a_source_that_no_machine_can_read_is_named(folder: Path, tmp_path: Path) -> None:
    def fault(node: str, task: Task, plan: str) -> Any:
        if (tmp_path / "in.mkv").exists():
            (tmp_path / "in.mkv").rename(tmp_path / "moved.mkv")
        return None

    (tmp_path / "in.mkv").write_bytes((folder / "in.mkv").read_bytes())
    (tmp_path / "tiny.pth").write_bytes((folder / "tiny.pth").read_bytes())
    outcome = upscale(tmp_path, tmp_path / "out.mkv", LocalPool(NODES, fault))
    assert outcome.code == 6 and outcome.joined is None
    assert "cannot read" in outcome.error and "in.mkv: No such file" in outcome.error
    assert "failed 3 times" in outcome.error and "(on " in outcome.error


def test_another_version_on_a_machine_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(node: str, task: Task, plan: str) -> Any:
        monkeypatch.setattr("srfast.cluster.plan.__version__", "9.9" if node == "south" else version)
        return None

    from srfast._version import __version__ as version

    outcome = upscale(folder, tmp_path / "out.mkv", LocalPool(NODES, fault))
    monkeypatch.undo()
    assert outcome.error == ""
    assert "this is 9.9: install one version on all machines" in caplog.text and "(on south)" in caplog.text


def test_a_segment_that_always_fails_ends_with_a_name_and_the_rest_is_kept(folder: Path, tmp_path: Path) -> None:
    def fault(node: str, task: Task, plan: str) -> Any:
        return {"error": "CUDA error", "code": 1} if task.segment == 4 else None

    outcome = upscale(folder, tmp_path / "out.mkv", LocalPool(NODES, fault))
    assert outcome.code == 1 and not (tmp_path / "out.mkv").exists()
    assert outcome.error.endswith("in.mkv: segment 4 failed 3 times: CUDA error; the rest is kept for --resume")
    kept = {int(path.stem) for path in work_folder(tmp_path / "out.mkv").glob("*.segment")}
    assert kept >= {0, 1, 2, 3}
    refused = upscale(folder, tmp_path / "out.mkv", LocalPool(NODES))
    assert "give --resume to continue it, or -y" in refused.error and refused.code == 7
    pool = LocalPool(NODES)
    assert upscale(folder, tmp_path / "out.mkv", pool, resume=True).error == ""
    assert {task.segment for _, task in pool.submitted} == set(range(6)) - kept
    assert_same(tmp_path / "out.mkv", folder / "whole.mkv")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_a_driver_that_ends_is_resumed(folder: Path, tmp_path: Path, kind: type[BaseException]) -> None:
    def fault(node: str, task: Task, plan: str) -> Any:
        if task.segment == 3:
            raise kind
        return None

    pool = LocalPool(["north"], fault)
    with pytest.raises(kind, match="30 of 60 frames are kept .*--resume" if kind is KeyboardInterrupt else None):
        upscale(folder, tmp_path / "out.mkv", pool)
    assert not (tmp_path / "out.mkv").exists()
    other = upscale(folder, tmp_path / "out.mkv", LocalPool(NODES), resume=True, encoding=Encoding("libx264"))
    assert "had another input, model, encoding or srfast" in other.error
    pool = LocalPool(NODES)
    assert upscale(folder, tmp_path / "out.mkv", pool, resume=True).error == ""
    assert sorted(task.segment for _, task in pool.submitted) == [3, 4, 5]
    assert_same(tmp_path / "out.mkv", folder / "whole.mkv")
    assert leftovers(tmp_path) == ["out.mkv"]


def test_a_library_of_mixed_formats_with_a_broken_file(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kinds = [
        (".mp4", "libx264"),
        (".mkv", "libx265"),
        (".webm", "libvpx-vp9"),
        (".ts", "mpeg2video"),
        (".avi", "mpeg4"),
    ]
    kinds += [
        (".mov", "mpeg4"),
        (".mkv", "ffv1"),
        (".mp4", "mpeg4"),
        (".nut", "libx264"),
        (".mkv", "mpeg2video"),
        (".mov", "libx264"),
    ]
    sources = []
    for number, (suffix, codec) in enumerate(kinds):
        fmt = {"bframes": 0} if codec not in ("libx264", "mpeg2video") else {"bframes": 2}
        sources.append(moving_clip(tmp_path / f"{number}{suffix}", codec, frames=12 + 4 * number, size=(32, 32), **fmt))
    (tmp_path / "broken.mp4").write_bytes(b"not a video" * 100)
    sources.insert(5, tmp_path / "broken.mp4")
    targets = [
        tmp_path / f"out{number}{'.mkv' if path.suffix == '.webm' else path.suffix}"
        for number, path in enumerate(sources)
    ]
    outcomes = cluster.upscale(
        sources, targets, str(folder / "tiny.pth"), pool=LocalPool(NODES), seconds=0.3, device="cpu", dtype="fp32"
    )
    assert [bool(outcome.joined) for outcome in outcomes] == [path.name != "broken.mp4" for path in sources]
    assert [(outcome.source, outcome.code) for outcome in outcomes if outcome.code] == [
        (str(tmp_path / "broken.mp4"), 6)
    ]
    assert "broken.mp4 is not a video that can be read" in next(o.error for o in outcomes if o.error)
    assert [o.joined.result.frames for o in outcomes if o.joined] == [12 + 4 * n for n in range(11)]
    assert all(
        target.exists() == ("broken" not in source.name) for source, target in zip(sources, targets, strict=True)
    )
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]
