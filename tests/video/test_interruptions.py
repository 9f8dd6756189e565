"""Ctrl-C and failures while an input, an output or a thread gives nothing: the run ends, and says what it leaves."""

from __future__ import annotations

import array
import errno
import fcntl
import http.server
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from srfast.cli import main
from srfast.errors import InputError, OutputError
from srfast.video import iter_video, upscale_video
from srfast.video.encoder import FrameEncoder
from srfast.video.journal import Journal, journal_path
from srfast.video.reader import VideoReader
from srfast.video.upscale_stage import NetworkStage
from tests.helpers.video.children import SEGMENT, save_tiny, tiny
from tests.helpers.video.gradients import leftovers, make_clip

FRAMES = 40
SIZE = (48, 32)
Y4M = b"YUV4MPEG2 W48 H32 F25:1 Ip A1:1 C420jpeg\n" + FRAMES * (b"FRAME\n" + bytes(SIZE[0] * SIZE[1] * 3 // 2))
WRITTEN = (FRAMES - 4) * SIZE[0] * SIZE[1] * 6  # bytes: FFmpeg keeps some of the raw frames for its next write
MUST_END = 60  # seconds: a run that hangs fails its test instead of holding up the others


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A standard input that gives ``FRAMES`` frames and then nothing, and does not end."""
    read, write = os.pipe()
    feeding = threading.Thread(target=os.write, args=(write, Y4M), daemon=True)
    feeding.start()
    with os.fdopen(read) as source:
        monkeypatch.setattr(sys, "stdin", source)
        yield
        monkeypatch.undo()
    feeding.join()
    os.close(write)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in" / "clip.mkv", [40 * i for i in range(FRAMES)])


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()


def outcome(work: Callable[[], Any]) -> Any:
    """What it returns or raises, if it ends."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(MUST_END)
    assert found, "it hangs"
    return found[0]


def interrupt_at(frame: int, error: type[BaseException] = KeyboardInterrupt) -> Callable[[Any], None]:
    def report(progress: Any) -> None:
        if progress.done == frame:
            raise error

    return report


def unread(pipe: int) -> int:
    """Bytes that wait in it."""
    size = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, size)
    return size[0]


def wait_until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + MUST_END
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.02)


