"""Clips made to order: container, codec, pixel format, colour tags, times, tracks."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.helpers.video.formulas import codes, frame_of, is_gray

STEADY = tuple(40 * i for i in range(8))
UNEVEN = (0, 33, 40, 140, 141, 500, 533, 900)
LATE = tuple(700 + t for t in UNEVEN)
MS = Fraction(1, 1000)
SIZE = (64, 48)
# Flat patches, away from the ends of the range, in RGB of 0..1.
PATCHES = ((0.5, 0.5, 0.5), (0.75, 0.25, 0.25), (0.2, 0.7, 0.3), (0.25, 0.3, 0.8))


@dataclass(frozen=True)
class Clip:
    """What a generated clip is like; ``keep`` says what its output container is, ``.mp4`` and so on."""

    suffix: str
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    tags: tuple[int, int, int, int] = (1, 1, 1, 1)  # matrix, range, primaries, transfer
    times: tuple[int, ...] = STEADY
    time_base: Fraction = MS
    aspect: Fraction | None = None
    rotation: int = 0
    audio: tuple[str, ...] = ()
    subtitles: int = 0
    chapters: bool = False
    attachment: bool = False
    options: dict[str, str] = field(default_factory=dict)
    alpha: bool = False
    out: str | None = None  # suffix of the output, the input's by default
    encoding: dict[str, Any] = field(default_factory=dict)
    interlaced: bool = False

    @property
    def name(self) -> str:
        parts = [self.suffix[1:], self.codec, self.pix_fmt, "-".join(map(str, self.tags))]
        parts += ["uneven"] if self.times == UNEVEN else ["late"] if self.times == LATE else []
        parts += [f"tb{self.time_base.denominator}"] if self.time_base != MS else []
        parts += [f"sar{self.aspect}".replace("/", ":")] if self.aspect else []
        parts += [f"rot{self.rotation}"] if self.rotation else []
        parts += ["+".join(self.audio)] if self.audio else []
        parts += [f"{self.subtitles}subs"] if self.subtitles else []
        parts += ["chapters"] if self.chapters else []
        parts += ["attachment"] if self.attachment else []
        parts += [f"to{self.out}"] if self.out else []
        parts += ["interlaced"] if self.interlaced else []
        return "_".join(parts)


def picture(index: int, alpha: bool) -> np.ndarray:
    """[48, 64, 3 or 4] RGB in 16 bits: four flat patches that change places from frame to frame."""
    height, width = SIZE[1], SIZE[0]
    image = np.empty((height, width, 4 if alpha else 3), np.float64)
    for i in range(4):
        y, x = (i // 2) * height // 2, (i % 2) * width // 2
        colour = PATCHES[(i + index) % 4]
        image[y : y + height // 2, x : x + width // 2, :3] = colour
        if alpha:
            image[y : y + height // 2, x : x + width // 2, 3] = (0.2, 1.0, 0.6, 0.9)[i]
    return np.rint(image * 65535).astype(np.uint16)


def drawn(index: int, clip: Clip) -> av.VideoFrame:
    """The picture in the clip's format, by the definitions; an untagged small clip is BT.601."""
    rgb = picture(index, clip.alpha)
    pix_fmt = av.VideoFormat(clip.pix_fmt)
    bits = max(c.bits for c in pix_fmt.components)
    if pix_fmt.is_rgb:
        name = "rgba64le" if clip.alpha else "rgb48le"
        return av.VideoFrame.from_ndarray(rgb, format=name).reformat(format=clip.pix_fmt)
    full = clip.tags[1] == 2 or is_gray(pix_fmt)
    ideal = rgb.transpose(2, 0, 1) / 65535
    values = codes(ideal[:3], 6 if clip.tags[0] == 2 else clip.tags[0], full, bits)
    values += [np.rint(ideal[3] * (2**bits - 1)).astype(np.uint16)] if clip.alpha else []
    frame = frame_of(values[:1] if is_gray(pix_fmt) else values, clip.pix_fmt)
    frame.color_range = 2 if full else 1
    return frame


