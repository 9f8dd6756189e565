"""Videos as jobs, with a process of its own: progress, cancel, resume, and the end of the process. CPU, float32, uint8 frames."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

import srfast
from srfast.errors import OutputError
from srfast.upscaler import load
from srfast.video import upscale_video
from tests.helpers.hostile.uploads import clip
from tests.helpers.server import Server, running, small_model

pytest.importorskip("fastapi", reason="the service needs srfast[serve]")
CLIP = Path(srfast.__file__).parent / "assets" / "clip.mp4"
ASKED = {"model": "tiny", "format": "mkv", "codec": "ffv1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    with running(folder, "--max-frames", "1000", "--max-pixels", "300000", "--max-jobs", "2") as made:
        yield made


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


LONG = 600  # frames of a video that takes the small network some seconds


def long_clip(path: Path) -> Path:
    """A video of ``LONG`` frames."""
    return clip(path, "mpeg4", LONG, (96, 64))


def test_a_job_gives_what_the_python_interface_gives(server: Server, tmp_path: Path) -> None:
    response = server.client.post("videos", params={**ASKED, "name": "../../a\x1b b.mp4"}, content=CLIP.read_bytes())
    assert response.status_code == 202
    job_id = response.json()["id"]
    assert server.client.get(f"videos/{job_id}/result").status_code in (200, 404)
    job = server.wait(job_id, "done", "failed")
    assert (job["state"], job["done"], job["total"], job["error"]) == ("done", 48, 48, "")
    result = server.client.get(f"videos/{job_id}/result")
    assert result.status_code == 200
    assert 'filename="a_b_tiny.mkv"' in result.headers["content-disposition"]
    (tmp_path / "result.mkv").write_bytes(result.content)
    expected = tmp_path / "expected.mkv"
    with load(small_model(tmp_path / "tiny.pth"), device="cpu") as upscaler:
        upscale_video(CLIP, expected, upscaler, encoding=srfast.Encoding("ffv1"))
    for ours, theirs in zip(frames_of(tmp_path / "result.mkv"), frames_of(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert server.client.delete(f"videos/{job_id}").status_code == 204
    assert server.client.get(f"videos/{job_id}").status_code == 404


@pytest.mark.parametrize(("frames", "size", "status"), [(1001, (16, 16), 413), (3, (600, 600), 413), (0, (0, 0), 422)])
def test_videos_beyond_the_limits_are_refused(
    server: Server, tmp_path: Path, frames: int, size: tuple[int, int], status: int
) -> None:
    content = clip(tmp_path / "clip.avi", "mpeg4", frames, size).read_bytes() if frames else b"no video"
    response = server.client.post("videos", params=ASKED, content=content)
    assert response.status_code in (status, 422)
    assert "/input" not in response.text
    assert server.client.get("videos").json() == []


def test_a_cut_off_video_is_done_with_a_note(server: Server, tmp_path: Path) -> None:
    data = clip(tmp_path / "clip.avi", "mpeg4", 60, (96, 64)).read_bytes()
    job = server.client.post("videos", params=ASKED, content=data[: len(data) // 2]).json()
    job = server.wait(job["id"], "done", "failed")
    assert 0 < job["done"] < 60
    assert "damaged" in job["notes"]
    server.client.delete(f"videos/{job['id']}")


@pytest.mark.parametrize(
    ("codec", "suffix"), [("libx264", "webm"), ("ffv1", "mov"), ("prores_ks", "mp4"), (None, "webm")]
)
def test_what_the_container_cannot_hold_is_refused_before_it_is_queued(
    server: Server, tmp_path: Path, codec: str | None, suffix: str
) -> None:
    """With the sentence of the command; the clip's sound is AAC, which WebM does not take."""
    with load(small_model(tmp_path / "tiny.pth"), device="cpu") as upscaler, pytest.raises(OutputError) as refused:
        upscale_video(CLIP, tmp_path / f"result.{suffix}", upscaler, encoding=srfast.Encoding(codec))
    asked = {"model": "tiny", "format": suffix, **({"codec": codec} if codec else {})}
    response = server.client.post("videos", params=asked, content=CLIP.read_bytes())
    assert (response.status_code, response.json()) == (422, {"error": str(refused.value)})
    assert server.client.get("videos").json() == []


