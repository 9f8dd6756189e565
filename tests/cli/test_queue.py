"""Folders and several inputs: every file is done or named, by one engine."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from srfast.cli import main
from srfast.errors import OutputError
from srfast.upscaler import Upscaler

FAST = ["-n", "compact_x2", "--progress", "none"]
PICTURE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def write(path: Path, suffix: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = PICTURE if path.suffix != ".jp2" else np.tile(PICTURE, (8, 8, 1))  # OpenJPEG refuses small ones
    done, data = cv2.imencode(suffix or path.suffix, picture)
    assert done
    path.write_bytes(data.tobytes())
    return path


def clip(path: Path, frames: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 32, 16, "yuv420p"
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), 40 * i, np.uint8), format="rgb24")
            out.mux(video.encode(frame.reformat(format="yuv420p")))
        out.mux(video.encode(None))
    return path


def animation(path: Path) -> Path:
    picture = cv2.Animation()
    picture.frames, picture.durations = [PICTURE, PICTURE[::-1].copy()], np.array([100, 200], np.int32)
    assert cv2.imwriteanimation(str(path), picture)
    return path


def results(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The engines that are made."""
    made: list[object] = []
    init = Upscaler.__init__

    def counting(self: Upscaler, *args: object, **options: object) -> None:
        made.append(args)
        init(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Upscaler, "__init__", counting)
    return made


def test_a_folder_with_everything(tmp_path: Path, loads: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    write(folder / "a.png")
    write(folder / "b.jfif", ".jpg")
    write(folder / "c.gif")
    write(folder / "e.jp2")
    write(folder / "sub" / "deep" / "a.png")
    clip(folder / "v.mp4")
    clip(folder / "sub" / "w.mpg")
    animation(folder / "moving.webp")
    (folder / "._a.png").write_bytes(b"AppleDouble")
    (folder / "notes.txt").write_text("words")
    assert main(["upscale", str(folder), str(folder / "out"), *FAST]) == 0
    assert results(folder / "out") == sorted(
        ["a.png", "b.jfif", "c.png", "e.jp2", "moving.webp", "sub/deep/a.png", "sub/w.mkv", "v.mp4"]
    )
    assert len(loads) == 1
    error = capsys.readouterr().err
    assert "2 files are neither images nor videos and are left out" in error
    assert "._a.png" in error
    assert "notes.txt" in error
    assert "8 of 8 files" in error
    assert cv2.imread(str(folder / "out" / "b.jfif")).shape == (12, 16, 3)
    done, moving = cv2.imreadanimation(str(folder / "out" / "moving.webp"))
    assert done
    assert [f.shape[:2] for f in moving.frames] == [(12, 16)] * 2
    assert list(moving.durations) == [100, 200]
    with av.open(str(folder / "out" / "v.mp4")) as c:
        assert [f.width for f in c.decode(video=0)] == [64, 64]


def test_again_does_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in" / "a.png")
    clip(tmp_path / "in" / "v.mkv")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "v.mkv").write_bytes(b"done before")
    assert main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), "--resume", *FAST]) == 0
    assert "2 of 2 files, 1 of them from before" in capsys.readouterr().err
    assert (tmp_path / "out" / "v.mkv").read_bytes() == b"done before"