def command(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    model = save_tiny(folder / "model" / "tiny.safetensors")
    return subprocess.Popen(
        [sys.executable, "-m", "srfast", "upscale", *arguments, "-m", model, "--progress", "none"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
    )


def interrupted(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, once, ends it in order; its pipes stay open."""
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(MUST_END) == 130
    finally:
        process.kill()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert "interrupted" in said and "Fatal" not in said and "Traceback" not in said


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_silent_input(silent: None, tmp_path: Path, error: type[BaseException]) -> None:
    """All frames that came are done when the error comes, so the reading thread waits for more."""
    target = tmp_path / "out.mkv"
    ended = outcome(
        lambda: upscale_video("-", target, tiny(), segment=SEGMENT, on_progress=interrupt_at(FRAMES, error))
    )
    assert isinstance(ended, error)
    assert leftovers(tmp_path) == [journal_path(target).name, "in"]


def test_full_disk_and_silent_input(silent: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add, done = Journal.add, []

    def full(self: Journal, *arguments: Any) -> None:
        done.append(1)
        if len(done) == FRAMES:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, *arguments)

    monkeypatch.setattr(Journal, "add", full)
    ended = outcome(lambda: upscale_video("-", tmp_path / "out.mkv", tiny(), segment=1))
    assert isinstance(ended, OutputError) and "No space left" in str(ended)
    assert leftovers(tmp_path) == [journal_path(tmp_path / "out.mkv").name, "in"]


def test_silent_input_of_an_iterator(silent: None) -> None:
    def work() -> int:
        frames = iter_video("-", tiny())
        indices = [next(frames).index for _ in range(FRAMES)]
        frames.close()
        return indices[-1]

    assert outcome(work) == FRAMES - 1


def test_silent_frames() -> None:
    more = threading.Event()

    def source() -> Iterator[np.ndarray]:
        yield np.zeros((8, 8, 3), np.uint8)
        more.wait()

    def work() -> tuple[int, ...]:
        frames = tiny().frames(source())
        shape = next(frames).shape
        frames.close()
        return shape

    try:
        assert outcome(work) == (16, 16, 3)
    finally:
        more.set()


def test_interrupt_of_a_command_with_silent_input(tmp_path: Path) -> None:
    with command(tmp_path, "-", "-", "-f", "rawvideo") as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(Y4M)
        process.stdin.flush()
        process.stdout.read(WRITTEN)
        interrupted(process)


@pytest.mark.parametrize("start", [b"", Y4M[:20], Y4M[:500]])
def test_interrupt_before_the_first_frame(tmp_path: Path, start: bytes) -> None:
    """Ctrl-C comes inside FFmpeg's opening of the file, in the main thread."""
    with command(tmp_path, "-", "out.mkv") as process:
        assert process.stdin is not None
        process.stdin.write(start or b"Y")
        process.stdin.flush()
        wait_until(lambda: unread(process.stdin.fileno()) == 0)
        interrupted(process)
    assert leftovers(tmp_path) == ["in", "model"]


def test_interrupt_while_a_named_pipe_is_silent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in.y4m")
    with command(tmp_path, "in.y4m", "-", "-f", "rawvideo") as process, (tmp_path / "in.y4m").open("wb") as source:
        assert process.stdout is not None
        source.write(Y4M)
        source.flush()
        process.stdout.read(WRITTEN)
        interrupted(process)


def test_interrupt_while_nobody_reads(tmp_path: Path) -> None:
    make_clip(tmp_path / "in" / "large.mkv", [40 * i for i in range(FRAMES)], size=(320, 240))
    with command(tmp_path, "in/large.mkv", "-", "-f", "rawvideo") as process:
        assert process.stdout is not None
        room = fcntl.fcntl(process.stdout, 1032)  # F_GETPIPE_SZ
        wait_until(lambda: unread(process.stdout.fileno()) > room - 4096)
        interrupted(process)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("kind", ["rawvideo", "mkv", "mp4"])
def test_full_disk_behind_the_standard_output(tmp_path: Path, clip: Path, kind: str) -> None:
    model = save_tiny(tmp_path / "model" / "tiny.safetensors")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "srfast", "upscale", str(clip), "-", "-f", kind, "-m", model],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=MUST_END,
            check=False,
        )
    assert done.returncode == OutputError.exit_code, done.stderr
    assert b"No space left" in done.stderr and b"Fatal" not in done.stderr


PLACES = {"reading": (VideoReader, "_image"), "network": (NetworkStage, "_begin"), "writing": (FrameEncoder, "encode")}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, SystemExit])
def test_a_failure_in_any_thread(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: type[BaseException]
) -> None:
    """It is raised, nothing has the target's name, and the run continues."""
    kind, name = PLACES[place]
    work, calls = getattr(kind, name), []

    def failing(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 20:
            raise error("device lost")
        return work(self, *arguments)

    target = tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        patch.setattr(kind, name, failing)
        ended = outcome(lambda: upscale_video(clip, target, tiny(), segment=SEGMENT))
    assert type(ended) is error
    assert leftovers(tmp_path) == [journal_path(target).name, "in"]
    assert not [t.name for t in threading.enumerate() if t.name.startswith("srfast-")]
    result = upscale_video(clip, target, tiny(), segment=SEGMENT, resume=True)
    assert (result.frames, result.resumed > 0) == (FRAMES, True)


class _Server(http.server.BaseHTTPRequestHandler):
    """Sends the beginning of a file and then nothing, as a stream whose camera has stopped."""

    data = b""
    silent = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000000")
        self.end_headers()
        self.wfile.write(self.data)
        self.silent.wait()

    def log_message(self, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def address(clip: Path) -> Iterator[str]:
    handler = type("Server", (_Server,), {"data": clip.read_bytes(), "silent": threading.Event()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/clip.mkv"
    handler.silent.set()
    server.shutdown()
    server.server_close()


def count(path: Path) -> int:
    with av.open(str(path)) as c:
        return sum(1 for _ in c.decode(video=0))


LAST = FRAMES - 4  # the demuxer and the decoder may hold the last ones back until more comes


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_ctrl_c_ends_a_recording(tmp_path: Path, address: str, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    result = outcome(lambda: upscale_video(address, target, tiny(), on_progress=interrupt_at(LAST)))
    assert result.interrupted
    assert count(target) == result.frames >= LAST
    assert leftovers(tmp_path) == ["in", target.name]


def test_ctrl_c_before_the_first_frame_of_a_recording(tmp_path: Path, address: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkStage, "__call__", lambda self, items: (_ for _ in ()).throw(KeyboardInterrupt))
        ended = outcome(lambda: upscale_video(address, tmp_path / "out.mkv", tiny()))
    assert isinstance(ended, KeyboardInterrupt)
    assert leftovers(tmp_path) == ["in"]


def test_a_failure_ends_a_recording(tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is raised, but hours that cannot be recorded again stay."""
    target = tmp_path / "out.mkv"
    work = interrupt_at(LAST, RuntimeError)
    assert isinstance(outcome(lambda: upscale_video(address, target, tiny(), on_progress=work)), RuntimeError)
    assert count(target) > 0
    assert f"{target} holds the {count(target)} frames up to the failure" in caplog.text


def test_a_live_run_whose_input_fails(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, calls = VideoReader._image, []

    def failing(self: VideoReader, frame: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise InputError("the camera is gone")
        return image(self, frame)

    monkeypatch.setattr(VideoReader, "_image", failing)
    model = save_tiny(tmp_path / "model" / "tiny.safetensors")
    arguments = ["upscale", str(clip), str(tmp_path / "out.mkv"), "-m", model, "--max-latency", "300ms"]
    assert outcome(lambda: main(arguments)) == InputError.exit_code
    assert leftovers(tmp_path) == ["in", "model"]
