"""Errors that FFmpeg covers up: told on every run, from a file as from a pipe, and the same pixels as on one thread."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path

import av
import pytest

from srfast.video import InputOptions
from srfast.video.decoding import CONCEALED, Decoding
from tests.helpers.video.segments import moving_clip, on_one_thread

CLIPS = {
    "h264": ("libx264", ".mkv", {"x264-params": "scenecut=0:keyint=30"}),
    "h264 in slices": ("libx264", ".mkv", {"x264-params": "scenecut=0:keyint=30:slices=4"}),
    "mpeg2": ("mpeg2video", ".ts", {}),
    "mpeg4": ("mpeg4", ".avi", {}),
}
Frames = list[tuple[str, bool]]  # of each frame, what it shows and whether an error of it was covered up


def summary(frame: av.VideoFrame) -> tuple[str, bool]:
    pixels = hashlib.sha256(frame.to_ndarray(format="yuv420p").tobytes()).hexdigest()
    return pixels, frame.is_corrupt


def by_srfast(source: Path) -> tuple[Frames, int]:
    """What the reader gives, and how many frames with concealed errors it has counted."""
    decoding = Decoding(source, InputOptions(), strict=False)
    try:
        frames = [summary(event) for event in decoding.events() if isinstance(event, av.VideoFrame)]
        assert decoding.stream.codec_context.name in CONCEALED
        return frames, decoding.damage.concealed
    finally:
        decoding.close()


def through_pipe(path: Path) -> tuple[Frames, int]:
    pipe = path.with_suffix(".pipe")
    os.mkfifo(pipe)
    thread = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()), daemon=True)
    thread.start()
    try:
        return by_srfast(pipe)
    finally:
        thread.join(10)
        pipe.unlink()


def damaged_copies(clip: Path, count: int) -> list[Path]:
    """Copies of a clip, each with some bytes of one packet overwritten."""
    with av.open(str(clip)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.pos is not None and p.size > 60]
    data, chance, copies = clip.read_bytes(), random.Random(11), []
    for number in range(count):
        at, size = packets[chance.randrange(1, len(packets))]
        damaged = bytearray(data)
        start = at + chance.randrange(20, size - 40)
        damaged[start : start + 32] = chance.randbytes(32)
        copies.append(clip.with_name(f"{number}{clip.suffix}"))
        copies[-1].write_bytes(damaged)
    return copies


@pytest.mark.parametrize("name", CLIPS)
def test_covered_errors_are_told_every_time(tmp_path: Path, name: str) -> None:
    codec, suffix, options = CLIPS[name]
    clip = moving_clip(tmp_path / f"in{suffix}", codec, options=options, bframes=2)
    found = 0
    for copy in damaged_copies(clip, 60):
        expected = [summary(frame) for frame in on_one_thread(copy)]
        hidden = sum(corrupt for _, corrupt in expected)
        found += hidden > 0
        for read in (by_srfast, by_srfast, through_pipe):
            frames, counted = read(copy)
            assert frames == expected
            assert counted == hidden
        if found == 3:  # many copies are pictures to the decoder, and show no error
            return
    raise AssertionError("the copies are not of the kind that this is about")