def make(clip: Clip, folder: Path) -> Path:
    """Writes the clip."""
    path = folder / f"in{clip.suffix}"
    first = path if not clip.rotation else folder / f"plain{clip.suffix}"
    kind = {".y4m": "yuv4mpegpipe"}.get(clip.suffix)
    extra = {"strict": "-1"} if kind else {}
    with av.open(str(first), "w", format=kind, container_options=extra) as out:
        video = out.add_stream(clip.codec, rate=25, options=dict(clip.options))
        video.width, video.height, video.pix_fmt = *SIZE, clip.pix_fmt
        context = video.codec_context
        context.time_base = video.time_base = clip.time_base
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = clip.tags
        if clip.aspect:
            context.sample_aspect_ratio = clip.aspect
        sounds = [_sound(out, codec, i) for i, codec in enumerate(clip.audio)]
        titles = [
            out.add_mux_stream("mov_text" if clip.suffix in (".mp4", ".mov") else "subrip")
            for _ in range(clip.subtitles)
        ]
        if clip.attachment:
            out.add_attachment("font.ttf", "application/x-truetype-font", b"not really a font" * 10)
        out.metadata["title"] = "patches"
        if clip.chapters:
            out.set_chapters(
                [
                    {
                        "id": i,
                        "start": 100 * i,
                        "end": 100 * i + 100,
                        "time_base": MS,
                        "metadata": {"title": f"part {i}"},
                    }
                    for i in range(3)
                ]
            )
        out.start_encoding()
        for number, stream in enumerate(titles):
            _titles(out, stream, number, clip.suffix)
        _frames(out, video, clip)
        for sound in sounds:
            _tone(out, sound)
    if clip.rotation:
        _turn(first, path, clip.rotation)
    return path


def _frames(out: Any, video: Any, clip: Clip) -> None:
    for i, pts in enumerate(clip.times):
        frame = drawn(i, clip)
        frame.pts, frame.time_base = pts, clip.time_base
        frame.duration = (clip.times[i + 1] if i + 1 < len(clip.times) else 2 * pts - clip.times[i - 1]) - pts
        out.mux(video.encode(frame))
    out.mux(video.encode(None))


def _sound(out: Any, codec: str, number: int) -> Any:
    sound = out.add_stream(codec, rate=48_000, layout="stereo")
    sound.metadata["language"] = ("fin", "deu", "eng")[number % 3]
    return sound


def _tone(out: Any, sound: Any) -> None:
    kind = sound.codec_context.format.name
    tone = np.sin(np.arange(24_000)[None] / 20).repeat(2, 0) * 0.5
    data = tone.astype(np.float32) if kind.startswith("flt") else (tone * 32767).astype(np.int16)
    if not kind.endswith("p"):
        data = data.T.reshape(1, -1)
    samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=kind, layout="stereo")
    samples.sample_rate, samples.pts = 48_000, 0
    out.mux(sound.encode(samples))
    out.mux(sound.encode(None))


def _titles(out: Any, stream: Any, number: int, suffix: str) -> None:
    text = f"hello {number}".encode()
    line = av.Packet(len(text).to_bytes(2, "big") + text if suffix in (".mp4", ".mov") else text)
    line.stream, line.pts, line.dts, line.duration, line.time_base = stream, 80, 80, 200, MS
    out.mux(line)


def _turn(source: Path, target: Path, rotation: int) -> None:
    with av.open(str(source)) as c, av.open(str(target), "w") as out:
        streams = {s.index: out.add_stream_from_template(s, opaque=s.type != "video" or None) for s in c.streams}
        next(s for s in streams.values() if s.type == "video").set_display_rotation(rotation)
        out.metadata.update(c.metadata)
        for packet in c.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)


BT709, BT601, BT2020, PQ, HLG, FULL = (
    (1, 1, 1, 1),
    (6, 1, 6, 6),
    (9, 1, 9, 14),
    (9, 1, 9, 16),
    (9, 1, 9, 18),
    (1, 2, 1, 1),
)
LOSSLESS = {"qp": "0"}
GOOD = {"crf": "1"}