def test_jobs_beyond_the_queue_are_told_to_come_later(server: Server, tmp_path: Path) -> None:
    content = long_clip(tmp_path / "long.avi").read_bytes()
    ids = []
    for _ in range(2):
        response = server.client.post("videos", params=ASKED, content=content)
        assert response.status_code == 202
        ids.append(response.json()["id"])
    response = server.client.post("videos", params=ASKED, content=content)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) > 0
    assert [job["id"] for job in server.client.get("videos").json()] == ids
    server.wait(ids[0], "running")
    for job_id in reversed(ids):  # the waiting one, and the one at hand
        assert server.client.post(f"videos/{job_id}/cancel").json()["state"] == "cancelled"
        assert server.client.post(f"videos/{job_id}/cancel").status_code == 404
        assert server.client.delete(f"videos/{job_id}").status_code == 204


def test_a_cancelled_job_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    path = long_clip(tmp_path / "long.avi")
    job_id = server.client.post("videos", params=ASKED, content=path.read_bytes()).json()["id"]
    server.done(job_id, 125)
    job = server.client.post(f"videos/{job_id}/cancel").json()
    assert job["state"] == "cancelled" and 0 < job["done"] < LONG
    assert server.client.get(f"videos/{job_id}/result").status_code == 404
    assert server.client.post(f"videos/{job_id}/resume").json()["state"] in ("queued", "running")
    seen = set()
    while (job := server.client.get(f"videos/{job_id}").json())["state"] != "done":
        assert job["state"] in ("queued", "running"), job
        seen.add(job["done"])
    assert job["done"] == LONG
    assert min(seen, default=LONG) >= 120  # the first segment was not done again
    server.client.delete(f"videos/{job_id}")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: signal.Signals(number).name)
def test_a_job_survives_the_end_of_the_server(tmp_path: Path, how: int) -> None:
    path = long_clip(tmp_path / "long.avi")
    with running(tmp_path, end=how) as server:
        job_id = server.client.post("videos", params=ASKED, content=path.read_bytes()).json()["id"]
        other = server.client.post("videos", params=ASKED, content=CLIP.read_bytes()).json()["id"]
        server.done(job_id, 125)
    if how == signal.SIGTERM:
        assert server.process.returncode == 0
    state = json.loads((tmp_path / "jobs" / job_id / "job.json").read_text())["state"]
    assert state in (("queued", "done") if how == signal.SIGTERM else ("running", "done"))
    (tmp_path / "jobs" / ("0" * 32)).mkdir()  # an upload that never came to its end
    with running(tmp_path) as server:
        assert [job["id"] for job in server.client.get("videos").json()] == [job_id, other]
        for one, count in ((job_id, LONG), (other, 48)):
            assert server.wait(one, "done", "failed")["done"] == count
            (tmp_path / "result.mkv").write_bytes(server.client.get(f"videos/{one}/result").content)
            assert len(frames_of(tmp_path / "result.mkv")) == count
    assert not (tmp_path / "jobs" / ("0" * 32)).exists()
    with load(small_model(tmp_path / "tiny.pth"), device="cpu") as upscaler:
        upscale_video(CLIP, tmp_path / "expected.mkv", upscaler, encoding=srfast.Encoding("ffv1"))
    assert all(map(np.array_equal, frames_of(tmp_path / "result.mkv"), frames_of(tmp_path / "expected.mkv")))


def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    with running(tmp_path), pytest.raises(AssertionError, match="another service uses"), running(tmp_path):
        pass
