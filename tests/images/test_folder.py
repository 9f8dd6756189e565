"""``srfast upscale`` on images: folders that go on and continue, names of all kinds, and options that do not apply."""

from __future__ import annotations

import errno
import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from srfast.cli import main
from srfast.errors import SrfastError
from srfast.images import files as images
from srfast.upscaler import Upscaler

FAST = ["-m", "compact_x2", "--progress", "none"]


def picture(path: Path, height: int = 6, width: int = 8) -> Path:
    path.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(".png", values)[1].tobytes())  # any name
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / "in" / name)
    return tmp_path / "in"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Sizes of the frames that networks saw."""
    sizes: list[tuple[int, ...]] = []
    call = Upscaler.__call__

    def counting(self: Upscaler, frame: np.ndarray) -> np.ndarray:
        sizes.append(frame.shape)
        return call(self, frame)

    monkeypatch.setattr(Upscaler, "__call__", counting)
    return sizes


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_goes_on_past_results_that_cannot_be_written(
    tmp_path: Path, folder: Path, counted: list[tuple[int, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    picture(folder / "b.png", 1, 8192)
    assert main(["upscale", str(folder), str(tmp_path / "out"), "--ext", "webp", *FAST]) == 7
    assert names(tmp_path / "out") == ["a.webp", "c.webp"]
    assert counted == [(6, 8, 3)] * 2  # the limit is known before the work
    error = capsys.readouterr().err
    assert "b.webp would be 16384x2, but a side of a .webp image has at most 16383 pixels" in error
    assert "2 of 3 images" in error


def test_a_folder_goes_on_past_an_absurd_image(tmp_path: Path, folder: Path) -> None:
    data = (folder / "b.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 100_000, 100_000) + data[24:29]
    (folder / "b.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    assert main(["upscale", str(folder), str(tmp_path / "out"), *FAST]) == 6
    assert names(tmp_path / "out") == ["a.png", "c.png"]


def test_a_full_disk_ends_a_folder(
    tmp_path: Path, folder: Path, counted: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(images, "whole_file", full)
    assert main(["upscale", str(folder), str(tmp_path / "out"), *FAST]) == 7
    assert len(counted) == 1


def test_resume_does_what_is_missing(
    tmp_path: Path, folder: Path, counted: list[tuple[int, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (out).mkdir()
    (out / "b.png").write_bytes(b"done before")
    assert main(["upscale", str(folder), str(out), *FAST]) == 7
    assert "--resume to do only what is missing" in capsys.readouterr().err
    assert main(["upscale", str(folder), str(out), "--resume", *FAST]) == 0
    assert "3 of 3 images, 1 of them from before" in capsys.readouterr().err
    assert (out / "b.png").read_bytes() == b"done before"
    assert len(counted) == 2


def test_ctrl_c_in_a_folder_says_what_is_there(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call, seen = Upscaler.__call__, []

    def interrupted(self: Upscaler, frame: np.ndarray) -> np.ndarray:
        seen.append(frame)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return call(self, frame)

    monkeypatch.setattr(Upscaler, "__call__", interrupted)
    (folder / "aa.png").write_bytes(b"no picture")
    assert main(["upscale", str(folder), str(tmp_path / "out"), *FAST]) == 130
    told = capsys.readouterr().err
    assert f"interrupted; 2 of 4 images are in {tmp_path / 'out'}; --resume does the others" in told
    assert "aa.png is not an image" in told
    assert names(tmp_path / "out") == ["a.png", "b.png"]


def test_a_limit_on_memory_is_of_the_whole_process(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source, target in ((folder, tmp_path / "out"), (folder / "a.png", tmp_path / "a.png")):
        code = main(["upscale", str(source), str(target), *FAST, "--max-memory", "20M"])
        assert code == SrfastError.exit_code
        assert "--max-memory 20M is too small for this input; it needs" in capsys.readouterr().err


@pytest.mark.parametrize("error", [SrfastError("the network gives NaN"), MemoryError()])
def test_a_folder_goes_on_past_what_cannot_be_upscaled(
    tmp_path: Path, folder: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call, seen = Upscaler.__call__, []

    def failing(self: Upscaler, frame: np.ndarray) -> np.ndarray:
        seen.append(frame)
        if len(seen) == 2:
            raise error
        return call(self, frame)

    monkeypatch.setattr(Upscaler, "__call__", failing)
    assert main(["upscale", str(folder), str(tmp_path / "out"), *FAST]) == SrfastError.exit_code
    assert "b.png: " in capsys.readouterr().err
    assert names(tmp_path / "out") == ["a.png", "c.png"]


@pytest.mark.parametrize("target", ["out.mp4", "%03d.png"])
def test_ctrl_c_in_a_video(
    tmp_path: Path, target: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("srfast.video.upscale_video", interrupted)
    clip = Path(images.__file__).parents[1] / "assets" / "clip.mp4"
    assert main(["upscale", str(clip), str(tmp_path / target), *FAST]) == 130
    says = {"out.mp4": "no output was written (", "%03d.png": "the pictures so far are there ("}[target]
    assert f"srfast: interrupted; {says}a run of some length continues with --resume)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["50%off.png", "my%20photo.png", "100%disc.png", "100%d.png"])
def test_a_percent_in_a_name(tmp_path: Path, name: str) -> None:
    assert main(["upscale", str(picture(tmp_path / name)), str(tmp_path / "out.png"), *FAST]) == 0
    assert cv2.imread(str(tmp_path / "out.png")).shape == (12, 16, 3)


def test_a_percent_in_a_video_s_name(tmp_path: Path) -> None:
    clip = Path(images.__file__).parents[1] / "assets" / "clip.mp4"
    (tmp_path / "100%d.mp4").symlink_to(clip)
    assert main(["upscale", str(tmp_path / "100%d.mp4"), str(tmp_path / "out.mkv"), "--frames", "1", *FAST]) == 0


@pytest.mark.parametrize("suffix", [".ppm", ".dat"])
def test_images_of_other_names(tmp_path: Path, suffix: str) -> None:
    """What OpenCV can read is an image, whatever it is called."""
    path = picture(tmp_path / f"in{suffix}")
    if suffix != ".dat":
        done, data = cv2.imencode(suffix, cv2.imread(str(path)))
        assert done
        path.write_bytes(data.tobytes())
    assert main(["upscale", str(path), str(tmp_path / "out.png"), *FAST]) == 0
    assert cv2.imread(str(tmp_path / "out.png")).shape == (12, 16, 3)


@pytest.mark.parametrize("source", ["clip.mp4", "-", "%03d.png"])
def test_a_video_is_no_single_picture(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"no image")))
    Path("clip.mp4").symlink_to(Path(images.__file__).parents[1] / "assets" / "clip.mp4")
    assert main(["upscale", source, "p.png", *FAST]) == 7
    error = capsys.readouterr().err
    assert "p.png is one picture" in error
    assert "such as frames/%05d.png" in error


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["in/a.png", "out.gif"], "'out.gif'"),
        (["in", "out", "--ext", "xyz"], "'a.xyz'"),
        (["in/a.png", "in"], "is a folder"),
    ],
)
def test_a_bad_output_is_said_first(
    folder: Path,
    counted: list[tuple[int, ...]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    paths: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr("srfast.cli.images.upscaler_from", None)  # nothing is loaded
    assert main(["upscale", *paths, *FAST]) == 7
    assert says in capsys.readouterr().err
    assert names(folder.parent) == ["in"]


@pytest.mark.parametrize(
    ("paths", "option", "says"),
    [
        ("in/a.png out.png", "--report r.json", "--report does nothing for an image: it is for videos"),
        ("in/a.png out.png", "--codec ffv1", "--codec does nothing for an image"),
        ("in/a.png out.png", "--crf 0", "--crf does nothing for an image"),
        ("in/a.png out.png", "--frames 0", "--frames does nothing for an image"),
        ("in/a.png out.png", "--resume", "--resume does nothing for an image"),
        ("in/a.png out.png", "--no-copy-audio", "--no-copy-audio does nothing for an image"),
        ("in/a.png out.png", "--ext png", "the output's name says the format"),
        ("in out", "-e preset=slow", "--encoder-option does nothing for a folder"),
        ("in out", "--max-latency 40ms", "--max-latency does nothing for a folder"),
        ("x.mp4 out.mp4", "--lighter compact_x2", "--lighter does nothing for a video: it goes with --max-latency"),
        ("x.mp4 out.mp4", "--suffix _x", "--suffix does nothing for a video: it is for the results of a folder"),
        ("x.mp4 out.mp4", "--max-latency 40ms --resume", "--resume does nothing for a live video"),
    ],
)
def test_options_that_do_nothing(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    paths: str,
    option: str,
    says: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    assert main(["upscale", *paths.split(), *option.split(), *FAST]) == 2
    assert says in capsys.readouterr().err
    assert names(folder.parent) == ["in"]


@pytest.mark.parametrize("scale", ["nan", "inf", "0", "-1", "two"])
def test_a_scale_that_is_none(capsys: pytest.CaptureFixture[str], scale: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["upscale", "in.png", "out.png", f"-s={scale}"])
    assert stop.value.code == 2
    assert "takes a positive number such as 2 or 1.5" in capsys.readouterr().err


def test_a_scale_that_is_too_large(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upscale", str(folder / "a.png"), str(tmp_path / "out.png"), "-s", "1e9"]) == 6
    assert "8x6 enlarged by 1e+09 is 8000000000x6000000000" in capsys.readouterr().err
