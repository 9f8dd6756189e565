"""A newline or another control character in the name of any file or folder stays within its line, whatever is said of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srfast.cli import main
from srfast.errors import InputError, SrfastError, escaped
from tests.helpers.video.children import save_tiny, tiny_network
from tests.helpers.video.segments import moving_clip

FORGED = "srfast: forged"
# A line of its own, a cleared screen, a tab, C1's next line and CSI, the other direction of writing, and no UTF-8.
EVIL = f"a\n{FORGED}\x1b[2J\t\r\x85\x9b31m\u2028\u202e\udcff"
CODES = {1, 2, 3, 4, 5, 6, 7, 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of strange name, with a model, a clip, a picture, and what is none of them under the names of such."""
    folder = tmp_path_factory.mktemp("names") / EVIL
    folder.mkdir()
    save_tiny(folder / f"model{EVIL}.safetensors")
    torch.save(tiny_network().state_dict(), folder / f"model{EVIL}.pth")
    moving_clip(folder / "clip.mkv", frames=12, size=(32, 24))
    os.rename(folder / "clip.mkv", folder / f"clip{EVIL}.mkv")
    whole = (folder / f"clip{EVIL}.mkv").read_bytes()
    half = len(whole) // 2
    (folder / f"broken{EVIL}.mkv").write_bytes(whole[:half] + bytes(40) + whole[half + 40 : -900])
    cv2.imwrite(str(folder.parent / "p.png"), np.full((6, 8, 3), 90, np.uint8))
    shutil.move(folder.parent / "p.png", folder / f"picture{EVIL}.png")
    for suffix in ("pth", "onnx", "param", "safetensors", "mkv", "png", "json", "txt", "html"):
        (folder / f"none{EVIL}.{suffix}").write_bytes(b"nothing")
    (folder / f"list{EVIL}.txt").write_bytes(os.fsencode(f"absent{EVIL}.mkv"))
    (folder / f"empty{EVIL}").mkdir()
    (folder / f"files{EVIL}").mkdir()
    for name in (f"none{EVIL}.png", f"none{EVIL}.mkv", f"none{EVIL}.txt"):
        shutil.copy(folder / name, folder / f"files{EVIL}")
    return folder


def file(name: str) -> str:
    """A name in the folder: what stands before the dot, and strange."""
    stem, dot, suffix = name.partition(".")
    return f"@/{stem}{EVIL}{dot}{suffix}"


