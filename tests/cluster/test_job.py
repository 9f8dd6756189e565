"""Jobs of videos on machines in this process, whose faults are made to order: what is done, named, kept and resumed."""

from __future__ import annotations

import errno
import logging
import os
import random
import threading
import time
import types
from pathlib import Path
from typing import Any

import pytest

from srfast import cluster
from srfast.cluster.job import work_folder
from srfast.cluster.plan import Plan
from srfast.cluster.schedule import Task
from srfast.errors import OutputError
from srfast.video import Encoding
from tests.helpers.video.children import save_tiny
from tests.helpers.video.gradients import leftovers
from tests.helpers.video.pools import LocalPool
from tests.helpers.video.ray_nodes import wait_for
from tests.helpers.video.segments import LOSSLESS, assert_same, content, in_one_run, in_segments, moving_clip

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
    at, check = [""], Plan.check_version
    other = types.FunctionType(check.__code__, check.__globals__ | {"__version__": "9.9"})

    def check_there(plan: Plan) -> None:
        # The output is joined on the driver, in a thread of its own.
        (other if at[0] == "south" and threading.current_thread() is threading.main_thread() else check)(plan)

    def fault(node: str, task: Task, plan: str) -> Any:
        at[0] = node
        return None

    monkeypatch.setattr(Plan, "check_version", check_there)
    outcome = upscale(folder, tmp_path / "out.mkv", LocalPool(NODES, fault))
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


def joining(target: Path) -> list[Path]:
    """The unfinished output in the work folder."""
    return list(work_folder(target).glob(f".*.srfast-partial{target.suffix}"))


def test_the_output_is_written_while_segments_are_still_computed(folder: Path, tmp_path: Path) -> None:
    sizes = []

    def fault(node: str, task: Task, plan: str) -> Any:
        if task.segment == 5:
            wait_for(lambda: any(path.stat().st_size > 50_000 for path in joining(tmp_path / "out.mkv")))
            sizes.append(sum(path.stat().st_size for path in joining(tmp_path / "out.mkv")))
        return None

    assert upscale(folder, tmp_path / "out.mkv", LocalPool(["north"], fault)).error == ""
    whole = (folder / "whole.mkv").stat().st_size
    assert 50_000 < sizes[0] < whole
    assert_same(tmp_path / "out.mkv", folder / "whole.mkv")


def test_a_later_segment_that_reorders_more_deeply(folder: Path, tmp_path: Path, caplog: Any) -> None:
    """The first segment is one frame, which needs no earlier decoding times; the output, begun so, is begun again."""
    caplog.set_level(logging.INFO, "srfast")
    moving_clip(tmp_path / "in.mkv", "ffv1", frames=26, gop=1, bframes=0, step=[400] + [40] * 25)
    (tmp_path / "tiny.pth").write_bytes((folder / "tiny.pth").read_bytes())
    encoding = Encoding("libx264", crf=18, options={"x264-params": "bframes=3:b-adapt=0"})
    assert upscale(tmp_path, tmp_path / "out.mp4", LocalPool(NODES), encoding=encoding).error == ""
    assert [r.getMessage() for r in caplog.records if "the output is begun again" in r.getMessage()]
    shown = [0, *range(400, 1400, 40)]
    found = content(tmp_path / "out.mp4")
    assert [round(1000 * frame[0]) for frame in found["frames"]] == shown
    # Pyramids of three B-frames reorder by two: the decoding times are those of the frames, two earlier.
    decoding = [round(1000 * time) for time in found["decoding"]]
    assert decoding[0] < decoding[1] < 0 and decoding[2:] == shown[:-2]
    in_segments(
        tmp_path / "in.mkv", tmp_path, tmp_path / "by_hand.mp4", str(folder / "tiny.pth"), 0.3, encoding=encoding
    )
    assert_same(tmp_path / "out.mp4", tmp_path / "by_hand.mp4")


def test_an_output_that_cannot_be_written_ends_its_video_early(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OutputError("cannot write the output: No space left on device")

    def fault(node: str, task: Task, plan: str) -> Any:
        if task.segment > 1:
            time.sleep(0.2)
        return None

    pool = LocalPool(["north"], fault)
    with monkeypatch.context() as patch:
        patch.setattr("srfast.cluster.joining.write_container", full)
        outcome = upscale(folder, tmp_path / "out.mkv", pool)
    assert outcome.code == 7 and outcome.error.endswith("in.mkv: cannot write the output: No space left on device")
    assert len(pool.submitted) < 6
    assert leftovers(tmp_path) == [work_folder(tmp_path / "out.mkv").name]
    assert upscale(folder, tmp_path / "out.mkv", LocalPool(NODES), resume=True).error == ""
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
