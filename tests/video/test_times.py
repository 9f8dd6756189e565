"""Times, rates and counts are those that the frames show: AVI, edit lists, empty packets, uneven steps, jumps back."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from srfast.video import upscale_video
from srfast.video.copied import CopiedTimes
from srfast.video.decode_times import DecodeTimes, ReorderingError
from srfast.video.rate import frame_rate
from srfast.video.reader import RgbFrame, VideoReader
from srfast.video.repeats import Repeats
from srfast.video.timeline import Slots, Timeline
from tests.helpers.video.children import tiny
from tests.helpers.video.gradients import frame_times, make_clip, packets

MS = Fraction(1, 1000)
SIZE = (48, 32)


def coded(
    path: Path,
    times: list[int],
    codec: str = "libx264",
    base: Fraction = Fraction(1, 25),
    options: dict[str, str] | None = None,
    size: tuple[int, int] = SIZE,
    pix_fmt: str = "yuv420p",
) -> Path:
    """Frames that each tell their number by their brightness."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, options=options or {})
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.codec_context.time_base = video.time_base = base
        for i, pts in enumerate(times):
            picture = np.full((size[1], size[0], 3), 16 + 6 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = pts, base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def brightness(path: Path) -> list[int]:
    """Of each frame as it is shown, rounded to the number that ``coded`` gave it."""
    with av.open(str(path)) as c:
        return [round((float(f.to_ndarray(format="gray").mean()) - 16) / 6 / 219 * 255) for f in c.decode(video=0)]


def read(path: Path) -> tuple[VideoReader, list[RgbFrame]]:
    with VideoReader(path) as reader:
        return reader, [item for item in reader.items([]) if isinstance(item, RgbFrame)]


def counted(path: Path) -> int:
    """Frames that the file says it has."""
    with av.open(str(path)) as container:
        return container.streams.video[0].frames


def test_b_frames_in_avi_show_one_after_the_other(tmp_path: Path) -> None:
    """AVI has decoding places only, and FFmpeg's frames carry the place of another frame."""
    source = coded(tmp_path / "in.avi", list(range(16)), options={"bf": "3", "crf": "1", "x264-params": "scenecut=0"})
    with av.open(str(source)) as c:
        guessed = [f.pts for f in c.decode(video=0)]
    assert guessed != sorted(guessed)  # what the test is about
    upscale_video(source, tmp_path / "out.mp4", tiny())
    assert frame_times(tmp_path / "out.mp4") == [Fraction(i, 25) for i in range(16)]
    found = brightness(tmp_path / "out.mp4")
    assert found == sorted(found)


def test_empty_places_of_avi_are_no_loss(tmp_path: Path) -> None:
    """A recorder that dropped frames leaves their places empty; the header counts places."""
    times = [0, 1, 2, 3, 7, 8, 9, 10, 11, 12]
    source = coded(tmp_path / "in.avi", times, "mjpeg", pix_fmt="yuvj420p")
    reader, frames = read(source)
    assert counted(source) == 13
    assert reader.expected_frames == 10
    assert [f.pts for f in frames] == times
    assert not reader.damage


def test_an_avi_that_is_cut_off_is_damaged(tmp_path: Path) -> None:
    source = coded(tmp_path / "in.avi", list(range(30)), "mjpeg", pix_fmt="yuvj420p")
    data = source.read_bytes()
    source.write_bytes(data[: len(data) // 2])
    reader, frames = read(source)
    assert reader.damage and len(frames) < 30


def trimmed(source: Path, target: Path, start: int) -> Path:
    """Copies it from the key frame before ``start``; what lies before ``start`` is hidden by an edit list."""
    with av.open(str(source)) as c, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(c.streams.video[0])
        for packet in c.demux(video=0):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, stream
                out.mux(packet)
    return target


@pytest.mark.parametrize("bframes", ["0", "2"])
def test_what_an_edit_list_hides_is_not_missing(tmp_path: Path, bframes: str) -> None:
    whole = make_clip(tmp_path / "whole.mp4", [40 * i for i in range(60)], options={"bf": bframes, "g": "60"})
    with av.open(str(whole)) as c:
        start = round(Fraction(29 * 40, 1000) / c.streams.video[0].time_base)
    source = trimmed(whole, tmp_path / "in.mp4", start)
    reader, frames = read(source)
    assert counted(source) == 60
    assert reader.expected_frames == len(frames) == 31
    assert not reader.damage and not reader.damage.gaps
    result = upscale_video(source, tmp_path / "out.mp4", tiny(), strict=True)
    assert result.frames == 31 and not result.damage


class Packet:
    """What ``Timeline`` sees of one."""

    def __init__(self, index: int, kind: str, time: float, length: float = 0.04) -> None:
        self.stream = type("Stream", (), {"index": index, "type": kind})
        self.time_base, self.pos, self.size = Fraction(1, 90_000), 0, 1
        self.dts = self.pts = round(time * 90_000)
        self.duration = round(length * 90_000)


def test_streams_jump_together() -> None:
    """The sound jumps some packets after the pictures: both move by the same."""
    timeline = Timeline("mpegts", "in.ts")
    video = [Packet(0, "video", 10 + 0.04 * i) for i in range(50)]
    sound = [Packet(1, "audio", 10 + 0.02 * i, 0.02) for i in range(100)]
    again = [Packet(0, "video", 3 + 0.04 * i) for i in range(50)]
    later = [Packet(1, "audio", 3.01 + 0.02 * i, 0.02) for i in range(100)]
    subtitle = Packet(2, "subtitle", 3.5)
    jumps = [timeline.move(p) for p in [*video, *sound[:90], *again[:5], *sound[90:], *later, *again[5:], subtitle]]
    assert sum(jumps) == timeline.jumps == 1
    assert again[0].dts == (12 * 90_000)
    assert later[0].dts - again[0].dts == round(0.01 * 90_000)  # as they were before
    assert sound[95].dts == round((10 + 0.02 * 95) * 90_000)  # not moved with what comes after it
    assert subtitle.dts == round(12.5 * 90_000)
    both = sorted([p.dts for p in video + again])
    assert [p.dts for p in video + again] == both


def test_times_that_do_not_jump_are_left_alone() -> None:
    for container, times in (("mpegts", [0, 0.04, 0.08, 5.0, 3000.0]), ("matroska,webm", [1.0, 0.2, 9000.0])):
        timeline = Timeline(container, "in")
        all_of_them = [Packet(0, "video", t) for t in times]
        assert not any(timeline.move(p) for p in all_of_them)
        assert [p.dts for p in all_of_them] == [round(t * 90_000) for t in times]


def test_a_leap_of_hours_is_closed() -> None:
    """MP4 cannot leave that much between two packets; it says so when the file is completed."""
    timeline = Timeline("mpegts", "in.ts")
    both = [Packet(0, "video", t) for t in (0, 0.04, 72_000, 72_000.04)]
    assert [timeline.move(p) for p in both] == [False, False, True, False]
    assert [p.dts for p in both] == [0, 3600, 7200, 10_800]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_two_recordings_in_one_transport_stream(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost, times rise, the sound stays with the pictures, and it is said."""
    once = make_clip(tmp_path / "once.ts", [40 * i for i in range(25)], audio=True, options={"bf": "2", "g": "12"})
    source = tmp_path / "in.ts"
    source.write_bytes(once.read_bytes() * 2)
    result = upscale_video(source, tmp_path / f"out{suffix}", tiny())
    assert result.frames == 50 and result.damage.jumps == 1 and result.damage.lost == 0
    assert "jump back" in caplog.text and "repaired" in str(result.damage)
    times = frame_times(tmp_path / f"out{suffix}")
    assert len(times) == 50 and times == sorted(set(times))
    second = times[25:]
    assert [t - second[0] for t in second] == pytest.approx([t - times[0] for t in times[:25]], abs=0.002)
    sound = [time for time, _ in packets(tmp_path / f"out{suffix}", "audio")]
    assert len(sound) == 2 * len(packets(once, "audio")) and sound == sorted(sound)
    half = len(sound) // 2
    assert sound[half] - second[0] == pytest.approx(float(sound[0] - times[0]), abs=0.03)


def test_places_of_frames() -> None:
    slots = Slots()
    for place in (0, 1, 2, 5):
        slots.packet(place)
    slots.failed(1)
    assert [slots.frame(None) for _ in range(3)] == [0, 2, 5]
    assert slots.frame(7) == 7


def picture(pts: int, level: int) -> Any:
    frame = av.VideoFrame.from_ndarray(np.full((34, 50), level, np.uint8), format="gray").reformat(format="yuv420p")
    frame.pts, frame.time_base = pts, Fraction(1, 25)
    return frame


@pytest.mark.parametrize("delay", [0, 3])
def test_empty_packets_repeat_the_last_frame(delay: int) -> None:
    """Whether the decoder gives its frames at once or, on several threads, later."""
    repeats, out, waiting = Repeats(), [], []
    for pts, data in enumerate((1, 0, 0, 1, 1, 0, 1)):
        if not data:
            out += repeats.again(pts)
            continue
        repeats.packet(pts)
        waiting.append(picture(pts, 30 * pts))
        while len(waiting) > delay:
            out += [waiting[0], *repeats.frame(waiting.pop(0))]
    for frame in waiting:
        out += [frame, *repeats.frame(frame)]
    assert [f.pts for f in out] == list(range(7))
    levels = [round(float(f.to_ndarray(format="gray")[:34, :50].mean())) for f in out]
    assert levels == [0, 0, 0, 90, 120, 120, 180]


RATES = [
    ([60_000, 25], [0, 2400, 4800, 7200], Fraction(1, 60_000), Fraction(25)),  # raw DV: its clock as a rate
    ([25, 25], [0, 2, 4, 6, 8], Fraction(1, 25), Fraction(25, 2)),  # every second place is empty
    ([50], [0, 40, 80, 120, 160], MS, Fraction(25)),  # a wrong default duration
    ([None, None], [0, 33, 67, 100, 133, 167, 200], MS, Fraction(30)),
    ([Fraction(30_000, 1001)], [0, 33, 67, 100, 133, 167, 200], MS, Fraction(30_000, 1001)),
    ([12, 25], [0, 3, 6, 7, 9, 12, 13], Fraction(1, 25), Fraction(12)),  # uneven: the mean that is told
    ([100, 25], [0, 3, 6, 7, 9, 12, 13], Fraction(1, 25), Fraction(150, 13)),  # above all that the times show
    ([25, None], [], MS, Fraction(25)),
    ([60_000, 25], [], MS, Fraction(25)),
    ([30], [0], MS, Fraction(30)),
    ([], [], MS, None),
]


@pytest.mark.parametrize(("told", "times", "base", "rate"), RATES)
def test_frame_rates(told: list[Any], times: list[int], base: Fraction, rate: Fraction | None) -> None:
    found = frame_rate([None if r is None else Fraction(r) for r in told], times, base, True)
    assert found == rate


def test_raw_dv(tmp_path: Path) -> None:
    source = coded(tmp_path / "in.dv", list(range(3)), "dvvideo", size=(720, 576))
    reader, frames = read(source)
    assert (reader.rate, len(frames)) == (25, 3)
    for suffix in (".mp4", ".mkv"):
        upscale_video(source, tmp_path / f"out{suffix}", tiny())
        with av.open(str(tmp_path / f"out{suffix}")) as c:
            assert c.streams.video[0].average_rate == 25
        assert frame_times(tmp_path / f"out{suffix}") == [0, Fraction(1, 25), Fraction(2, 25)]


@pytest.mark.parametrize("seed", range(8))
def test_decoding_times_of_random_orders(seed: int) -> None:
    """They rise, none is after its packet's presentation, and all are packets' times but those before the first."""
    chance = np.random.default_rng(seed)
    shown = np.cumsum(chance.integers(1, 300, 200))
    coded_as = np.concatenate([chance.permutation(part) for part in np.array_split(shown, 50)])
    found = np.array(decode_times([coded_as]))
    assert (np.diff(found) > 0).all()
    assert (found <= coded_as).all()
    assert set(found[found >= shown[0]]) <= set(shown)
    assert decode_times([shown]) == shown.tolist()
    in_parts = np.array_split(coded_as, [4, 8, 100])  # none of the permutations lies across these
    depths = [ReorderingError(0).depth]
    while True:
        try:
            assert decode_times(in_parts, depths[-1]) == found.tolist()
            break
        except ReorderingError as deeper:
            depths.append(deeper.depth)
    assert depths == sorted(set(depths)) and len(depths) > 1


def decode_times(parts: list[np.ndarray], depth: int | None = None) -> list[int]:
    times = DecodeTimes(40, depth)
    found = []
    for part in parts:
        times.add(part.tolist())
        found += [next(times) for _ in part]
    return found


def test_decoding_times_across_segments(tmp_path: Path) -> None:
    """Segments of uneven steps, whose encoders each count from their own start."""
    times = [0, 40, 41, 42, 43, 400, 800, 801, 802, 803, 1500, 1501, 1502, 1503, 1504, 1505, 3000, 3001, 3002, 3003]
    source = make_clip(tmp_path / "in.mp4", times)
    for suffix in (".mp4", ".mkv"):
        upscale_video(source, tmp_path / f"out{suffix}", tiny(), segment=3)
        assert frame_times(tmp_path / f"out{suffix}") == frame_times(source)
        with av.open(str(tmp_path / f"out{suffix}")) as c:
            decoding = [p.dts for p in c.demux(video=0) if p.size and p.dts is not None]
        assert decoding == sorted(set(decoding))


def test_uneven_times_into_avi(tmp_path: Path) -> None:
    """Two frames within one place: the second takes the next, instead of an error at the end."""
    times = [0, 40, 41, 42, 43, 400, 800, 801, 802]
    result = upscale_video(make_clip(tmp_path / "in.mp4", times), tmp_path / "out.avi", tiny())
    with av.open(str(tmp_path / "out.avi")) as c:
        assert sum(1 for _ in c.decode(video=0)) == result.frames == len(times)


@pytest.mark.parametrize("loose", [False, True])
def test_times_of_copied_packets(loose: bool) -> None:
    times, found = CopiedTimes("audio", loose), []
    for pts, dts in ((0, 0), (10, 10), (10, 10), (None, None), (5, 5), (40, 50)):
        packet = av.Packet(b"x")
        packet.pts, packet.dts, packet.duration = pts, dts, 10
        assert times(packet) == [packet]
        found.append((packet.pts, packet.dts))
    assert all(pts >= dts for pts, dts in found)
    decoding = [dts for _, dts in found]
    assert decoding == sorted(decoding) and (loose or len(set(decoding)) == len(decoding))
    assert times.moved == 1


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".ts", ".nut"])
def test_a_further_video_keeps_its_times(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    """Matroska tells no decoding times: those of the first frames of a copied video with B-frames are made up."""
    source, out = tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    with av.open(str(source), "w") as c:
        streams = [
            c.add_stream("libx264", rate=25, options={"bf": "3", "x264-params": "scenecut=0:b-adapt=0"}) for _ in "ab"
        ]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(20):
            for k, stream in enumerate(streams):
                picture = np.full((48, 64, 3), 12 * (i if k else 19 - i), np.uint8)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
                frame.pts = i
                c.mux(stream.encode(frame))
        for stream in streams:
            c.mux(stream.encode(None))
    with av.open(str(source)) as c:
        given = [p for p in c.demux(video=1) if p.size]
        assert given[0].dts is None and [p.pts for p in given] != sorted(p.pts for p in given)
        times = [p.pts * p.time_base for p in given]
    with caplog.at_level("WARNING", "srfast"):
        upscale_video(source, out, tiny())
    assert caplog.text == ""
    with av.open(str(out)) as c:
        made = [(p.pts, p.dts, p.pts * p.time_base) for p in c.demux(video=1) if p.size]
        first = min(time for *_, time in made)
        assert [round(float(time - first) * 1000) for *_, time in made] == [round(float(t) * 1000) for t in times]
        assert all(dts is None or dts <= pts for pts, dts, _ in made)
    with av.open(str(out)) as c:
        levels = [float(f.to_ndarray(format="gray").mean()) for f in c.decode(video=1)]
        assert len(levels) == 20 and levels == sorted(levels)
        both = [next(c.streams.video[k].start_time * c.streams.video[k].time_base for _ in "a") for k in (0, 1)]
        assert abs(both[0] - both[1]) < Fraction(1, 500)


def test_packets_wait_for_a_decoding_time() -> None:
    def packet(pts: int, dts: int | None) -> Any:
        made = av.Packet(b"x")
        made.pts, made.dts, made.duration = pts, dts, 10
        return made

    times = CopiedTimes("video", False)
    first, second, third, fourth = packet(0, None), packet(40, None), packet(20, 0), packet(10, None)
    assert times(first) == times(second) == []
    assert times(third) == [first, second, third]
    assert times(fourth) == [fourth]
    made = [(p.pts, p.dts) for p in (first, second, third, fourth)]
    assert made == [(0, -50), (40, -10), (20, 0), (10, 10)] and times.moved == 0
    alone = CopiedTimes("video", False)
    waiting = [packet(0, None), packet(30, None), packet(10, None)]
    assert [alone(p) for p in waiting] == [[], [], []]
    assert [(p.pts, p.dts) for p in alone.rest()] == [(0, -20), (30, -10), (10, 10)] and alone.rest() == []
