"""VideoCapture and VideoWriter behave as OpenCV's, with larger frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srfast.models import SRVGGNetCompact
from srfast.opencv import VideoCapture, VideoWriter
from srfast.upscaler import Upscaler
from tests.helpers.video.gradients import STEADY, make_clip


@pytest.fixture(scope="module")
def model() -> Upscaler:
    torch.manual_seed(0)
    return Upscaler(SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in.mp4", STEADY)


def loop(capture) -> list[np.ndarray]:
    """The loop of every OpenCV tutorial."""
    frames = []
    while capture.isOpened():
        ret, frame = capture.read()
        if not ret:
            break
        frames.append(frame)
    capture.release()
    return frames


def test_the_usual_loop(clip: Path, model: Upscaler) -> None:
    theirs, ours = loop(cv2.VideoCapture(str(clip))), loop(VideoCapture(str(clip), model=model))
    assert len(theirs) == len(ours) == len(STEADY)
    assert all(np.array_equal(model(a), b) for a, b in zip(theirs, ours, strict=True))


def test_properties_and_positions(clip: Path, model: Upscaler) -> None:
    theirs = cv2.VideoCapture(str(clip))
    with VideoCapture(str(clip), model=model) as ours:
        assert (ours.get(cv2.CAP_PROP_FRAME_WIDTH), ours.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (96, 64)
        for name in ("FPS", "FRAME_COUNT", "POS_FRAMES", "FOURCC"):
            assert ours.get(getattr(cv2, f"CAP_PROP_{name}")) == theirs.get(getattr(cv2, f"CAP_PROP_{name}"))
        assert ours.set(cv2.CAP_PROP_POS_FRAMES, 5) == theirs.set(cv2.CAP_PROP_POS_FRAMES, 5)
        assert ours.grab() and theirs.grab()
        assert ours.get(cv2.CAP_PROP_POS_FRAMES) == theirs.get(cv2.CAP_PROP_POS_FRAMES) == 6
        done, frame = ours.retrieve()
        assert done and np.array_equal(frame, model(theirs.retrieve()[1]))
        buffer = np.empty((64, 96, 3), np.uint8)
        assert ours.read(buffer)[1] is buffer
        assert ours.getBackendName() == theirs.getBackendName()
    assert not ours.isOpened()
    assert ours.read() == (False, None)
    assert not VideoCapture("nowhere.mp4", model=model).isOpened()
    assert ours.open(str(clip)) and ours.isOpened()
    ours.release()


def test_writer(tmp_path: Path, clip: Path, model: Upscaler) -> None:
    path = str(tmp_path / "out.avi")
    with VideoWriter(path, VideoWriter.fourcc(*"MJPG"), 25.0, (48, 32), model=model) as writer:
        assert writer.isOpened()
        for frame in loop(cv2.VideoCapture(str(clip))):
            writer.write(frame)
    written = loop(cv2.VideoCapture(path))
    assert len(written) == len(STEADY)
    assert written[0].shape == (64, 96, 3)
    assert np.abs(written[3].astype(int) - model(loop(cv2.VideoCapture(str(clip)))[3])).mean() < 25


@pytest.mark.parametrize("source", [(), ("nowhere.mp4",)])
def test_properties_of_nothing(model: Upscaler, source: tuple[str, ...]) -> None:
    theirs, ours = cv2.VideoCapture(*source), VideoCapture(*source, model=model)
    names = [n for n in dir(cv2) if n.startswith("CAP_PROP_")]
    assert len(names) > 50
    assert {n: ours.get(getattr(cv2, n)) for n in names} == {n: theirs.get(getattr(cv2, n)) for n in names}