def matrix() -> list[Clip]:
    """At least 60 kinds of clips."""
    clips = []
    for suffix in (".mp4", ".mkv", ".mov"):
        for pix_fmt in ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"):
            for tags in (BT709, BT601) if pix_fmt == "yuv420p" else (FULL,) if "10" in pix_fmt else (BT2020,):
                clips.append(Clip(suffix, pix_fmt=pix_fmt, tags=tags, options=GOOD))
        for times in (UNEVEN, LATE):
            clips.append(Clip(suffix, times=times, options=GOOD))
        clips.append(Clip(suffix, times=tuple(1001 * i for i in range(8)), time_base=Fraction(1, 30_000), options=GOOD))
        clips.append(Clip(suffix, aspect=Fraction(16, 11), options=GOOD))
        clips.append(Clip(suffix, audio=("aac", "aac"), subtitles=2, chapters=True, options=GOOD))
        clips.append(Clip(suffix, tags=(2, 0, 2, 2), options=GOOD))
        for tags in (PQ, HLG):
            clips.append(Clip(suffix, pix_fmt="yuv420p10le", tags=tags, options=GOOD))
        if suffix != ".mkv":
            clips += [Clip(suffix, rotation=r, options=GOOD) for r in (90, 180)]
    clips += [
        Clip(".mkv", audio=("flac", "libopus", "pcm_s16le"), subtitles=1, attachment=True, chapters=True, options=GOOD),
        Clip(".mkv", "ffv1", "yuv420p"),
        Clip(".mkv", "ffv1", "yuv422p12le", BT2020, encoding={"codec": "ffv1"}),
        Clip(".mkv", "ffv1", "yuv444p16le", encoding={"codec": "ffv1"}),
        Clip(".mkv", "ffv1", "bgra", (0, 2, 1, 13), alpha=True, encoding={"codec": "ffv1"}),
        Clip(".mkv", "ffv1", "yuva444p", alpha=True, encoding={"codec": "ffv1"}),
        Clip(".mkv", "ffv1", "gray", encoding={"codec": "ffv1"}),
        Clip(".mkv", "ffv1", "yuv411p", encoding={"codec": "ffv1"}),
        Clip(".mkv", "ffv1", "yuv440p", encoding={"codec": "ffv1"}),
        Clip(
            ".mkv",
            "libx265",
            "yuv420p10le",
            PQ,
            options={"crf": "1", "x265-params": "log-level=none"},
            encoding={"codec": "libx265", "options": {"x265-params": "log-level=none"}},
        ),
        Clip(
            ".mp4",
            "libx265",
            "yuv420p12le",
            BT2020,
            options={"crf": "1", "x265-params": "log-level=none"},
            encoding={"codec": "libx265", "options": {"x265-params": "log-level=none"}},
        ),
        Clip(".webm", "libvpx-vp9", "yuv420p", options={"crf": "4", "b": "0"}),
        Clip(".webm", "libvpx-vp9", "yuv444p", audio=("libopus",), options={"crf": "4", "b": "0"}),
        Clip(".webm", "libvpx", "yuv420p", BT601, times=UNEVEN, options={"crf": "4", "b": "4M"}),
        Clip(".webm", "libsvtav1", "yuv420p10le", BT2020, options={"crf": "4"}, encoding={"codec": "libsvtav1"}),
        Clip(".mp4", "libsvtav1", "yuv420p", options={"crf": "4"}, encoding={"codec": "libsvtav1"}),
        Clip(".mov", "prores_ks", "yuv422p10le", options={"profile": "hq"}, encoding={"codec": "prores_ks"}),
        Clip(".mov", "prores_ks", "yuva444p10le", alpha=True, options={"profile": "4444"}),
        Clip(".mov", "png", "rgb24", (0, 2, 1, 13), encoding={"codec": "png"}),
        Clip(".mov", "qtrle", "argb", (0, 2, 1, 13), alpha=True, encoding={"codec": "qtrle"}),
        Clip(".mp4", "mpeg4", "yuv420p", BT601, options={"flags": "+qscale", "global_quality": "118"}),
        Clip(
            ".avi",
            "mpeg4",
            "yuv420p",
            BT601,
            options={"flags": "+qscale", "global_quality": "118"},
            time_base=Fraction(1, 25),
            times=tuple(range(8)),
        ),
        Clip(
            ".avi",
            "mjpeg",
            "yuvj422p",
            (6, 2, 2, 2),
            options={"flags": "+qscale", "global_quality": "118"},
            time_base=Fraction(1, 25),
            times=tuple(range(8)),
            audio=("pcm_s16le",),
        ),
        Clip(
            ".avi",
            "ffv1",
            "yuv420p",
            BT601,
            time_base=Fraction(1, 25),
            times=tuple(range(8)),
            encoding={"codec": "ffv1"},
        ),
        Clip(".y4m", "rawvideo", "yuv420p", BT601, time_base=Fraction(1, 25), times=tuple(range(8))),
        Clip(".y4m", "rawvideo", "yuv444p10le", BT601, time_base=Fraction(1, 25), times=tuple(range(8))),
        Clip(
            ".ts", options=GOOD, time_base=Fraction(1, 90_000), times=tuple(3600 * i for i in range(8)), audio=("aac",)
        ),
        Clip(".nut", options=GOOD, times=UNEVEN),
        Clip(".mp4", options=GOOD, times=UNEVEN, audio=("aac",), out=".mkv"),
        Clip(".mkv", options=GOOD, times=UNEVEN, audio=("aac",), out=".mp4"),
        Clip(".mov", options=GOOD, aspect=Fraction(8, 9), out=".mkv"),
        Clip(".mkv", "libx264", options={"crf": "1", "flags": "+ildct+ilme", "x264-params": "tff=1"}, interlaced=True),
    ]
    return clips
