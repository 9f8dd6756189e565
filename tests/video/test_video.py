"""Video: every frame, timestamp, colour tag and other stream comes through; failures leave nothing behind."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from torch import nn

from srfast.cli import main
from srfast.errors import OutputError
from srfast.upscaler import Upscaler
from srfast.video import Encoding, iter_video, upscale_video
from srfast.video.reader import VideoReader
from tests.helpers.video.gradients import STEADY, UNEVEN, frame_times, make_clip, packets


@pytest.fixture
def upscaler(small_network: nn.Module) -> Upscaler:
    return Upscaler(small_network)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("times", [STEADY, UNEVEN, [t + 700 for t in UNEVEN]])
def test_every_timestamp_survives(tmp_path: Path, upscaler: Upscaler, suffix: str, times: list[int]) -> None:
    source = make_clip(tmp_path / f"in{suffix}", times)
    result = upscale_video(source, tmp_path / f"out{suffix}", upscaler)
    assert result.frames == len(times)
    assert frame_times(tmp_path / f"out{suffix}") == frame_times(source)
    with av.open(str(source)) as a, av.open(str(tmp_path / f"out{suffix}")) as b:
        if times is STEADY:  # else muxers derive it from decoding times, which are the encoder's own
            assert abs(a.duration - b.duration) <= 1000  # microseconds: one tick of the containers
        assert (b.streams.video[0].width, b.streams.video[0].height) == (96, 64)
        assert b.metadata["title"] == "gradient"


def test_odd_time_base(tmp_path: Path, upscaler: Upscaler) -> None:
    source = make_clip(tmp_path / "in.mp4", [1001 * i for i in range(9)], Fraction(1, 30_000))
    upscale_video(source, tmp_path / "out.mp4", upscaler)
    assert frame_times(tmp_path / "out.mp4") == [Fraction(1001 * i, 30_000) for i in range(9)]


def test_audio_is_copied_bit_for_bit(tmp_path: Path, upscaler: Upscaler) -> None:
    source = make_clip(tmp_path / "in.mp4", STEADY, audio=True)
    upscale_video(source, tmp_path / "out.mp4", upscaler)
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")
    with av.open(str(tmp_path / "out.mp4")) as c:
        assert c.streams.audio[0].metadata["language"] == "fin"
    upscale_video(source, tmp_path / "silent.mp4", upscaler, copy=())
    with av.open(str(tmp_path / "silent.mp4")) as c:
        assert [s.type for s in c.streams] == ["video"]


def test_subtitles_and_chapters_are_copied(tmp_path: Path, upscaler: Upscaler) -> None:
    plain = make_clip(tmp_path / "plain.mkv", STEADY)
    source = tmp_path / "in.mkv"
    with av.open(str(plain)) as c, av.open(str(source), "w") as out:
        video = out.add_stream_from_template(c.streams.video[0])
        titles = out.add_mux_stream("subrip")
        out.set_chapters(
            [{"id": 1, "start": 0, "end": 300, "time_base": Fraction(1, 1000), "metadata": {"title": "A"}}]
        )
        out.start_encoding()
        line = av.Packet(b"hello")
        line.stream, line.pts, line.dts, line.duration, line.time_base = titles, 80, 80, 200, Fraction(1, 1000)
        out.mux(line)
        for packet in c.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    upscale_video(source, tmp_path / "out.mkv", upscaler)
    assert packets(tmp_path / "out.mkv", "subtitle") == packets(source, "subtitle") != []
    with av.open(str(tmp_path / "out.mkv")) as c:
        assert [chapter["metadata"]["title"] for chapter in c.chapters()] == ["A"]
    with pytest.raises(OutputError, match=r"cannot hold the srt.*--no-copy-subtitle"):
        upscale_video(source, tmp_path / "out.ts", upscaler)
    assert not (tmp_path / "out.ts").exists()


@pytest.mark.parametrize(
    ("tags", "size", "expected"),
    [
        ((1, 1, 1, 1), (48, 32), (1, 1, 1, 1)),
        ((9, 2, 9, 16), (48, 32), (9, 2, 9, 16)),
        ((6, 1, 6, 6), (48, 32), (6, 1, 6, 6)),
        ((2, 0, 2, 2), (48, 32), (6, 1, 2, 2)),  # untagged and small: BT.601, said in the output
        ((2, 0, 2, 2), (32, 720), (1, 1, 2, 2)),
    ],
)
def test_colour_tags(
    tmp_path: Path, upscaler: Upscaler, tags: tuple[int, ...], size: tuple[int, int], expected: tuple[int, ...]
) -> None:
    source = make_clip(tmp_path / "in.mkv", [0, 40], tags=tags, size=size)
    upscale_video(source, tmp_path / "out.mkv", upscaler)
    with av.open(str(tmp_path / "out.mkv")) as c:
        context = c.streams.video[0].codec_context
        found = (context.colorspace, context.color_range, context.color_primaries, context.color_trc)
    assert tuple(map(int, found)) == expected


def test_ten_bits_stay_ten_bits(tmp_path: Path, upscaler: Upscaler) -> None:
    source = make_clip(tmp_path / "in.mkv", [0, 40, 80], pix_fmt="yuv420p10le")
    upscale_video(source, tmp_path / "out.mkv", upscaler)
    with av.open(str(tmp_path / "out.mkv")) as c:
        assert c.streams.video[0].codec_context.pix_fmt == "yuv420p10le"


def test_pictures_are_the_upscaled_ones(tmp_path: Path, upscaler: Upscaler) -> None:
    """Lossless in and out: the decoded result equals the network on the decoded input."""
    source = make_clip(tmp_path / "in.mkv", [0, 40, 80], pix_fmt="yuv444p", options={"qp": "0"})
    upscale_video(source, tmp_path / "out.mkv", upscaler, encoding=Encoding("ffv1", pix_fmt="yuv444p"))
    ours = [f.image for f in iter_video(source, upscaler)]
    with VideoReader(tmp_path / "out.mkv") as reader:
        written = [item.image[..., ::-1] for item in reader.items([])]
    with VideoReader(source) as reader:
        direct = [upscaler(np.ascontiguousarray(item.image[..., ::-1])) for item in reader.items([])]
    for a, b, c in zip(ours, written, direct, strict=True):
        assert np.array_equal(a, c)
        assert np.abs(a.astype(int) - b.astype(int)).max() <= 3  # one rounding to YUV


def test_iterator_tells_times(tmp_path: Path, upscaler: Upscaler) -> None:
    source = make_clip(tmp_path / "in.mkv", UNEVEN)
    frames = iter_video(source, upscaler)
    first = next(frames)
    assert (first.index, first.time, first.image.shape) == (0, 0, (64, 96, 3))
    frames.close()
    assert [f.time for f in iter_video(source, upscaler)] == [Fraction(t, 1000) for t in UNEVEN]


def test_rotation_is_carried(tmp_path: Path, upscaler: Upscaler) -> None:
    plain, source = make_clip(tmp_path / "plain.mp4", STEADY), tmp_path / "in.mp4"
    with av.open(str(plain)) as c, av.open(str(source), "w") as out:
        video = out.add_stream_from_template(c.streams.video[0])
        video.set_display_rotation(90)
        for packet in c.demux(video=0):
            if packet.size:
                packet.stream = video
                out.mux(packet)
    upscale_video(source, tmp_path / "out.mp4", upscaler)
    rotations = []
    for path in (source, tmp_path / "out.mp4"):
        with av.open(str(path)) as c:
            rotations.append(next(c.decode(video=0)).rotation)
    assert rotations[0] == rotations[1] != 0


def test_first_frames_only(tmp_path: Path, upscaler: Upscaler) -> None:
    source = make_clip(tmp_path / "in.mp4", STEADY, audio=True)
    result = upscale_video(source, tmp_path / "out.mp4", upscaler, frames=5)
    assert result.frames == 5
    assert frame_times(tmp_path / "out.mp4") == frame_times(source)[:5]
    audio = packets(source, "audio")
    assert packets(tmp_path / "out.mp4", "audio") == [p for p in audio if p[0] < Fraction(200, 1000)]


@pytest.mark.parametrize("frames", [0, -3])
def test_no_frames_are_no_limit(tmp_path: Path, upscaler: Upscaler, frames: int) -> None:
    source = make_clip(tmp_path / "in.mp4", STEADY)
    with pytest.raises(ValueError, match=f"frames takes a number from 1, not {frames}"):
        upscale_video(source, tmp_path / "out.mp4", upscaler, frames=frames)
    assert main(["upscale", str(source), str(tmp_path / "out.mp4"), "--frames", str(frames)]) == 2
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("name", ["out.y4m", "out/%03d.png"])
def test_streams_beside_frames_are_missed_loudly(
    tmp_path: Path, upscaler: Upscaler, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / "out").mkdir()
    source = make_clip(tmp_path / "in.mp4", STEADY, audio=True)
    upscale_video(source, tmp_path / name, upscaler)
    assert "the output holds frames only, so it will lack: audio (aac)" in caplog.text
    caplog.clear()
    upscale_video(source, tmp_path / name, upscaler, overwrite=True, copy=("subtitle",))
    assert "audio" not in caplog.text


@pytest.mark.parametrize("target", [".webm", ".mkv"])
@pytest.mark.parametrize("pix_fmt", ["bgra", "gbrap10le", "yuva444p"])
def test_alpha_survives_in_vp9(
    tmp_path: Path, upscaler: Upscaler, pix_fmt: str, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    """FFmpeg lists formats with alpha that libvpx refuses; what it writes is what the network made of the alpha."""
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, pix_fmt
        for i in range(3):
            rgba = np.full((32, 48, 4), 90, np.uint8)
            rgba[:, :, 3] = np.linspace(0, 255, 48).astype(np.uint8)
            rgba[:16, :24, 3] = 100 + 20 * i
            out.mux(video.encode(av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt)))
        out.mux(video.encode(None))
    result = upscale_video(source, tmp_path / f"out{target}", upscaler, encoding=Encoding("libvpx-vp9"))
    assert (result.codec, result.pix_fmt) == ("libvpx-vp9", "yuva420p")
    decoder = av.CodecContext.create("libvpx-vp9", "r")  # FFmpeg's own decoder leaves the alpha out
    with av.open(str(tmp_path / f"out{target}")) as c:
        alphas = [f.to_ndarray(format="rgba")[:, :, 3] for p in c.demux(video=0) for f in decoder.decode(p)]
    images = [f.image for f in iter_video(source, upscaler)]
    expected = [i[:, :, 3] / (257 if i.dtype == np.uint16 else 1) for i in images]
    assert len(alphas) == len(expected) == 3
    for ours, wanted in zip(alphas, expected, strict=True):
        assert np.abs(ours.astype(int) - wanted).mean() < 2
        assert np.ptp(wanted) > 200
    with VideoReader(tmp_path / f"out{target}") as reader:  # libvpx reads it, so the alpha is there
        again = [item.image for item in reader.items([])]
        assert not reader.damage
    assert all(np.array_equal(a[:, :, 3], b) for a, b in zip(again, alphas, strict=True))
    assert "alpha" not in caplog.text
