"""GIF, APNG, WebP and AVIF as videos, in and out: every picture and every time, read back by OpenCV."""

from __future__ import annotations

import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from srfast.errors import InputError
from srfast.upscaler import Upscaler
from srfast.video import upscale_video
from srfast.video.animation import is_animation
from tests.video.test_matrix import Larger

DURATIONS = [40, 200, 80, 100, 300]
KINDS = ["gif", "png", "webp", "avif"]


def pictures() -> list[np.ndarray]:
    """[24, 32, 4] BGRA: a red square that moves over nothing."""
    made = []
    for i in range(5):
        image = np.zeros((24, 32, 4), np.uint8)
        image[8:16, 2 + 5 * i : 10 + 5 * i] = (0, 0, 255, 255)
        made.append(image)
    return made


def written(path: Path) -> Path:
    animation = cv2.Animation()
    animation.frames, animation.durations = pictures(), np.array(DURATIONS, np.int32)
    if path.suffix == ".avif":
        animation.frames = [picture[:, :, :3].copy() for picture in pictures()]
    assert cv2.imwriteanimation(str(path), animation)
    return path


@pytest.fixture(scope="module")
def larger() -> Upscaler:
    return Upscaler(Larger())


@pytest.mark.parametrize("kind", KINDS)
def test_to_its_own_kind(tmp_path: Path, larger: Upscaler, kind: str) -> None:
    source, target = written(tmp_path / f"in.{kind}"), tmp_path / f"out.{kind}"
    assert is_animation(source)
    assert upscale_video(source, target, larger).frames == 5
    _, given = cv2.imreadanimation(str(source))
    done, made = cv2.imreadanimation(str(target))
    assert done
    assert [round(d) for d in made.durations] == [round(d) for d in given.durations]
    for i, image in enumerate(made.frames):
        assert image.shape[:2] == (48, 64)
        assert image[24, 2 * (6 + 5 * i), 2] > 200  # red in the middle of the square
        away = image[24, 2 * (6 + 5 * ((i + 2) % 5))]
        assert away[3] == 0 if image.shape[2] == 4 else away[2] < 60


@pytest.mark.parametrize("kind", KINDS)
def test_to_a_video(tmp_path: Path, larger: Upscaler, kind: str) -> None:
    source, target = written(tmp_path / f"in.{kind}"), tmp_path / "out.mkv"
    upscale_video(source, target, larger)
    _, given = cv2.imreadanimation(str(source))
    starts = np.cumsum([0, *given.durations[:-1]])
    with av.open(str(target)) as c:
        times = [p.pts * p.time_base for p in c.demux(video=0) if p.size]
    assert sorted(times) == [Fraction(round(t), 1000) for t in starts]


def test_segments_make_one_animation(tmp_path: Path, larger: Upscaler) -> None:
    """An encoder that begins anew in the middle leaves no mark."""
    source = written(tmp_path / "in.webp")
    for kind in ("gif", "png", "webp"):
        for segment in (2, 120):
            upscale_video(source, tmp_path / f"{segment}.{kind}", larger, segment=segment)
        one, other = (cv2.imreadanimation(str(tmp_path / f"{segment}.{kind}"))[1] for segment in (2, 120))
        assert list(one.durations) == list(other.durations)
        assert all(np.array_equal(a, b) for a, b in zip(one.frames, other.frames, strict=True))


@pytest.mark.parametrize("suffix", [".png", ".webp", ".gif", ".jpg"])
def test_one_picture_is_none(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"still{suffix}"
    path.write_bytes(cv2.imencode(suffix, pictures()[0][:, :, :3])[1].tobytes())
    assert not is_animation(path)
    assert not is_animation(tmp_path / "nothing.gif")


def test_a_pipe_is_not_looked_into(tmp_path: Path) -> None:
    """What an input is must not be found by reading from it where that takes it away."""
    os.mkfifo(tmp_path / "in.gif")
    done: list[bool] = []
    looking = threading.Thread(target=lambda: done.append(is_animation(tmp_path / "in.gif")), daemon=True)
    looking.start()
    looking.join(10)
    assert done == [False]


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("missing", [2, 20, 150, 300])  # bytes: 2 are the marks of both ends
def test_a_gif_that_is_cut_off_is_damaged(tmp_path: Path, larger: Upscaler, missing: int, piped: bool) -> None:
    """FFmpeg decodes what there is of the last picture and says nothing."""
    whole, cut = written(tmp_path / "in.gif").read_bytes(), tmp_path / "cut.gif"
    assert not upscale_video(tmp_path / "in.gif", tmp_path / "whole.mkv", larger).damage
    cut.write_bytes(whole[:-missing])
    if piped:
        os.mkfifo(tmp_path / "pipe")
        threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(cut.read_bytes()), daemon=True).start()
    source = tmp_path / "pipe" if piped else cut
    result = upscale_video(source, tmp_path / "out.mkv", larger)
    assert result.damage.packets == 1 and (result.frames == 5) == (missing < 100)
    if not piped:
        with pytest.raises(InputError, match="is damaged or cut off"):
            upscale_video(source, tmp_path / "strict.mkv", larger, strict=True)
