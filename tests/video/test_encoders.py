"""What an encoder is given by default: formats that it takes, its own usual quality, and words where it refuses; no device."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from torch import nn

from srfast.errors import OutputError
from srfast.upscaler import Upscaler
from srfast.video import Encoding, upscale_video
from srfast.video.reader import VideoReader
from tests.helpers.video.gradients import STEADY, make_clip


@pytest.fixture
def upscaler(small_network: nn.Module) -> Upscaler:
    return Upscaler(small_network)


def transparent(path: Path, pix_fmt: str) -> Path:
    """Three frames whose alpha rises from the left to the right."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, pix_fmt
        rgba = np.full((32, 48, 4), 90, np.uint8)
        rgba[:, :, 3] = np.linspace(0, 255, 48).astype(np.uint8)
        for _ in range(3):
            out.mux(video.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt)))
        out.mux(video.encode(None))
    return path


@pytest.mark.parametrize(("pix_fmt", "kept"), [("yuva420p", "yuv420p"), ("yuva444p10le", "yuv444p10le")])
def test_alpha_is_left_out_where_x265_has_none(
    tmp_path: Path, upscaler: Upscaler, caplog: pytest.LogCaptureFixture, pix_fmt: str, kept: str
) -> None:
    """FFmpeg lists formats with alpha for every x265, and most are built without."""
    source = transparent(tmp_path / "in.mkv", pix_fmt)
    result = upscale_video(source, tmp_path / "out.mp4", upscaler, encoding=Encoding("libx265"))
    assert (result.codec, result.pix_fmt, result.frames) == ("libx265", kept, 3)
    assert "has no alpha" in caplog.text


def test_alpha_survives_in_vp8(tmp_path: Path, upscaler: Upscaler, caplog: pytest.LogCaptureFixture) -> None:
    source = transparent(tmp_path / "in.mkv", "yuva420p")
    result = upscale_video(source, tmp_path / "out.webm", upscaler, encoding=Encoding("libvpx"))
    assert (result.codec, result.pix_fmt) == ("libvpx", "yuva420p")
    with VideoReader(tmp_path / "out.webm") as reader:
        alphas = [item.image[:, :, 3].astype(float).mean(0) for item in reader.items([])]
    assert len(alphas) == 3
    for alpha in alphas:
        assert np.abs(alpha - np.linspace(0, 255, 96)).max() < 12
    assert "alpha" not in caplog.text


@pytest.mark.parametrize(
    ("name", "encoder"),
    [("h264", "libx264"), ("hevc", "libx265"), ("vp9", "libvpx-vp9"), ("av1", "libsvtav1")],
)
def test_the_name_of_a_format_is_that_of_its_encoder(
    tmp_path: Path, upscaler: Upscaler, name: str, encoder: str
) -> None:
    """Its usual quality, its silence and its remedies are known by the encoder's own name."""
    assert av.Codec(name, "w").name == encoder
    source = make_clip(tmp_path / "in.mp4", STEADY)
    first, second = (
        upscale_video(source, tmp_path / f"{codec}.mkv", upscaler, encoding=Encoding(codec), frames=2)
        for codec in (name, encoder)
    )
    assert (first.codec, first.pix_fmt) == (second.codec, second.pix_fmt) == (encoder, "yuv420p")
    with av.open(str(tmp_path / f"{name}.mkv")) as a, av.open(str(tmp_path / f"{encoder}.mkv")) as b:
        assert [bytes(p) for p in a.demux(video=0)] == [bytes(p) for p in b.demux(video=0)]


@pytest.mark.parametrize(("pix_fmt", "tag"), [("yuv420p", "apch"), ("yuv444p", "ap4h")])
def test_prores_is_tagged_as_what_it_holds(tmp_path: Path, upscaler: Upscaler, pix_fmt: str, tag: str) -> None:
    """ProRes 4444 is of 4:4:4; a video of 4:2:0 becomes 4:2:2, which is HQ."""
    source = make_clip(tmp_path / "in.mkv", STEADY, pix_fmt=pix_fmt)
    upscale_video(source, tmp_path / "out.mov", upscaler, encoding=Encoding("prores_ks"))
    with av.open(str(tmp_path / "out.mov")) as c:
        assert c.streams.video[0].codec_context.codec_tag == tag


@pytest.mark.parametrize(("options", "named"), [({}, True), ({"flags": "+bitexact"}, False)])
def test_flags_of_ones_own_stay_beside_that_of_the_quality(
    tmp_path: Path, upscaler: Upscaler, options: dict[str, str], named: bool
) -> None:
    """MPEG-4's quality is a flag too; with that for the same bits everywhere the encoder leaves its name out."""
    source = make_clip(tmp_path / "in.mp4", STEADY)
    upscale_video(source, tmp_path / "out.avi", upscaler, encoding=Encoding("mpeg4", options=options))
    with av.open(str(tmp_path / "out.avi")) as c:
        data = bytes(next(c.demux(video=0)))
    assert (b"Lavc" in data) == named


def test_a_refusal_says_why(tmp_path: Path, upscaler: Upscaler) -> None:
    """FFmpeg's error code is that of every wrong argument; what it logs tells more."""
    source = make_clip(tmp_path / "in.mp4", STEADY)
    with pytest.raises(OutputError, match=r"dnxhd refuses 96x64 yuv422p .*Invalid argument; .*DNxHD"):
        upscale_video(source, tmp_path / "out.mov", upscaler, encoding=Encoding("dnxhd"))


def timed(path: Path, times: list[int]) -> Path:
    """A video of frames that are shown at these milliseconds."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((48, 48), 10 * number, np.uint8), format="yuv420p")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


@pytest.mark.parametrize("options", [{}, {"bf": "2"}])
@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
@pytest.mark.parametrize(
    "times",
    [
        [40 * n for n in range(12)],
        [13 + 40 * n for n in range(12)],  # off the grid of its rate
        [40 * n + (n % 2) for n in range(12)],
        [40 * n for n in range(14) if n not in (4, 5)],
    ],
    ids=["steady", "late", "uneven", "a gap"],
)
def test_mpeg_1_and_2_keep_the_times_of_any_clock(
    tmp_path: Path, upscaler: Upscaler, times: list[int], codec: str, options: dict[str, str]
) -> None:
    """Their clock is the frame rate, and that of most files is a finer one."""
    source, encoding = timed(tmp_path / "in.mkv", times), Encoding(codec, options=options)
    upscale_video(source, tmp_path / "out.mkv", upscaler, encoding=encoding, segment=5)
    with av.open(str(tmp_path / "out.mkv")) as c:
        assert [frame.pts for frame in c.decode(video=0)] == times


@pytest.mark.parametrize(("codec", "step"), [("mpeg1video", 100), ("mpeg2video", 58)])
def test_rates_that_mpeg_1_and_2_do_not_know_are_refused(
    tmp_path: Path, upscaler: Upscaler, codec: str, step: int
) -> None:
    source = timed(tmp_path / "in.mkv", [step * n for n in range(12)])
    said = f"{codec} knows the usual frame rates only, and this video has {1000 / step:.4g}.* use another encoder"
    with pytest.raises(OutputError, match=said):
        upscale_video(source, tmp_path / "out.mkv", upscaler, encoding=Encoding(codec))
    assert upscale_video(source, tmp_path / "out.mkv", upscaler).frames == 12