def test_several_inputs_and_a_list(tmp_path: Path, loads: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    one, two, three = clip(tmp_path / "a.mp4"), clip(tmp_path / "b.mkv"), write(tmp_path / "c d.png")
    (tmp_path / "list.txt").write_text(f"# a list\n{three}\n\n")
    out = tmp_path / "out"
    assert main(["upscale", str(one), str(two), str(out), "--queue", str(tmp_path / "list.txt"), *FAST]) == 0
    assert results(out) == ["a.mp4", "b.mkv", "c d.png"]
    assert len(loads) == 1
    assert main(["upscale", str(one), f"{tmp_path / 'single'}/", *FAST]) == 0
    assert results(tmp_path / "single") == ["a.mp4"]
    assert main(["upscale", str(one), str(tmp_path / "nowhere.mp4"), str(out), *FAST, "-y"]) == 6
    assert "nowhere.mp4 is missing" in capsys.readouterr().err
    twin = clip(tmp_path / "twin" / "a.mp4")
    assert main(["upscale", str(one), str(twin), str(out), *FAST, "-y"]) == 7
    assert "two files would both be written as" in capsys.readouterr().err


def test_lists_of_other_editors(tmp_path: Path) -> None:
    one, two = write(tmp_path / "a.png"), write(tmp_path / "b\x0b\x85\u2028c.png")
    (tmp_path / "list.txt").write_bytes(f"\ufeff{one}\r\n# a comment\r\n  {two}\r\n".encode())
    assert main(["upscale", str(tmp_path / "out"), "--queue", str(tmp_path / "list.txt"), *FAST]) == 0
    assert results(tmp_path / "out") == ["a.png", two.name]


@pytest.mark.parametrize("again", [["--resume"], ["-y"]])
def test_results_beside_the_inputs_are_not_enlarged_again(tmp_path: Path, again: list[str]) -> None:
    folder = write(tmp_path / "in" / "a.png").parent
    write(folder / "sub" / "b.png")
    (tmp_path / "link").symlink_to(folder)
    for options in ([], again):
        command = ["upscale", str(folder), str(tmp_path / "link"), "--suffix", "_x2", *options, *FAST]
        assert main(command) == 0
        assert results(folder) == ["a.png", "a_x2.png", "sub/b.png", "sub/b_x2.png"]
    assert cv2.imread(str(folder / "a_x2.png")).shape == (12, 16, 3)


@pytest.mark.parametrize("suffix", ["/../x", "a/b", "/"])
def test_a_suffix_is_no_folder(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "in" / "a.png").parent
    assert main(["upscale", str(folder), str(tmp_path / "out"), "--suffix", suffix, *FAST]) == 2
    assert f"--suffix is a part of file names, without /, not {suffix!r}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_named_twice_is_done_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = write(tmp_path / "in" / "a.png")
    assert main(["upscale", str(one), str(one.parent), str(one), str(tmp_path / "out"), *FAST]) == 0
    assert "1 of 1 images" in capsys.readouterr().err


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    folder = write(tmp_path / "in" / "a.png").parent
    elsewhere = write(tmp_path / "elsewhere" / "b.png").parent
    (folder / "link").symlink_to(elsewhere)
    # Ways that lead back, by one link and by two, and one to the results.
    (folder / "self").symlink_to(folder)
    (elsewhere / "back").symlink_to(folder)
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    (folder / "made").symlink_to(tmp_path / "out")
    for _ in range(2):
        assert main(["upscale", str(folder), str(tmp_path / "out"), "-y", *FAST]) == 0
        assert results(tmp_path / "out") == ["a.png", "link/b.png"]


def test_a_folder_that_cannot_be_made_does_not_end_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "in" / "c.png").parent
    write(folder / "a" / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("no folder")
    assert main(["upscale", str(folder), str(tmp_path / "out"), *FAST]) == 7
    assert results(tmp_path / "out") == ["a", "c.png"]
    assert f"{tmp_path / 'out' / 'a'} should be a folder for results" in capsys.readouterr().err


def test_a_link_to_nowhere_is_no_folder_for_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    folder = write(tmp_path / "in" / "a.png").parent
    assert main(["upscale", str(folder), str(tmp_path / "out"), *FAST]) == 7
    assert f"{tmp_path / 'out'} should be a folder for results" in capsys.readouterr().err


def test_what_is_not_for_videos_is_said_of_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path / "in" / "a.png").parent
    moving = animation(folder / "moving.webp")
    assert main(["upscale", str(folder), str(tmp_path / "out"), "--self-ensemble", *FAST]) == 6
    assert results(tmp_path / "out") == ["a.png"]
    assert f"error: {moving}: self_ensemble is for single frames" in capsys.readouterr().err


def test_one_bad_file_does_not_end_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(b"no video" * 99)
    clip(tmp_path / "in" / "b.mp4")
    assert main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), *FAST]) == 6
    assert results(tmp_path / "out") == ["b.mp4"]
    assert "a.mp4 is not a video" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--report r.json", "--input-format rawvideo", "--max-latency 40ms", "-f mkv"])
def test_options_that_do_nothing_for_several(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    clip(tmp_path / "in" / "b.mp4")
    assert main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), *option.split(), *FAST]) == 2
    assert "does nothing for several files" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "code", "says"),
    [
        ("--frames 0", 2, "--frames takes a number from 1"),
        ("--codec nothing", 7, "no encoder called 'nothing'"),
        ("--pix-fmt nothing", 7, "no pixel format is called 'nothing'"),
        ("-e fast", 2, "an option is written key=value"),
        ("--hwaccel nothing", 6, "nothing"),
        ("--from 2 --to 1", 2, "is not after the start"),
        ("--preview 2", 2, "--preview does nothing for several files"),
    ],
)
def test_what_every_video_would_be_refused_for_comes_first(
    tmp_path: Path, option: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in" / "a.png")
    clip(tmp_path / "in" / "b.mp4")
    assert main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), *option.split(), *FAST]) == code
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_format_of_images_for_videos_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip(tmp_path / "in" / "b.mp4")
    assert main(["upscale", str(tmp_path / "in"), str(tmp_path / "out"), "--ext", "png", *FAST]) == 2
    assert "--ext does nothing for videos" in capsys.readouterr().err


@pytest.mark.parametrize("several", [["a.png", "b.png"], ["folder"], ["--queue", "list.txt"]])
def test_the_name_of_a_file_is_no_folder(
    tmp_path: Path, several: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever names one output for several inputs is told; nothing of that name is made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("a.png", "b.png", "folder/c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    for name in ("out.mp4", "out.PNG", "out.mkv"):
        assert main(["upscale", *several, name]) == OutputError.exit_code
        assert "there may be several results" in capsys.readouterr().err
        assert not (tmp_path / name).exists()
