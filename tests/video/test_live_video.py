"""Live video as a function: frames within a latency into a file, all of them accounted for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from srfast.errors import InputError, OutputError
from srfast.models import SRVGGNetCompact
from srfast.upscaler import Upscaler
from srfast.video import Encoding, upscale_live


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 32, 24, "yuv420p"
        sound = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), 30 * i, np.uint8), format="rgb24")
            out.mux(video.encode(frame.reformat(format="yuv420p")))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), format="s16", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = 8000, 0, Fraction(1, 8000)
        out.mux(sound.encode(samples))
        out.mux(video.encode(None))
    return path


@pytest.fixture
def model() -> Upscaler:
    torch.manual_seed(0)
    return Upscaler(SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2), device="cpu", dtype="fp32")


def decoded(path: Path) -> list[tuple[int, Fraction]]:
    with av.open(str(path)) as container:
        assert [s.type for s in container.streams] == ["video"]
        return [(f.width, f.pts * f.time_base) for f in container.decode(video=0)]


def test_a_file_gets_all_frames_at_their_times(
    clip: Path, tmp_path: Path, model: Upscaler, caplog: pytest.LogCaptureFixture
) -> None:
    result = upscale_live(clip, tmp_path / "out.mkv", model, max_latency=60, encoding=Encoding("ffv1"))
    counts = result.statistics
    assert counts.received == 6 == counts.full + counts.lighter + counts.bicubic + counts.dropped
    assert result.frames == 6 - counts.dropped
    assert (result.width, result.height, result.interrupted) == (64, 48, False)
    frames = decoded(tmp_path / "out.mkv")
    assert len(frames) == result.frames
    assert {width for width, _ in frames} == {64}
    assert {time for _, time in frames} <= {Fraction(i, 25) for i in range(6)}
    assert "a live run carries frames only, so the output will lack: audio (pcm_s16le)" in caplog.text


def test_numbered_images(clip: Path, tmp_path: Path, model: Upscaler) -> None:
    result = upscale_live(clip, tmp_path / "%03d.png", model, max_latency=60, frames=2)
    assert len(list(tmp_path.glob("*.png"))) == result.frames <= 2
    assert result.statistics.received == 2


@pytest.mark.parametrize(
    ("target", "encoding", "error", "says"),
    [
        ("out.mp4", Encoding("ffvhuff"), OutputError, "cannot hold ffvhuff"),
        ("out.ts", Encoding("png"), OutputError, "cannot hold png"),
        ("out.xyz", None, OutputError, "cannot tell a video container"),
        ("in.mkv", None, OutputError, "the input itself"),
        ("out.mkv", Encoding("nothing"), OutputError, "no encoder called"),
        ("%03d.png", Encoding("libx264"), OutputError, "no encoder to be given: codec"),
        ("%03d.jpg", Encoding(crf=1, pix_fmt="gray", options={"a": "b"}), OutputError, "crf, pix_fmt, options"),
    ],
)
def test_what_would_fail_is_refused_before_the_first_frame(
    clip: Path,
    tmp_path: Path,
    model: Upscaler,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    encoding: Encoding | None,
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.setattr(Upscaler, "__call__", None)  # no frame is made
    with pytest.raises(error, match=says):
        upscale_live(clip, tmp_path / target, model, max_latency=60, encoding=encoding)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]


def test_mistakes(clip: Path, tmp_path: Path, model: Upscaler) -> None:
    with pytest.raises(ValueError, match="frames takes a number from 1"):
        upscale_live(clip, tmp_path / "out.mkv", model, frames=0)
    with pytest.raises(ValueError, match="max_latency"):
        upscale_live(clip, tmp_path / "out.mkv", model, max_latency=0)
    with pytest.raises(InputError, match="missing"):
        upscale_live(tmp_path / "no.mkv", tmp_path / "out.mkv", model)
    assert [p.name for p in tmp_path.iterdir()] == ["in.mkv"]
