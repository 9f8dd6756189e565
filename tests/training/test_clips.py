"""Measures of videos that have no original."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from srfast.checkpoint import save_checkpoint
from srfast.models import SRVGGNetCompact
from srfast.training import clips, compare
from srfast.training.imresize import imresize


@pytest.fixture
def study(tmp_path: Path) -> tuple[str, Path, np.ndarray]:
    """A checkpoint that repeats pixels, a lossless video and its frames."""
    model = SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2)
    torch.nn.init.zeros_(model.body[-1].weight)
    torch.nn.init.zeros_(model.body[-1].bias)
    save_checkpoint(model, tmp_path / "repeat.safetensors")
    frames = np.random.default_rng(0).integers(0, 256, (7, 34, 48, 3), dtype=np.uint8)
    clip = tmp_path / "clip.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 34, "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return f"repeat={tmp_path / 'repeat.safetensors'}", clip, frames


def test_every_third_frame_of_every_system(study: tuple[str, Path, np.ndarray]) -> None:
    model, clip, frames = study
    systems = compare.load_systems([model])
    found = clips.measure(systems, clip, 3, {"corner": lambda image, _: float(image[:9, :9].mean())})
    chosen = frames[::3]
    assert found["repeat"]["corner"] == pytest.approx(
        np.mean([f.repeat(2, 0).repeat(2, 1)[:9, :9].mean() for f in chosen])
    )
    assert found["bicubic"]["corner"] == pytest.approx(np.mean([imresize(f, 2)[:9, :9].mean() for f in chosen]))
    assert list(found) == ["bicubic", "repeat"]


def test_picture_shows_one_part_of_the_source_and_of_every_system(
    study: tuple[str, Path, np.ndarray], tmp_path: Path
) -> None:
    model, _, frames = study
    image = clips.picture(compare.load_systems([model]), frames[0])
    side = 2 * 34
    assert image.shape == (compare.LABEL + side, 3 * side, 3)
    source, bicubic, repeat = np.split(image[compare.LABEL :], 3, axis=1)
    np.testing.assert_array_equal(source, repeat)
    assert (source != bicubic).any()


def test_table_of_a_clip(
    study: tuple[str, Path, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, clip, _ = study
    monkeypatch.setattr(
        clips, "choose_metrics", lambda files, scale: {"NIQE": lambda a, b: 5.0, "PSNR-Y": lambda a, b: 1.0}
    )
    assert clips.main(["--model", model, "--clip", f"mine={clip}", "--out", str(tmp_path / "pictures")]) == 0
    assert capsys.readouterr().out.splitlines()[:4] == [
        "| mine | NIQE |",
        "|---|---|",
        "| bicubic | 5.00 |",
        "| repeat | 5.00 |",
    ]
    assert cv2.imread(str(tmp_path / "pictures" / "mine.png")).std() > 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ([], "nothing to measure with: give --niqe or --brisque"),
        (["--every", "0"], "--every counts frames from 1, not 0"),
    ],
)
def test_what_cannot_be_measured_is_said(
    study: tuple[str, Path, np.ndarray], capsys: pytest.CaptureFixture[str], change: list[str], said: str
) -> None:
    model, clip, _ = study
    assert clips.main(["--model", model, "--clip", str(clip), *change]) == 2
    assert said in capsys.readouterr().err


def test_every_clip_is_opened_before_one_is_measured(
    study: tuple[str, Path, np.ndarray], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, clip, _ = study
    monkeypatch.setattr(clips, "choose_metrics", lambda files, scale: {"NIQE": lambda a, b: 5.0})
    for second, said in ((str(clip), "two clips have one name"), ("b=nope.mkv", "nope.mkv cannot be read as a video")):
        assert clips.main(["--model", model, "--clip", str(clip), second]) == 2
        printed = capsys.readouterr()
        assert said in printed.err
        assert not printed.out


def test_what_is_no_video_is_named(study: tuple[str, Path, np.ndarray], tmp_path: Path) -> None:
    model, _, _ = study
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4 cannot be read as a video"):
        clips.measure(compare.load_systems([model]), tmp_path / "text.mp4", 1, {})
