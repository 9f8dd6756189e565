"""Film whose frames a player shows for three and two fields in turn (soft telecine): times, rate, and what is said."""

from __future__ import annotations

import itertools
import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from srfast.video import InputOptions, upscale_video
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


# H.264's pic_struct (ITU-T H.264, table D-1): the fields that a frame is shown for, and how many clock flags follow.
STRUCT = {0: (2, 1), 3: (2, 2), 4: (2, 2), 5: (3, 3), 6: (3, 3), 7: (4, 2), 8: (6, 3)}
TURNS = {
    "film": (5, 4, 6, 3),
    "film from its middle": (4, 6, 3, 5),
    "double": (7,),
    "triple": (8,),
    "mixed": (7, 8, 0),
    "whole": (0,),
    "woven": (3,),
}
RATES = {"double": Fraction(15_000, 1001), "triple": Fraction(10_000, 1001), "film": FILM, "film from its middle": FILM}


def structured(data: bytes, struct: int) -> bytes:
    """Set pic_struct in the picture timing SEI, which x264 writes in one byte where there is no HRD."""
    at = data.index(b"\x06\x01\x01\x04\x80") + 3
    return data[:at] + bytes([struct << 4 | 1 << (3 - STRUCT[struct][1])]) + data[at + 1 :]


def h264(path: Path, turns: str, bframes: int = 0) -> tuple[Path, list[Fraction]]:
    """H.264 whose frames say how long they are shown, at 60 fields a second, and their times."""
    shown = [TURNS[turns][k % len(TURNS[turns])] for k in range(FRAMES)]
    ticks = list(itertools.accumulate((STRUCT[struct][0] for struct in shown), initial=0))
    options = {"x264-params": "pic-struct=1:b-adapt=0", "g": "12", "preset": "ultrafast", "bf": str(bframes)}
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=Fraction(30_000, 1001), options=options)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        step, delay = Fraction(1001, 30_000), 12 if bframes else 0
        number = itertools.count()
        for i in [*range(FRAMES), None]:
            picture = None if i is None else av.VideoFrame.from_ndarray(np.full((64, 64, 3), 9 * i, np.uint8), "rgb24")
            for packet in video.encode(None if picture is None else picture.reformat(format="yuv420p")):
                assert packet.pts is not None and packet.time_base is not None
                k, coded = round(packet.pts * packet.time_base / step), next(number)
                made = av.Packet(structured(bytes(packet), shown[k]))
                made.time_base, made.pts, made.duration = FIELD, ticks[k], STRUCT[shown[k]][0]
                made.dts = ticks[coded] - delay
                made.is_keyframe, made.stream = packet.is_keyframe, video
                out.mux(made)
    return path, [FIELD * tick for tick in ticks[:-1]]


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


@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4", ".h264"])
@pytest.mark.parametrize("turns", TURNS)
def test_h264_frames_are_shown_for_as_long_as_they_say(
    tmp_path: Path, turns: str, suffix: str, bframes: int, caplog: pytest.LogCaptureFixture
) -> None:
    path, starts = h264(tmp_path / f"in{suffix}", turns, bframes)
    with VideoReader(path) as reader:
        if turns != "mixed":
            assert reader.rate == RATES.get(turns, Fraction(30_000, 1001))
        assert (reader.pulled_down, reader.interlaced) == (turns.startswith("film"), turns == "woven")
        assert reader.expected_frames in (0, *range(FRAMES - 1, FRAMES + 2))
    with caplog.at_level(logging.WARNING, "srfast"):
        result = upscale_video(path, tmp_path / "out.mkv", tiny())
    assert (result.frames, bool(result.damage), result.damage.gaps, result.damage.jumps) == (FRAMES, False, 0, 0)
    assert ("soft telecine" in caplog.text) == (turns.startswith("film")) and "leap" not in caplog.text
    assert times(tmp_path / "out.mkv") == pytest.approx([float(t - starts[0]) for t in starts], abs=0.0011)


@pytest.mark.parametrize("turns", ["film", "mixed"])
def test_bare_h264_is_shown_at_a_rate_that_is_given(tmp_path: Path, turns: str) -> None:
    path, starts = h264(tmp_path / "in.h264", turns, 2)
    given = InputOptions(options={"framerate": "10"})
    upscale_video(path, tmp_path / "out.mkv", tiny(), input_options=given)
    assert times(tmp_path / "out.mkv") == pytest.approx([i / 10 for i in range(FRAMES)], abs=0.0011)
    with VideoReader(path, InputOptions(start=float(starts[9]))) as late:
        read = [(frame.pts * late.time_base, frame.image.mean()) for frame in late.items([])]
        assert [time for time, _ in read] == [start - starts[9] for start in starts[9:]]
    assert [level for _, level in read] == pytest.approx([9 * k for k in range(9, FRAMES)], abs=3)


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
