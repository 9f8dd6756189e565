"""'-' as input and output: Y4M, raw frames and containers through real pipes."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from srfast.cli import main
from srfast.errors import FrameLossError, InputError, OutputError, SrfastError
from srfast.upscaler import Upscaler
from srfast.video import upscale_live, upscale_video
from tests.helpers.video.children import save_tiny
from tests.helpers.video.gradients import STEADY, make_clip

RAW = ["--input-format", "rawvideo", "--input-option", "framerate=25"]
FRAME = 48 * 32 * 3 // 2  # bytes of an input frame, yuv420p


@pytest.fixture
def model(tmp_path: Path) -> str:
    return save_tiny(tmp_path / "model" / "tiny.safetensors")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in.mp4", STEADY)


def test_a_limit_ends_while_the_source_stays_open(clip: Path, tmp_path: Path, model: str) -> None:
    """With no other streams to copy, nothing after the last frame is waited for."""
    source = tmp_path / "in.y4m"
    os.mkfifo(source)
    frames = b"".join(b"FRAME\n" + bytes(FRAME) for _ in range(30))
    done = threading.Event()

    def feed() -> None:
        with source.open("wb") as file:
            file.write(b"YUV4MPEG2 W48 H32 F25:1 Ip A1:1 C420jpeg\n" + frames)
            file.flush()
            done.wait(60)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        result = upscale_video(source, tmp_path / "out.mkv", model, frames=5)
    finally:
        open_still = thread.is_alive()
        done.set()
        thread.join()
    assert (result.frames, open_still) == (5, True)


@pytest.mark.parametrize("pattern", ["100% done/%02d.png", "x%%s_%02d.png", "50%of/%d%%.png"])
def test_signs_of_percent_in_a_path(clip: Path, tmp_path: Path, model: str, pattern: str) -> None:
    (tmp_path / pattern).parent.mkdir(exist_ok=True)
    upscale_video(clip, tmp_path / pattern, model, frames=2)
    name = Path(pattern).name
    expected = [(tmp_path / pattern).parent / (name % number) for number in (1, 2)]
    assert all(path.is_file() for path in expected)
    with pytest.raises(OutputError, match="exists"):
        upscale_video(clip, tmp_path / pattern, model, frames=2)


def piped(monkeypatch: pytest.MonkeyPatch, arguments: list[str], data: bytes = b"") -> tuple[int, bytes]:
    """Runs the command between two pipes; returns its code and what it wrote."""
    ends = [os.pipe(), os.pipe()]
    received: list[bytes] = []

    def feed() -> None:
        with os.fdopen(ends[0][1], "wb") as file:
            file.write(data)

    def drain() -> None:
        with os.fdopen(ends[1][0], "rb") as file:
            received.append(file.read())

    threads = [threading.Thread(target=work) for work in (feed, drain)]
    for thread in threads:
        thread.start()
    with monkeypatch.context() as patch:
        with os.fdopen(ends[0][0]) as source, io.TextIOWrapper(os.fdopen(ends[1][1], "wb")) as target:
            patch.setattr(sys, "stdin", source)
            patch.setattr(sys, "stdout", target)
            code = main(["upscale", *arguments, "--progress", "none"])
            source.buffer.read()
        for thread in threads:
            thread.join()
    return code, received[0]


def lumas(source: Path | bytes, **options: str) -> list[np.ndarray]:
    with av.open(str(source) if isinstance(source, Path) else io.BytesIO(source), **options) as c:
        return [f.to_ndarray(format="gray") for f in c.decode(video=0)]


def test_y4m_out_and_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path, model: str) -> None:
    code, y4m = piped(monkeypatch, [str(clip), "-", "-m", model])
    assert code == 0 and y4m.startswith(b"YUV4MPEG2 W96 H64 F25:1 ")
    assert main(["upscale", str(clip), str(tmp_path / "a.mkv"), "-m", model, "-c", "ffv1"]) == 0
    assert all(map(np.array_equal, lumas(y4m), lumas(tmp_path / "a.mkv")))
    code, again = piped(monkeypatch, ["-", "-", "-m", model], y4m)
    assert code == 0 and again.startswith(b"YUV4MPEG2 W192 H128 ")
    assert len(lumas(again)) == len(STEADY)
    code, _ = piped(monkeypatch, ["-", str(tmp_path / "b.mkv"), "-m", model], y4m)
    assert code == 0 and len(lumas(tmp_path / "b.mkv")) == len(STEADY)


def test_raw_frames_out_and_in(monkeypatch: pytest.MonkeyPatch, clip: Path, model: str) -> None:
    code, raw = piped(monkeypatch, [str(clip), "-", "-f", "rawvideo", "-m", model])
    assert code == 0 and len(raw) == 4 * FRAME * len(STEADY)
    code, bgr = piped(monkeypatch, [str(clip), "-", "-f", "rawvideo", "--pix-fmt", "bgr24", "-m", model])
    assert code == 0 and len(bgr) == 8 * FRAME * len(STEADY)
    size = ["--input-option", "video_size=96x64"]
    code, y4m = piped(monkeypatch, ["-", "-", *RAW, *size, "-m", model], raw)
    assert code == 0 and len(lumas(y4m)) == len(STEADY)
    code, more = piped(
        monkeypatch, ["-", "-", "-f", "rawvideo", *RAW, *size, "--input-option", "pixel_format=bgr24", "-m", model], bgr
    )
    assert code == 0 and len(more) == 4 * len(bgr)


def test_raw_frames_need_their_size(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.yuv").write_bytes(bytes(2 * FRAME))
    for source, options in (("-", RAW), (str(tmp_path / "x.yuv"), [])):
        code, _ = piped(monkeypatch, [source, "-", *options, "-m", model], bytes(2 * FRAME))
        assert code == InputError.exit_code
        assert "--input-option video_size=" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["mkv", "mp4", "ts"])
def test_containers(monkeypatch: pytest.MonkeyPatch, clip: Path, model: str, kind: str) -> None:
    code, data = piped(monkeypatch, [str(clip), "-", "-f", kind, "-m", model])
    assert code == 0 and len(lumas(data)) == len(STEADY)
    code, data = piped(monkeypatch, ["-", "-", "-f", kind, "-m", model], data)
    assert code == 0 and len(lumas(data)) == len(STEADY)


def test_what_cannot_come_from_a_pipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    large = make_clip(tmp_path / "large.mp4", STEADY, size=(320, 240), options={"qp": "0"})
    for data, says in ((large.read_bytes(), "needs a file, not a pipe"), (b"", "the standard input is not a video")):
        code, _ = piped(monkeypatch, ["-", "-", "-m", model], data)
        assert code == InputError.exit_code
        assert says in capfd.readouterr().err


@pytest.mark.parametrize("as_file", [True, False])
def test_a_part_of_a_frame_is_lost_loudly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip: Path, model: str, as_file: bool
) -> None:
    _, y4m = piped(monkeypatch, [str(clip), "-", "-m", model])
    (tmp_path / "cut.y4m").write_bytes(y4m[:-1000])
    source = str(tmp_path / "cut.y4m") if as_file else "-"
    code, data = piped(monkeypatch, [source, "-", "-m", model], y4m[:-1000])
    assert code == FrameLossError.exit_code
    assert len(lumas(data)) == len(STEADY) - 1
    assert piped(monkeypatch, [source, "-", "-m", model, "--strict"], y4m[:-1000])[0] == FrameLossError.exit_code
    _, raw = piped(monkeypatch, [str(clip), "-", "-f", "rawvideo", "-m", model])
    size = ["--input-option", "video_size=96x64"]
    assert piped(monkeypatch, ["-", "-", *RAW, *size, "-m", model], raw[:-100])[0] == FrameLossError.exit_code


@pytest.mark.parametrize("redirected", [True, False])
@pytest.mark.parametrize("suffix", [".mkv", ".webm", ".y4m"])
def test_an_input_that_was_cut_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: str, suffix: str, redirected: bool
) -> None:
    """What feeds the standard input may have died: the bytes that Matroska promises, or a whole last frame, are missing."""
    made = make_clip(tmp_path / "made.mkv", [40 * i for i in range(40)], options={"g": "5", "crf": "10"})
    whole = tmp_path / f"in{suffix}"
    upscale_video(made, whole, model)
    codes = []
    for data in (whole.read_bytes(), whole.read_bytes()[: whole.stat().st_size * 6 // 10]):
        arguments = ["-", str(tmp_path / "out.mkv"), "-y", "-m", model]
        if redirected:
            part = tmp_path / f"part{suffix}"
            part.write_bytes(data)
            with part.open() as source, monkeypatch.context() as patch:
                patch.setattr(sys, "stdin", source)
                codes.append(main(["upscale", *arguments]))
        else:
            codes.append(piped(monkeypatch, arguments, data)[0])
    assert codes == [0, FrameLossError.exit_code]


@pytest.mark.parametrize("arguments", [["info"], ["upscale", "in.mp4", "-", "-m", "tiny.safetensors"]])
def test_a_reader_that_goes_away(tmp_path: Path, arguments: list[str]) -> None:
    make_clip(tmp_path / "in.mp4", [40 * i for i in range(100)], size=(320, 240))
    save_tiny(tmp_path / "tiny.safetensors")
    command = [sys.executable, "-m", "srfast", *arguments]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        error = process.stderr.read().decode()
    # Frames per second and the like are no error; what was short enough may have been written whole.
    assert process.returncode in (141, 0) if arguments == ["info"] else process.returncode == 141
    assert "error" not in error and "Broken" not in error


def test_a_plan_needs_a_file(
    clip: Path, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-", "-m", model]) == InputError.exit_code
    assert "give a file" in capsys.readouterr().err
    assert main(["plan", str(clip), "-m", model, "--seconds", "0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["frames"], found["width"], found["height"]) == (len(STEADY), 96, 64)
    assert found["fps"] > 0 and found["memory_bytes"] > 1 << 20 and found["output_bytes"] > 1000


def test_a_limit_of_memory(clip: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["upscale", str(clip), str(tmp_path / "out.mkv"), "-m", model, "--progress", "none"]
    assert main([*arguments, "--max-memory", "8G"]) == 0
    assert main([*arguments, "-y", "--max-memory", "20M"]) == SrfastError.exit_code
    assert "is too small for this input; it needs" in capsys.readouterr().err
    assert main([*arguments, "-y", "--max-memory", "banana"]) == 2


def test_live_counts_every_frame(
    tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A recording plays at its own rate; each frame is made in one way or dropped."""
    clip, target = make_clip(tmp_path / "in.mp4", STEADY, audio=True), tmp_path / "live.mkv"
    assert main(["upscale", str(clip), str(target), "-m", model, "--max-latency", "300ms", "--progress", "none"]) == 0
    said = capsys.readouterr().err
    received, full, lighter, bicubic, dropped, _, _ = map(int, re.findall(r"\b\d+(?= )", said)[:7])
    assert received == len(STEADY) == full + lighter + bicubic + dropped
    assert len(lumas(target)) == full + lighter + bicubic
    assert "a live run carries frames only, so the output will lack: audio (aac)" in caplog.text


