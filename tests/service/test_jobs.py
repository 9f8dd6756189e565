"""The queue of jobs by itself: what ends a process over and over, what is old, and paths that are not open. No frames."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from srfast.errors import InputError, OutputError
from srfast.service.config import Request, ServiceOptions
from srfast.service.jobs import BusyError, Job, JobStore, NoJobError, check_source


def store(folder: Path, **options: float) -> JobStore:
    def work(job, source, target, tell):
        if source.read_bytes() == b"fails":
            raise OutputError(f"cannot write {target} of {source}")
        target.write_bytes(source.read_bytes() * 2)
        return ""

    return JobStore(ServiceOptions(folder, **options), work)


def submitted(jobs: JobStore, content: bytes = b"x", owner: str = "") -> Job:
    place = jobs.reserve()
    (place / "input").write_bytes(content)
    return jobs.submit(place, Job(place.name, "clip.mp4", "video", Request("tiny"), owner=owner))


def ended(jobs: JobStore, job_id: str) -> Job:
    for _ in range(500):
        if jobs.get(job_id).state in ("done", "failed", "cancelled"):
            return jobs.get(job_id)
        time.sleep(0.01)
    raise AssertionError(jobs.get(job_id))


def test_jobs_are_done_in_turn_and_belong_to_their_owner(tmp_path: Path) -> None:
    jobs = store(tmp_path)
    first, second = submitted(jobs, b"1", "a"), submitted(jobs, b"fails", "b")
    jobs.start()
    assert jobs.output(ended(jobs, first.id)).read_bytes() == b"11"
    failed = ended(jobs, second.id)
    assert failed.state == "failed"
    assert failed.error == "cannot write clip_tiny.mp4 of clip.mp4"  # no names of the service's own files
    assert [job.id for job in jobs.all("a")] == [first.id]
    with pytest.raises(NoJobError):
        jobs.resume(first.id)
    assert jobs.resume(second.id).state == "queued"
    jobs.stop()


def test_what_ends_the_process_is_not_started_for_ever(tmp_path: Path) -> None:
    jobs = store(tmp_path)
    job = submitted(jobs)
    jobs.stop()
    for attempts, state in ((1, "queued"), (3, "failed")):
        path = tmp_path / job.id / "job.json"
        path.write_text(json.dumps(asdict(replace(job, state="running", attempts=attempts))))
        jobs = store(tmp_path)
        assert jobs.get(job.id).state == state
        jobs.stop()


def test_a_full_queue_and_old_jobs(tmp_path: Path) -> None:
    jobs = store(tmp_path, jobs_waiting=2, keep_hours=1e-9)
    first, _ = submitted(jobs), submitted(jobs)
    with pytest.raises(BusyError):
        submitted(jobs)
    jobs.cancel(first.id)
    time.sleep(0.01)
    submitted(jobs)
    with pytest.raises(NoJobError):
        jobs.get(first.id)  # it was old
    assert not (tmp_path / first.id).exists()
    jobs.stop()


def test_a_state_that_is_no_state_is_removed(tmp_path: Path) -> None:
    for number, content in enumerate(("", "[]", "{}", '{"request": {}}', '{"request": {"model": "x"}, "id": "y"}')):
        place = tmp_path / f"{number:032x}"
        place.mkdir()
        (place / "job.json").write_text(content)
    (tmp_path / "other").mkdir()
    jobs = store(tmp_path)
    assert jobs.all() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "other"]
    jobs.stop()


def test_only_files_in_open_folders_can_be_named(tmp_path: Path) -> None:
    inside, outside = tmp_path / "open", tmp_path / "open-not"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "clip.mp4").write_bytes(b"x")
    (inside / "link.mp4").symlink_to(outside / "clip.mp4")
    assert check_source(str(inside / "clip.mp4"), (inside,)) == inside / "clip.mp4"
    for name in (
        outside / "clip.mp4",
        inside / ".." / "open-not" / "clip.mp4",
        inside / "link.mp4",
        inside,
        inside / "missing",
        "/etc/passwd",
        "clip.mp4",
        "",
        "\0",
        "http://127.0.0.1/clip.mp4",
    ):
        with pytest.raises(InputError, match="no file in the folders"):
            check_source(str(name), (inside,))
    with pytest.raises(InputError):
        check_source(str(inside / "clip.mp4"), ())


@pytest.mark.parametrize(
    "values",
    [
        {"model": "/etc/passwd"},
        {"codec": "rawvideo"},
        {"suffix": "m3u8"},
        {"scale": 9.0},
        {"scale": float("nan")},
        {"crf": -1.0},
    ],
)
def test_requests_are_held_to_what_is_offered(tmp_path: Path, values: dict) -> None:
    request = Request(**{"model": "compact_x2", **values})
    with pytest.raises(InputError):
        request.check(ServiceOptions(tmp_path), ("mp4", "mkv"))