MODEL = ("-m", file("model.pth"), "--device", "cpu")
REFUSED: dict[str, tuple[str, ...]] = {
    "absent video": ("upscale", file("absent.mkv"), "@/o.mkv"),
    "absent image": ("upscale", file("absent.png"), "@/o.png"),
    "absent folder": ("upscale", file("absent") + "/", "@/o/"),
    "no video": ("upscale", file("none.mkv"), "@/o.mkv", *MODEL),
    "no image": ("upscale", file("none.png"), "@/o.png", *MODEL),
    "no suffix": ("upscale", file("none.mkv"), file("o"), *MODEL),
    "unknown suffix": ("upscale", file("clip.mkv"), f"@/o.x{EVIL}", *MODEL),
    "unknown image suffix": ("upscale", file("picture.png"), f"@/o.x{EVIL}", *MODEL),
    "output exists": ("upscale", file("clip.mkv"), file("clip.mkv"), *MODEL),
    "image exists": ("upscale", file("picture.png"), file("picture.png"), *MODEL),
    "no such place": ("upscale", file("clip.mkv"), file("absent") + "/o.mkv", *MODEL),
    "no such place for an image": ("upscale", file("picture.png"), file("absent") + "/o.png", *MODEL),
    "an output in a file": ("upscale", file("clip.mkv"), file("none.txt") + "/o.mkv", *MODEL),
    "a folder as output": ("upscale", file("clip.mkv"), file("empty"), *MODEL, "-f", "mkv"),
    "an empty folder": ("upscale", file("empty"), "@/o/", *MODEL),
    "a folder of bad files": ("upscale", file("files"), file("o") + "/", *MODEL),
    "a folder into a file": ("upscale", file("files"), file("none.txt"), *MODEL),
    "a folder into one name": ("upscale", file("files"), file("o.mkv"), *MODEL),
    "a list": ("upscale", "--queue", file("list.txt"), "@/o/", *MODEL),
    "an absent list": ("upscale", "--queue", file("absent.txt"), "@/o/", *MODEL),
    "an empty list": ("upscale", "--queue", file("none.json"), "@/o/", *MODEL),
    "absent model": ("upscale", file("clip.mkv"), "@/o.mkv", "-m", file("absent.pth")),
    "no model": ("upscale", file("clip.mkv"), "@/o.mkv", "-m", file("none.pth")),
    "a second model": ("upscale", file("clip.mkv"), "@/o.mkv", *MODEL, "-m", file("none.onnx")),
    "a codec": ("upscale", file("clip.mkv"), file("o.mp4"), *MODEL, "-c", f"x{EVIL}"),
    "an encoder's option": ("upscale", file("clip.mkv"), file("o.mp4"), *MODEL, "--encoder-option", f"{EVIL}=1"),
    "a format": ("upscale", file("clip.mkv"), "@/o.mp4", *MODEL, "-f", EVIL),
    "an unknown option": ("upscale", file("clip.mkv"), "@/o.mp4", f"--{EVIL}"),
    "one name too many": ("inspect", file("model.pth"), file("model.pth")),
    "strict": ("upscale", file("broken.mkv"), file("o.mkv"), *MODEL, "--strict"),
    "plan of none": ("plan", file("none.mkv"), *MODEL),
    "plan of an absent one": ("plan", file("absent.mkv"), *MODEL),
    "plan for an odd output": ("plan", file("clip.mkv"), f"@/o.x{EVIL}", *MODEL),
    "split": ("split", file("none.mkv"), file("o.json"), *MODEL),
    "split onto a file": ("split", file("clip.mkv"), file("none.json"), *MODEL),
    "split nowhere": ("split", file("clip.mkv"), file("absent") + "/o.json", *MODEL),
    "segment of none": ("segment", file("none.json"), "0"),
    "segment of an absent one": ("segment", file("absent.json"), "0"),
    "join of none": ("join", file("none.json"), "@/o.mkv"),
    "join of an absent one": ("join", file("absent.json"), file("o.mkv")),
    "inspect": ("inspect", file("none.pth")),
    "inspect ncnn": ("inspect", file("none.param")),
    "inspect nothing": ("inspect", file("absent.onnx")),
    "convert": ("convert", file("none.pth"), file("o.safetensors")),
    "convert to what it does not write": ("convert", file("model.pth"), file("o.onnx")),
    "convert onto a file": ("convert", file("model.pth"), file("none.safetensors")),
    "convert nowhere": ("convert", file("model.pth"), file("absent") + "/o.safetensors"),
    "export": ("export", file("none.safetensors"), file("o.onnx")),
    "export to what it does not write": ("export", file("model.pth"), file("o.pth")),
    "export onto a file": ("export", file("model.pth"), file("none.onnx")),
    "verify": ("verify", file("model.pth"), file("none.mkv"), "--frames", "1"),
    "verify with nothing": ("verify", file("model.pth"), file("absent.png")),
    "compare nothing": ("compare", file("absent.png"), file("o.html"), *MODEL[:2]),
    "compare none": ("compare", file("none.png"), file("o.html"), *MODEL[:2]),
    "compare no videos": ("compare", file("none.mkv"), file("clip.mkv"), file("o.html")),
    "compare into what is no page": ("compare", file("picture.png"), file("o.png")),
    "compare onto a page": ("compare", file("picture.png"), file("picture.png"), file("none.html")),
    "compare with a bad truth": ("compare", file("picture.png"), "@/o.html", "--truth", file("none.png"), *MODEL[:2]),
    "serve": ("serve", "--port", "0", "--jobs", file("none.txt"), "-m", f"tiny={EVIL}"),
    "serve another": ("serve", "--port", "0", "--jobs", file("none.txt") + "/jobs", "-m", file("model.pth")),
    "serve elsewhere": ("serve", "--port", "0", "--host", EVIL, "--jobs", "@/../jobs"),
    "warm": ("warm", "-m", file("none.pth")),
}
DONE: dict[str, tuple[str, ...]] = {
    "video": ("upscale", file("clip.mkv"), file("o.mp4"), *MODEL, "--report", file("report.json")),
    "with a preview": ("upscale", file("clip.mkv"), file("p.mp4"), *MODEL, "--preview", "1", "--frames", "2"),
    "damaged video": ("upscale", file("broken.mkv"), file("b.mkv"), *MODEL),
    "image": ("upscale", file("picture.png"), file("o.png"), *MODEL),
    "plan": ("plan", file("clip.mkv"), file("q.mp4"), *MODEL, "--seconds", "0.1"),
    "split": ("split", file("clip.mkv"), file("s.json"), *MODEL, "--seconds", "0.2"),
    "join too early": ("join", file("s.json"), file("s.mkv")),
    "segment": ("segment", file("s.json"), "0"),
    "inspect": ("inspect", file("model.safetensors"), "--plan"),
    "keys": ("inspect", file("model.pth"), "--keys"),
    "convert": ("convert", file("model.pth"), file("m.safetensors")),
    "export": ("export", file("model.pth"), file("m.param")),
    "verify": ("verify", file("model.pth"), file("clip.mkv"), "--frames", "1", "--side", "16"),
    "compare": ("compare", file("picture.png"), file("page.html"), *MODEL[:2]),
}


def said(
    place: Path, words: tuple[str, ...], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> tuple[int, list[str]]:
    """The exit code and what a command prints and logs, line by line, nothing of which a terminal obeys."""
    caplog.clear()
    try:
        code = main([word.replace("@", str(place), 1) for word in words])
    except SystemExit as end:  # argparse
        code = int(end.code or 0)
    out, err = capfd.readouterr()
    lines = [line for text in (out, err, caplog.text) for line in text.split("\n")]
    if "--progress" not in words:  # a bar goes back in its line
        wrong = [line for line in lines if not line.isprintable() or line.startswith(FORGED)]
        assert wrong == []
    return code, [line for line in err.split("\n") if line]


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_have_three_lines_at_most(
    name: str, place: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = sorted(place.rglob("*"))
    code, lines = said(place, REFUSED[name], capfd, caplog)
    assert code in CODES
    usage = next((n for n, line in enumerate(lines) if line.startswith("srfast") and ": error: " in line), None)
    assert usage is not None, lines
    assert len(lines[usage:]) <= 3 * len([line for line in lines if "error: " in line]), lines
    assert [path for path in sorted(place.rglob("*")) if path not in before and path.is_file()] == []


def test_what_is_done_is_said_in_lines_of_its_own(
    place: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    codes = {name: said(place, (*words,), capfd, caplog)[0] for name, words in DONE.items()}
    assert {name: code for name, code in codes.items() if code} == {"damaged video": 8, "join too early": 6}


def test_messages_have_the_lines_that_they_are_given() -> None:
    error = InputError(f"{EVIL} is bad", "do something")
    assert str(error).split("\n") == [f"{escaped(EVIL)} is bad", "do something"]
    assert str(SrfastError(ValueError("a\nb"))) == "a\\nb"
    assert escaped("a\tb\n\x1b\x85") == "a\\tb\\n\\x1b\\x85"
