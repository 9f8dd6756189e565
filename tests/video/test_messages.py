"""What FFmpeg says about an error is heard in the thread that asks, and no thread waits for another."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path

import av
import pytest

from srfast.video.messages import ERROR, Message, messages

# Frames with errors, decoded by threads and given up after the first ones, while another thread listens to FFmpeg.
GIVEN_UP = """
import io, threading, time
import av
import numpy as np
from srfast.video.messages import messages

made, random = io.BytesIO(), np.random.default_rng(0)
with av.open(made, "w", format="matroska") as out:
    video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "10"})
    video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
    for _ in range(30):
        picture = av.VideoFrame.from_ndarray(random.integers(0, 256, (240, 320, 3), np.uint8), "rgb24")
        out.mux(video.encode(picture))
    out.mux(video.encode(None))
data = bytearray(made.getvalue())
for place in range(5000, len(data), 3000):
    data[place] ^= 0x55

def listen():
    with messages():
        listening.set()
        ended.wait()

listening, ended = threading.Event(), threading.Event()
thread = threading.Thread(target=listen)
thread.start()
listening.wait()
until = time.monotonic() + 4
while time.monotonic() < until:
    damaged = av.open(io.BytesIO(bytes(data)))
    damaged.streams.video[0].thread_type = "FRAME"
    damaged.streams.video[0].codec_context.thread_count = 4
    frames = damaged.decode(video=0)
    try:
        next(frames), next(frames)
    except av.error.FFmpegError:
        pass
    del damaged, frames
ended.set()
thread.join()
"""


def refused(path: Path) -> None:
    """Opens a file that is no video, about which FFmpeg says more than its error code does."""
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(path))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + b"\0\0\0\x10free" + bytes(8))
    return path


def test_what_is_said_is_heard(broken: Path) -> None:
    with messages() as said:
        assert said() == []
        refused(broken)
        assert [(level, text.strip()) for level, text in said()] == [(ERROR, "moov atom not found")]
    with messages() as said:
        assert said() == []


def test_threads_hear_themselves(broken: Path) -> None:
    heard: list[list[Message]] = []
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with messages() as said:
            inside.set()
            done.wait(60)
            heard.append(said())

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    with messages() as said:
        refused(broken)
        heard.append(said())
    refused(broken)  # in no block, while the other thread is in one
    done.set()
    thread.join()
    assert [len(said) for said in heard] == [1, 0]


@pytest.mark.parametrize("level", [None, av.logging.ERROR])
def test_the_programs_log_level_stays(broken: Path, level: int | None, caplog: pytest.LogCaptureFixture) -> None:
    before = av.logging.get_level()
    av.logging.set_level(level)
    try:
        with messages():
            refused(broken)
        assert not caplog.records
        with caplog.at_level(logging.ERROR, "libav"):
            refused(broken)
        assert ("moov atom not found" in caplog.text) == (level is not None)
        assert av.logging.get_level() == level
    finally:
        av.logging.set_level(before)


def test_no_thread_waits_for_another() -> None:
    """PyAV frees a decoder while it holds Python's lock: what its threads still say must not want that lock."""
    subprocess.run([sys.executable, "-c", GIVEN_UP], timeout=60, check=True)
