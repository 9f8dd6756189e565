"""Inputs whose clock begins anywhere (broadcasts, camcorders, discs): the output begins at zero, sound and pictures in step."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from srfast.video import InputOptions, iter_video, upscale_video
from tests.helpers.video.children import tiny

FRAMES, RATE = 25, 25


def clip(path: Path, start: float, sound: float = 0.0, kind: str | None = None) -> Path:
    """A second of MPEG-2 that begins at ``start`` seconds, and MP2 that begins ``sound`` seconds later."""
    with av.open(str(path), "w", format=kind) as out:
        video = out.add_stream("mpeg2video", rate=RATE, options={"g": "12", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = out.add_stream("mp2", rate=48_000, layout="mono")
        first = round(start * RATE)
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 9 * i, np.uint8), "rgb24").reformat(
                format="yuv420p"
            )
            frame.pts, frame.time_base = first + i, Fraction(1, RATE)
            out.mux(video.encode(frame))
            tone = av.AudioFrame.from_ndarray(np.full((1, 1920), 50 * i, np.int16), format="s16", layout="mono")
            tone.sample_rate, tone.time_base = 48_000, Fraction(1, 48_000)
            tone.pts = round(48_000 * (start + sound)) + 1920 * i
            out.mux(audio.encode(tone))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    return path


def begins(path: Path) -> tuple[list[float], float]:
    """Times of the frames, and of the first packet of sound."""
    with av.open(str(path)) as c:
        video, audio = c.streams.video[0], c.streams.audio[0]
        frames, sounds = [], []
        for packet in c.demux(video, audio):
            time = packet.pts if packet.pts is not None else packet.dts
            if packet.size and time is not None:
                (frames if packet.stream is video else sounds).append(float(time * packet.time_base))
    return sorted(frames), min(sounds)


@pytest.mark.parametrize("start", [0.72, 40_000.0])
@pytest.mark.parametrize(("suffix", "kind"), [(".ts", None), (".vob", "vob")])
def test_a_clock_that_begins_late(tmp_path: Path, suffix: str, kind: str | None, start: float) -> None:
    source = clip(tmp_path / f"in{suffix}", start, kind=kind)
    given, heard = begins(source)
    if kind is None or start < 1:  # a VOB's own muxer puts other starts near zero
        assert given[0] > start - 1
    zero = min(given[0], heard)
    for out in (".mkv", ".mp4", ".mov", ".ts"):
        result = upscale_video(source, tmp_path / f"out{out}", tiny())
        assert (result.frames, bool(result.damage)) == (FRAMES, False)
        frames, sound = begins(tmp_path / f"out{out}")
        moved = min(frames[0], sound)
        assert moved == pytest.approx(0, abs=0.0011) or (out == ".ts" and 0 < moved < 0.1)  # which decodes before zero
        assert np.array(frames) - moved == pytest.approx(np.array(given) - zero, abs=0.0011)
        assert sound - moved == pytest.approx(heard - zero, abs=0.0011)
    assert upscale_video(source, tmp_path / "out.avi", tiny()).frames == FRAMES
    frames, sound = begins(tmp_path / "out.avi")
    assert sound == 0
    assert np.array(frames) - sound == pytest.approx(np.array(given) - heard, abs=0.5 / RATE + 0.001)
    times = [float(frame.time) for frame in iter_video(source, tiny())]
    assert times == pytest.approx([time - zero for time in given], abs=0.0011)


def test_a_part_of_it(tmp_path: Path) -> None:
    source = clip(tmp_path / "in.ts", 40_000.0)
    options = InputOptions(start=0.2, end=0.6)
    assert upscale_video(source, tmp_path / "out.mkv", tiny(), input_options=options).frames in (10, 11)
    frames, sound = begins(tmp_path / "out.mkv")
    assert frames[0] < 0.04 and abs(sound - frames[0]) < 0.04


@pytest.mark.parametrize("start", [0.0, 0.72, 10.0])
def test_an_avi_begins_with_its_sound(tmp_path: Path, start: float, caplog: pytest.LogCaptureFixture) -> None:
    """AVI has places for pictures, and none for a sound that begins later."""
    source = clip(tmp_path / "in.mkv", start)
    with caplog.at_level(logging.WARNING, "srfast"):
        assert upscale_video(source, tmp_path / "out.avi", tiny()).frames == FRAMES
    assert "early" not in caplog.text
    assert begins(tmp_path / "out.avi")[0] == pytest.approx([i / RATE for i in range(FRAMES)], abs=0.001)


def test_a_sound_that_begins_later_is_named_in_avi(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = clip(tmp_path / "in.mkv", 0.0, sound=0.5)
    for out, named in ((".mkv", False), (".avi", True)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "srfast"):
            upscale_video(source, tmp_path / f"out{out}", tiny())
        assert ("it will be 0.50 s early" in caplog.text) is named
    assert begins(tmp_path / "out.mkv")[1] == pytest.approx(0.5, abs=0.03)
