"""Film whose frames a player shows for three and two fields in turn (soft telecine): times, rate, and what is said."""

from __future__ import annotations

import itertools
import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from srfast.video import upscale_video
from srfast.video.damage import Steps
from srfast.video.rate import frame_rate, pulldown
from srfast.video.reader import VideoReader
from tests.helpers.video.children import tiny

FIELD = Fraction(1001, 60_000)
FRAMES = 24
FLAGS = ((1, 1), (0, 0), (0, 1), (1, 0))  # of four frames: the top field comes first, the first field is repeated
FILM = Fraction(24_000, 1001)


def flagged(data: bytes, top: int, repeat: int) -> bytes:
    """Set the flags of an MPEG-2 picture (ISO 13818-2, 6.2.3.1): a frame of film in an interlaced sequence."""
    out, at = bytearray(data), 0
    while (at := out.find(b"\0\0\1\xb5", at)) >= 0:
        kind = out[at + 4] >> 4
        if kind == 1:
            out[at + 5] &= ~0x08  # no progressive sequence
        elif kind == 8:
            out[at + 7] = (out[at + 7] & ~0x83) | 0x80 * top | 0x02 * repeat | 0x01
            out[at + 8] |= 0x80  # a progressive frame
        at += 4
    return bytes(out)


def film(path: Path, kind: str | None = None) -> tuple[Path, list[Fraction]]:
    """MPEG-2 with flags for 3:2 pulldown, and the times of its frames."""
    starts = [FIELD * sum(2 + FLAGS[k % 4][1] for k in range(i)) for i in range(FRAMES)]
    with av.open(str(path), "w", format=kind) as out:
        video = out.add_stream("mpeg2video", rate=Fraction(30_000, 1001), options={"g": "12", "bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        number = itertools.count()
        for i in [*range(FRAMES), None]:
            picture = None if i is None else av.VideoFrame.from_ndarray(np.full((64, 64, 3), 9 * i, np.uint8), "rgb24")
            for packet in video.encode(None if picture is None else picture.reformat(format="yuv420p")):
                k = next(number)
                top, repeat = FLAGS[k % 4]
                made = av.Packet(flagged(bytes(packet), top, repeat))
                made.time_base, made.pts, made.dts = FIELD, int(starts[k] / FIELD), int(starts[k] / FIELD)
                made.duration, made.is_keyframe, made.stream = 2 + repeat, packet.is_keyframe, video
                out.mux(made)
    return path, starts


def times(path: Path) -> list[float]:
    with av.open(str(path)) as c:
        base = c.streams.video[0].time_base
        found = sorted(float(p.pts * base) for p in c.demux(video=0) if p.size)
    return [time - found[0] for time in found]


@pytest.mark.parametrize(("suffix", "kind"), [(".ts", None), (".vob", "vob"), (".mkv", None), (".m2v", "mpeg2video")])
def test_its_times_are_kept_and_it_is_said(
    tmp_path: Path, suffix: str, kind: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    path, starts = film(tmp_path / f"in{suffix}", kind)
    with av.open(str(path)) as c:  # the flags as FFmpeg's parser reads them
        shown = [p.duration * p.time_base / FIELD for p in c.demux(video=0) if p.size]
    assert [round(n) for n in shown[:-1]] == [2 + FLAGS[k % 4][1] for k in range(FRAMES - 1)]
    with VideoReader(path) as reader:
        assert (reader.rate, reader.pulled_down, reader.interlaced) == (FILM, True, False)
    for out in ("mkv", "mp4", "ts", "avi"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "srfast"):
            result = upscale_video(path, tmp_path / f"out.{out}", tiny())
        assert (result.frames, bool(result.damage), result.damage.gaps) == (FRAMES, False, 0)
        assert "soft telecine" in caplog.text and "leap" not in caplog.text
        # The parser guesses the time of a VOB's last picture; an AVI has places.
        made = times(tmp_path / f"out.{out}")
        assert made[:-1] == pytest.approx([float(t) for t in starts[:-1]], abs=0.0011 + (out == "avi") / 60)
        assert made[-1] > made[-2] + 0.03


def test_one_rate_is_that_of_film(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, _ = film(tmp_path / "in.ts")
    with caplog.at_level(logging.WARNING, "srfast"):
        upscale_video(path, tmp_path / "out.y4m", tiny())
    assert (tmp_path / "out.y4m").read_bytes().split(b"\n", 1)[0].split()[3] == b"F24000:1001"
    assert "shown for another time" in caplog.text


@pytest.mark.parametrize("base", [Fraction(1, 90_000), Fraction(1, 1000), Fraction(1, 30_000)])
def test_what_it_is_taken_for(base: Fraction) -> None:
    def clock(fields: list[int]) -> list[int]:
        return [round(FIELD * n / base) for n in itertools.accumulate(fields, initial=0)]

    telecined = [3, 2] * 30
    assert frame_rate([Fraction(30_000, 1001)], clock(telecined), base) == FILM
    assert pulldown(clock([2] * 60), base) is None  # 30 frames a second
    assert pulldown(clock([2, 3, 2, 2, 3, 2, 2, 2] * 8), base) is None
    assert pulldown(clock([n * 2 for n in telecined]), base) is None  # 12 frames a second
    assert pulldown(clock(telecined[:5]), base) is None
    steps = Steps()
    for n in [2] * 90 + [3, 2, 3, 2]:  # video, and a little film
        steps.add(round(FIELD * n / base))
    assert steps.gaps() == 0
    steps.add(round(FIELD * 4 / base))
    assert steps.gaps() == 1