@pytest.mark.parametrize("output", [None, io.StringIO()], ids=["none", "of a notebook"])
def test_an_output_for_text_takes_no_video(
    output: io.StringIO | None, clip: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused for "-" and never asked for with a file, live or not."""
    monkeypatch.setattr(sys, "stdout", output)
    upscaler = Upscaler(model, device="cpu", dtype="fp32")
    for run in (upscale_video, upscale_live):
        with pytest.raises(OutputError, match="the standard output takes no video here"):
            run(clip, "-", upscaler, frames=1)
    assert upscale_live(clip, tmp_path / "live.mkv", upscaler, frames=1).frames == 1
    assert upscale_video(clip, tmp_path / "file.mkv", upscaler, frames=1).frames == 1


def test_a_terminal_gets_no_frames(clip: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert main(["upscale", str(clip), "-", "-m", model]) == OutputError.exit_code


@pytest.mark.parametrize(
    ("suffix", "kept", "said"),
    [
        ("mkv", 1.0, None),
        ("mkv", 300, "Input/output error; it may be cut off"),
        ("flv", 700, r"\(no size or pixel format\); it may be cut off"),
        ("webp", 1.0, "an animated WebP needs a file, not a pipe"),
    ],
)
def test_a_cut_input_is_not_called_an_mp4(
    tmp_path: Path, model: str, suffix: str, kept: float | int, said: str | None
) -> None:
    """What to do about an input that tells no size depends on what it is."""
    source = tmp_path / f"in.{suffix}"
    if suffix == "webp":
        if av.library_versions["libavformat"] >= (63,):
            said = None  # FFmpeg reads it
        animation = cv2.Animation()
        animation.frames = [np.full((32, 48, 4), 80 * n, np.uint8) for n in range(3)]
        animation.durations = np.full(3, 100, np.int32)
        assert cv2.imwriteanimation(str(source), animation)
    else:
        make_clip(source, STEADY)
    data = source.read_bytes()[: kept if isinstance(kept, int) else None]
    command = [
        sys.executable,
        "-m",
        "srfast",
        "upscale",
        "-",
        str(tmp_path / "out.mkv"),
        "-m",
        model,
        "--device",
        "cpu",
    ]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert done.returncode == (0 if said is None else InputError.exit_code)
    assert said is None or re.search(said, done.stderr.decode())
    assert "MP4" not in done.stderr.decode()
