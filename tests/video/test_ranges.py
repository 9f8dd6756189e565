"""A part of a video: exactly its frames, its sound, subtitles and chapters, at times that begin at zero."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from srfast.cli import main
from srfast.errors import InputError
from srfast.video import Encoding, InputOptions, iter_video, upscale_video
from srfast.video.reader import RgbFrame, VideoReader
from tests.helpers.video.children import save_tiny, tiny
from tests.helpers.video.gradients import STEADY, UNEVEN, make_clip

RATE, FRAMES, STEP = 25, 50, 5


def clip(path: Path, codec: str = "libx264", options: dict[str, str] | None = None, start: int = 0) -> Path:
    """Two seconds whose frames tell their number, with a tone of 1024 samples a packet, from frame ``start`` on."""
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=RATE, options=options or {"qp": "0", "g": "12", "bf": "2"})
        video.width, video.height, video.pix_fmt = 32, 16, "yuv420p"
        sound = out.add_stream("ac3", rate=48_000, layout="mono")
        out.set_chapters(
            [
                {"id": i, "start": a, "end": b, "time_base": Fraction(1, 1000), "metadata": {"title": f"part {i}"}}
                for i, (a, b) in enumerate([(0, 900), (900, 1500), (1500, 2000)])
            ]
        )
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), STEP * i, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts, frame.time_base = start + i, Fraction(1, RATE)
            out.mux(video.encode(frame))
            samples = np.full((1, 1920), 0.01 * i, np.float32)
            tone = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            tone.sample_rate, tone.pts, tone.time_base = 48_000, 1920 * (start + i), Fraction(1, 48_000)
            out.mux(sound.encode(tone))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def numbers(path: Path, options: InputOptions | None = None) -> list[tuple[int, Fraction]]:
    """Number and time of each frame."""
    with VideoReader(path, options) as reader:
        frames = [item for item in reader.items([]) if isinstance(item, RgbFrame)]
        assert not reader.damage, reader.damage
        return [(round(float(f.image.mean()) / STEP), f.pts * reader.time_base) for f in frames]


def sounds(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(audio=0) if p.size]


SOURCES = {
    "mp4": ("in.mp4", "libx264", None, 0),
    "mkv": ("in.mkv", "libx264", None, 0),
    "ts": ("in.ts", "libx264", None, 0),
    "late": ("in.ts", "libx264", None, 1000),
    "endless group": ("in.mkv", "libx264", {"qp": "0", "g": "999", "keyint": "999"}, 0),
    "refresh": ("in.mkv", "libx264", {"qp": "0", "g": "10", "x264-params": "intra-refresh=1"}, 0),
    "avi": ("in.avi", "mpeg4", {"flags": "+qscale", "global_quality": "118", "bf": "2"}, 0),
    "key frames": ("in.mkv", "ffv1", {}, 0),
}


@pytest.mark.parametrize("name", SOURCES)
def test_exactly_the_frames_between(tmp_path: Path, name: str) -> None:
    path = clip(tmp_path / SOURCES[name][0], *SOURCES[name][1:])
    whole = numbers(path)
    assert [n for n, _ in whole] == list(range(FRAMES))
    with av.open(str(path)) as container:
        base, zero = container.streams.video[0].time_base, Fraction(container.start_time or 0, 1_000_000)
    if path.suffix == ".ts":
        zero = Fraction(0)  # its clock begins anywhere, and the reader's times at its beginning
    for start, end in ((None, 0.5), (0.52, None), (0.52, 1.4), (1.0, 1.05), (0.0, 9.0), (0.5, 1.0)):
        part = numbers(path, InputOptions(start=start, end=end))
        first, last = (None if t is None else Fraction(str(t)) + zero for t in (start, end))
        wanted = [(n, t) for n, t in whole if t >= (first or 0) and (last is None or t < last)]
        assert [n for n, _ in part] == [n for n, _ in wanted], (start, end)
        moved = {u - t for (_, t), (_, u) in zip(part, wanted, strict=True)}
        assert len(moved) == 1  # all by the same time
        assert -Fraction(1, 1_000_000) < moved.pop() - (first or 0) < base  # the container's start is in microseconds


def test_sound_and_chapters_come_along(tmp_path: Path) -> None:
    path = clip(tmp_path / "in.mkv")
    out = tmp_path / "out.mkv"
    upscale_video(path, out, tiny(), input_options=InputOptions(start=0.6, end=1.6), encoding=Encoding("ffv1"))
    assert [t for _, t in numbers(out)] == [Fraction(i, RATE) for i in range(25)]
    expected = [(t - 0.6, data) for t, data in sounds(path) if 0.6 <= t < 1.6]
    made = sounds(out)
    assert [data for _, data in made] == [data for _, data in expected]
    assert max(abs(a - b) for (a, _), (b, _) in zip(made, expected, strict=True)) < 0.002
    with av.open(str(out)) as container:
        chapters = [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"])) for c in container.chapters()
        ]
    assert chapters == [(0.0, 0.3), (0.3, 0.9), (0.9, 1.0)]


@pytest.mark.parametrize(
    ("start", "frames", "expected"),
    [(None, 25, [(0, 0.9), (0.9, 1)]), (None, 10, [(0, 0.4)]), (0.6, 20, [(0, 0.3), (0.3, 0.8)]), (None, 50, None)],
)
def test_chapters_behind_a_limit_of_frames_are_left_out(
    tmp_path: Path, start: float | None, frames: int, expected: list[tuple[float, float]] | None
) -> None:
    out = tmp_path / "out.mkv"
    path = clip(tmp_path / "in.mkv")
    upscale_video(path, out, tiny(), input_options=InputOptions(start=start), encoding=Encoding("ffv1"), frames=frames)
    with av.open(str(out)) as container:
        made = [(float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"])) for c in container.chapters()]
    assert made == (expected or [(0, 0.9), (0.9, 1.5), (1.5, 2)])


def test_a_subtitle_that_is_shown_at_the_start_is_kept(tmp_path: Path) -> None:
    path = clip(tmp_path / "in.mkv")
    shown = (("gone", 0, 400), ("shown", 300, 1200), ("inside", 1300, 1400), ("late", 1700, 1800))
    lines = [
        f"{i}\n00:00:{a / 1000:06.3f} --> 00:00:{b / 1000:06.3f}\n{words}\n" for i, (words, a, b) in enumerate(shown)
    ]
    (tmp_path / "in.srt").write_text("\n".join(lines).replace(".", ","))
    with (
        av.open(str(path)) as source,
        av.open(str(tmp_path / "in.srt")) as words,
        av.open(str(tmp_path / "sub.mkv"), "w") as out,
    ):
        copies = [
            (c, out.add_stream_from_template(s))
            for c, s in ((source, source.streams.video[0]), (words, words.streams[0]))
        ]
        for container, copy in copies:
            for packet in container.demux(container.streams[0]):
                if packet.size:
                    packet.stream = copy
                    out.mux(packet)
    made = tmp_path / "out.mkv"
    upscale_video(tmp_path / "sub.mkv", made, tiny(), input_options=InputOptions(start=0.6, end=1.6))
    with av.open(str(made)) as container:
        packets = [(p.pts, p.duration, bytes(p)) for p in container.demux(subtitles=0) if p.size]
    assert packets == [(0, 600, b"shown"), (700, 100, b"inside")]


def test_a_limit_and_a_resumed_run(tmp_path: Path) -> None:
    path, options = clip(tmp_path / "in.mkv"), InputOptions(start=0.4, end=1.2)
    whole = tmp_path / "whole.mkv"
    upscale_video(path, whole, tiny(), input_options=options, segment=6)

    def stop(progress: object) -> None:
        if progress.done == 15:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    part = tmp_path / "part.mkv"
    with pytest.raises(KeyboardInterrupt):
        upscale_video(path, part, tiny(), input_options=options, segment=6, on_progress=stop)
    result = upscale_video(path, part, tiny(), input_options=options, segment=6, resume=True)
    assert (result.frames, result.resumed > 0) == (20, True)
    assert numbers(part) == numbers(whole)
    assert sounds(part) == sounds(whole)
    assert upscale_video(path, tmp_path / "few.mkv", tiny(), input_options=options, frames=3).frames == 3
    assert len(list(iter_video(path, tiny(), input_options=options))) == 20


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, model = clip(tmp_path / "in.mkv"), save_tiny(tmp_path / "m" / "tiny.safetensors")
    out = str(tmp_path / "out.mkv")
    assert main(["upscale", str(path), out, "-m", model, "--from", "0:00:01", "--to", "1.2", "--progress", "json"]) == 0
    assert '"done": 5, "total": 5' in capsys.readouterr().err
    assert main(["upscale", str(path), out, "-y", "-m", model, "--from", "7"]) == InputError.exit_code
    assert "holds no frame in the times asked for (it lasts 2." in capsys.readouterr().err
    assert main(["upscale", str(path), out, "-y", "-m", model, "--from", "2", "--to", "1"]) == 2
    assert "the end, 1 s, is not after the start, 2 s" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["upscale", str(path), out, "--from", "1:75"])
    assert "takes seconds such as 90.5, or a time" in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "pcm_s16le"), (".mov", "pcm_s24le"), (".avi", "pcm_u8")])
def test_pcm_is_cut_at_the_sample(tmp_path: Path, suffix: str, codec: str, caplog: pytest.LogCaptureFixture) -> None:
    """Packets of a third of a second, of samples that tell their number."""
    path, rate, size = tmp_path / f"in{suffix}", 8000, 2667
    tone = (np.arange(2 * rate) % 200 * 256 - 25_600).astype(np.int16)
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=RATE)
        video.width, video.height, video.pix_fmt = 32, 16, "yuv420p"
        sound = out.add_stream(codec, rate=rate, layout="mono")
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), STEP * i, np.uint8), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts = i
            out.mux(video.encode(frame))
        for start in range(0, len(tone), size):
            samples = av.AudioFrame.from_ndarray(tone[None, start : start + size], format="s16", layout="mono")
            samples.sample_rate, samples.pts = rate, start
            for made in av.AudioResampler(sound.codec_context.format).resample(samples):
                out.mux(sound.encode(made))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))

    def heard(file: Path) -> np.ndarray:
        with av.open(str(file)) as container:
            again = av.AudioResampler("s16")
            return np.concatenate([p.to_ndarray()[0] for f in container.decode(audio=0) for p in again.resample(f)])

    whole = heard(path)
    assert len(whole) == len(tone) and len(np.unique(whole)) == 200
    for start, end in ((0.5, 1.5), (0.3334, 1.0), (None, 0.04), (0.52, None), (0.04, 0.08)):
        out = tmp_path / f"out{suffix}"
        with caplog.at_level("WARNING", "srfast"):
            upscale_video(path, out, tiny(), input_options=InputOptions(start=start, end=end), overwrite=True)
        first, last = (None if t is None else Fraction(str(t)) for t in (start, end))
        with av.open(str(path)) as container:  # the range begins in the units of the video
            base = Fraction(container.streams.video[0].time_base)
        first, last = (None if t is None else -(-t // base) * base for t in (first, last))
        begin, stop = (None if t is None else math.ceil(t * rate) for t in (first, last))
        made, wanted = heard(out), whole[begin:stop]
        if suffix == ".mkv":  # its times are milliseconds: up to 8 samples
            shift = next(n for n in range(-8, 9) if whole[(begin or 0) + n] == made[0])
            assert abs(len(made) - len(wanted)) <= 8
            begin = (begin or 0) + shift
            wanted = whole[begin : begin + len(made)]
        assert np.array_equal(made, wanted), (start, end)
        with av.open(str(out)) as container:
            time = container.streams.audio[0].start_time or 0
            assert abs(time * container.streams.audio[0].time_base) < 0.002
    assert "cut between" not in caplog.text


def test_a_cut_between_packets_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = clip(tmp_path / "in.mkv")
    with caplog.at_level("WARNING", "srfast"):
        upscale_video(path, tmp_path / "whole.mkv", tiny())
        assert "cut between" not in caplog.text
        upscale_video(path, tmp_path / "out.mkv", tiny(), input_options=InputOptions(start=0.5))
    assert caplog.text.count("encoded sound is cut between its packets") == 1


@pytest.mark.parametrize("times", [STEADY, UNEVEN], ids=["steady", "uneven"])
def test_what_lies_before_the_start_is_not_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, times: list[int]
) -> None:
    """Matroska tells when its video ends, by the clock of the whole file."""
    source = make_clip(tmp_path / "in.mkv", times)
    with VideoReader(source, InputOptions(start=0.3)) as reader:
        count = sum(isinstance(item, RgbFrame) for item in reader.items([]))
        assert count == sum(time >= 300 for time in times)
        assert not reader.damage
        assert reader.damage.gaps == 0
    assert "leap over" not in caplog.text
