"""The command line: what it does, and one clear line with an exit code when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

import srfast
from srfast.checkpoint import save_checkpoint
from srfast.cli import main
from srfast.models import SRVGGNetCompact


@pytest.fixture
def model(tmp_path: Path) -> str:
    torch.manual_seed(0)
    path = tmp_path / "m" / "tiny.safetensors"
    path.parent.mkdir()
    save_checkpoint(SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2), path)
    return str(path)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    return path


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    return error.splitlines()[-1]


@pytest.mark.parametrize("style", ["positions", "options"])
def test_image(tmp_path: Path, model: str, photo: Path, style: str) -> None:
    out = str(tmp_path / "out.png")
    paths = [str(photo), out] if style == "positions" else ["-i", str(photo), "-o", out]
    assert main(["upscale", *paths, "-m", model]) == 0
    assert cv2.imread(out).shape == (40, 60, 3)
    assert main(["upscale", *paths, "-m", model]) == 7
    assert main(["upscale", *paths, "-m", model, "-y", "-s", "3", "--tile", "8", "--fp32"]) == 0
    assert cv2.imread(out).shape == (60, 90, 3)


def test_folder(tmp_path: Path, model: str, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    assert main(["upscale", str(folder), str(out), "-m", model]) == 6
    assert "has no images" in last_line(capsys)
    assert not out.exists()
    for name in ("a.png", "b.jpg"):
        cv2.imwrite(str(folder / name), cv2.imread(str(photo)))
    (folder / "broken.png").write_bytes(b"x")
    code = main(
        ["upscale", str(folder), str(out), "-m", model, "--suffix", "_big", "--ext", "png", "--progress", "json"]
    )
    assert code == 6  # one image could not be read; the others are there
    assert sorted(p.name for p in out.iterdir()) == ["a_big.png", "b_big.png"]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]  # nothing else
    states = [line for line in lines if "done" in line]
    assert states[-1]["done"] == states[-1]["total"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere.mp4", "out.mp4"], 6, "nowhere.mp4 is missing"),
        (["text.mp4", "out.mp4"], 6, "not a video"),
        (["empty.mp4", "out.mp4"], 6, "empty"),
        (["photo.png", "no/out.png"], 7, "does not exist"),
        (["photo.png", "out.xyz"], 7, "image format"),
        (["photo.png", "out.png", "-m", "text.pth"], 3, "not a PyTorch checkpoint"),
        (["photo.png", "out.png", "-m", "nothing"], 3, "no checkpoint file and no shipped model"),
        (["photo.png", "out.png", "--tile", "x"], 2, "--tile takes"),
        (["photo.png", "out.png", "--backend", "tpu"], 4, "no backend"),
        (["photo.png", "out.png", "--device", "foo"], 4, "no device is called 'foo'"),
        (["photo.png", "out.png", "--device", "meta"], 4, "cannot run on the device meta"),
        (["photo.png", "out.png", "-g", "-1"], 4, "no device is called 'cuda:-1'"),
        (["photo.png", "out.png", "-g", "99"], 4, "cannot run on the device cuda:99"),
        (["photo.png"], 2, "one input and one output"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "text.pth").write_text("hello " * 100)
    (tmp_path / "empty.mp4").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(["upscale", *arguments]) == code
    line = last_line(capsys)
    assert line.startswith("srfast: error: ")
    assert says in line
    assert sorted(tmp_path.rglob("*")) == before


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert set(info["models"]) >= {"srresnet_x4", "compact_x4"}
    assert info["backends"]["reference"] == "available"


def test_info_tells_encoders_that_do_not_open(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["tools"]["encoders"].split(", ")
    assert {"libx264", "ffv1"} <= set(listed)
    for name in ("h264_nvenc", "hevc_nvenc", "av1_nvenc"):
        if name not in av.codecs_available:
            continue
        context = av.CodecContext.create(name, "w")
        context.width, context.height, context.pix_fmt, context.time_base = 640, 480, "yuv420p", Fraction(1, 25)
        try:
            context.open()
        except av.FFmpegError:
            name += " (not usable here)"
        assert name in listed


@pytest.mark.parametrize(
    ("scale", "name", "size"), [("2", "compact_x2", 2), ("1.5", "compact_x2", 1.5), ("3", "srresnet_x4", 3)]
)
def test_the_network_follows_the_scale(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], scale: str, name: str, size: float
) -> None:
    target = tmp_path / "out.png"
    assert main(["upscale", str(photo), str(target), "-s", scale]) == 0
    assert name in capsys.readouterr().err
    assert cv2.imread(str(target)).shape == (round(20 * size), round(30 * size), 3)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_json_progress_is_json_alone(tmp_path: Path, model: str, codec: str) -> None:
    """In a process of its own: encoders write to its standard error past Python."""
    clip = Path(srfast.__file__).parent / "assets" / "clip.mp4"
    arguments = ["upscale", str(clip), str(tmp_path / "o.mkv"), "-m", model, "-c", codec, "--frames", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "srfast", *arguments, "--progress", "json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("done" in line for line in lines)
    assert any("fps" in line.get("message", "") for line in lines)


def test_a_program_without_standard_streams(
    tmp_path: Path, model: str, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert main(["upscale", str(photo), str(tmp_path / "out.png"), "-m", model]) == 0
    assert (tmp_path / "out.png").exists()


def test_standard_error_that_is_only_read(tmp_path: Path, model: str, photo: Path) -> None:
    """As of a shell script that was started with ``2>&-``: its own file has the number."""
    out = tmp_path / "out.png"
    with open(photo, "rb") as read:
        command = [sys.executable, "-m", "srfast", "upscale", str(photo), str(out), "-m", model]
        assert subprocess.run(command, stderr=read, check=False).returncode == 0
    assert out.exists()
