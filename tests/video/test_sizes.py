"""Heights and sizes are those that a player shows; animations keep how often they are shown; AVI keeps uneven times."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from srfast.errors import OutputError
from srfast.upscaler import Upscaler
from srfast.video import Encoding, upscale_video
from srfast.video.animation import plays_of
from srfast.video.keeping import way_out
from srfast.video.rate import even_rate
from srfast.video.reader import VideoReader
from tests.helpers.video.children import tiny, tiny_network
from tests.helpers.video.gradients import frame_times, make_clip


def rotated(path: Path, degrees: int, aspect: Fraction = Fraction(1)) -> Path:
    matrices = {90: (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30), 180: (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30)}
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.sample_aspect_ratio = aspect
        if degrees:
            video.set_display_matrix(matrices[degrees])
        for i in range(3):
            image = np.full((48, 64, 3), 40 * i, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")))
        out.mux(video.encode(None))
    return path


def shown(path: Path) -> tuple[int, int, int]:
    with VideoReader(path) as reader:
        return reader.width, reader.height, reader.rotation % 360


@pytest.mark.parametrize(
    ("degrees", "asked", "expected"),
    [
        (90, {"height": 100}, (76, 100, 0)),  # 48 x 64 upright
        (90, {"size": (60, 80)}, (60, 80, 0)),
        (180, {"height": 100}, (134, 100, 180)),
        (0, {"height": 100}, (134, 100, 0)),
        (90, {}, (128, 96, 270)),  # nothing asked for: the rotation stays a tag
    ],
)
def test_a_height_is_that_of_the_picture(
    tmp_path: Path, degrees: int, asked: dict[str, object], expected: tuple[int, int, int]
) -> None:
    source = rotated(tmp_path / "in.mp4", degrees)
    upscale_video(source, tmp_path / "out.mp4", Upscaler(tiny_network(), **asked))  # type: ignore[arg-type]
    made = shown(tmp_path / "out.mp4")
    assert made[:2] == expected[:2]
    assert made[2] in (expected[2], (360 - expected[2]) % 360)


def test_a_size_keeps_the_shape_of_what_is_shown(tmp_path: Path) -> None:
    source = rotated(tmp_path / "in.mkv", 0, Fraction(4, 3))  # shown as 85.3 x 48
    upscale_video(source, tmp_path / "out.mkv", Upscaler(tiny_network(), size=(160, 90)))
    with VideoReader(tmp_path / "out.mkv") as reader:
        assert float((reader.aspect or 1) * reader.width / reader.height) == pytest.approx(16 / 9, rel=1e-3)
    upscale_video(source, tmp_path / "same.mkv", tiny())
    with VideoReader(tmp_path / "same.mkv") as reader:
        assert reader.aspect == Fraction(4, 3)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
@pytest.mark.parametrize("plays", [0, 1, 3])
def test_animations_are_shown_as_often(tmp_path: Path, suffix: str, plays: int) -> None:
    frames = [Image.new("RGBA", (16, 12), (60 * i, 0, 0, 255)) for i in range(3)]
    source = tmp_path / f"in{suffix}"
    count = {"loop": plays} if suffix != ".gif" else {} if plays == 1 else {"loop": max(0, plays - 1)}
    frames[0].save(source, save_all=True, append_images=frames[1:], duration=100, **count)
    assert plays_of(source) == plays
    out = tmp_path / f"out{suffix}"
    upscale_video(source, out, tiny())
    assert plays_of(out) == plays
    with Image.open(out) as made:
        assert made.n_frames == 3
        assert made.info.get("loop") == (
            None if suffix == ".gif" and plays == 1 else plays - (suffix == ".gif" and plays > 1)
        )


@pytest.mark.parametrize("plays", [0, 1, 3])
def test_an_avif_is_shown_as_often(tmp_path: Path, plays: int) -> None:
    """By the length of its track, in those of the one edit that a flag says is repeated (ISO 14496-12, 8.6.6)."""
    frames = [Image.new("RGB", (64, 64), (60 * i, 0, 0)) for i in range(3)]
    frames[0].save(tmp_path / "in.png", save_all=True, append_images=frames[1:], duration=100, loop=plays)
    upscale_video(tmp_path / "in.png", tmp_path / "out.avif", tiny())
    data = (tmp_path / "out.avif").read_bytes()
    edits, header = data.index(b"elst") + 4, data.index(b"tkhd") + 4
    assert (data[edits + 3], plays_of(tmp_path / "out.avif")) == (plays != 1, plays)
    if plays:
        assert struct.unpack_from(">I", data, header + 20)[0] == plays * struct.unpack_from(">I", data, edits + 8)[0]
    upscale_video(tmp_path / "out.avif", tmp_path / "back.png", tiny())
    with Image.open(tmp_path / "back.png") as made:
        assert made.info["loop"] == plays


def test_an_avif_of_another_writer_is_shown_for_ever(tmp_path: Path) -> None:
    animation = cv2.Animation()
    animation.frames = [np.full((24, 32, 3), 40 * i, np.uint8) for i in range(3)]
    animation.durations = np.full(3, 100, np.int32)
    assert cv2.imwriteanimation(str(tmp_path / "in.avif"), animation)
    assert plays_of(tmp_path / "in.avif") == 0
    data = bytearray((tmp_path / "in.avif").read_bytes())
    edits, header = data.index(b"elst") + 4, data.index(b"tkhd") + 4
    for flag, times, plays in ((1, 4, 4), (1, 0, 0), (0, 4, 1)):
        data[edits + 3] = flag
        data[header + 28 : header + 36] = struct.pack(">Q", times * 300 if times else (1 << 64) - 1)
        (tmp_path / "other.avif").write_bytes(data)
        assert plays_of(tmp_path / "other.avif") == plays
    for cut in range(0, len(data), 7):
        (tmp_path / "other.avif").write_bytes(data[:cut])
        assert plays_of(tmp_path / "other.avif") in (0, 1)


@pytest.mark.parametrize(
    "times",
    [
        [0, 17, 33, 50, 100, 117, 133, 200, 217, 250, 300, 317, 333],
        [*range(0, 400, 40), *range(400, 800, 20)],
        [0, 33, 67, 100, 134, 170, 200, 233, 270, 300],
        [40 * i for i in range(12)],
    ],
)
def test_uneven_times_in_avi(tmp_path: Path, times: list[int]) -> None:
    """AVI has places for frames, of which some stay empty."""
    source = make_clip(tmp_path / "in.mkv", times, size=(64, 48))
    upscale_video(source, tmp_path / "out.avi", tiny())
    made = [float(time) for time in frame_times(tmp_path / "out.avi")]
    assert made == pytest.approx([time / 1000 for time in times], abs=0.006)


def test_rates_with_places() -> None:
    ms = Fraction(1, 1000)
    assert even_rate(Fraction(25), [0, 40, 80, 120], ms) == 25
    assert even_rate(Fraction(30), [0, 20, 40, 100], ms) == 50
    assert even_rate(Fraction(20), [0, 1, 2, 50], ms) == 120
    assert even_rate(None, [0, 1, 2], ms) is None
    assert even_rate(Fraction(24), [], ms) == 24


def test_mkv_is_no_way_out_of_mkv(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert way_out(".mkv", "audio") == "pass --no-copy-audio to leave it out"
    assert way_out(".mp4", "audio") == "write .mkv, or pass --no-copy-audio to leave it out"
    with pytest.raises(OutputError) as error:
        upscale_video(rotated(tmp_path / "in.mkv", 0), tmp_path / "out.mkv", tiny(), encoding=Encoding("nothing"))
    assert ".mkv" not in str(error.value)


def test_motion_jpeg(tmp_path: Path) -> None:
    upscale_video(rotated(tmp_path / "in.mkv", 0), tmp_path / "out.avi", tiny(), encoding=Encoding("mjpeg"))
    assert len(frame_times(tmp_path / "out.avi")) == 3


def film(path: Path, telecined: bool) -> Path:
    """Moving noise, interlaced: with 3:2 pulldown, or with fields of their own."""
    noise = np.random.default_rng(0).integers(30, 226, (64, 400), dtype=np.uint8)
    fields = [noise[:, 4 * i : 4 * i + 64] for i in range(80)]
    if telecined:
        fields = [one for i, one in enumerate(fields) for _ in range(2 + i % 2)]
    with av.open(str(path), "w") as out:
        video = out.add_stream(
            "mpeg2video", rate=Fraction(30000, 1001), options={"flags": "+ildct+ilme", "qmin": "1", "qmax": "2"}
        )
        video.width, video.height, video.pix_fmt, video.bit_rate = 64, 64, "yuv420p", 9_000_000
        for i in range(0, len(fields) - 1, 2):
            image = fields[i].copy()
            image[1::2] = fields[i + 1][1::2]
            frame = av.VideoFrame.from_ndarray(image, format="gray8").reformat(format="yuv420p")
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


@pytest.mark.parametrize("telecined", [True, False])
def test_telecined_film_is_said(tmp_path: Path, telecined: bool, caplog: pytest.LogCaptureFixture) -> None:
    source = film(tmp_path / "in.mpg", telecined)
    with VideoReader(source) as reader:
        assert reader.interlaced
        assert reader.telecined == telecined
    upscale_video(source, tmp_path / "out.mkv", tiny(), frames=2)
    assert ("looks like telecined film" in caplog.text) == telecined
    assert ("--deinterlace makes whole frames" in caplog.text) != telecined
