"""Clips with many key frames, and comparisons of outputs made in one run and in segments."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from srfast import cluster
from srfast.cluster.plan import Plan
from srfast.upscaler import Upscaler
from srfast.video import Encoding, InputOptions, upscale_video

LOSSLESS = Encoding("ffv1")


def moving_clip(
    path: Path,
    codec: str = "libx264",
    frames: int = 60,
    *,
    options: dict[str, str] | None = None,
    gop: int = 10,
    bframes: int = 3,
    size: tuple[int, int] = (64, 48),
    step: list[int] | None = None,
    beside: bool = False,
    pix_fmt: str = "yuv420p",
    colour: tuple[int, int, int, int] | None = None,
) -> Path:
    """Noise that moves, of uint8 before it has ``pix_fmt``; with alpha that moves where that has alpha.

    ``step`` are durations in 1/1000 s; ``beside`` adds sound, subtitles, chapters, tags; ``colour`` are FFmpeg's numbers of
    matrix, range, primaries and transfer.
    """
    rng = np.random.default_rng(7)
    canvas = rng.integers(0, 255, (size[1] + 4 * 16, size[0] + frames), np.uint8)
    options = dict(options or {})
    if codec == "libx264":
        # With AVX-512, x264 (core 165) plans its rates by what the memory held: the clip would be another in each run.
        options["x264-params"] = f"{options.get('x264-params', '')}:no-mbtree=1".lstrip(":")
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        context = video.codec_context
        context.gop_size, context.max_b_frames = gop, bframes
        if colour:
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = colour
        if step:
            context.time_base = video.time_base = Fraction(1, 1000)
        out.metadata["title"] = "moving"
        sound = titles = None
        if beside:
            sound = out.add_stream("aac", rate=48_000, layout="stereo")
            sound.metadata["language"] = "fin"
            titles = out.add_mux_stream("subrip" if path.suffix == ".mkv" else "mov_text")
            titles.metadata["language"] = "deu"
            out.set_chapters(
                [
                    {
                        "id": n,
                        "start": 800 * n,
                        "end": 800 * (n + 1),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": t},
                    }
                    for n, t in enumerate(("one", "two"))
                ]
            )
            out.start_encoding()
        time = 0
        for index in range(frames):
            gray = canvas[index % 64 : index % 64 + size[1], index : index + size[0]]
            alpha = [np.roll(gray, index, 1)] if pix_fmt.startswith("yuva") else []
            rgb = np.stack([gray, np.roll(gray, index, 0), np.full_like(gray, 4 * index % 256), *alpha], -1)
            kind = "rgba" if alpha else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format=kind).reformat(format=pix_fmt)
            if step:
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                frame.duration = step[index % len(step)]
                time += step[index % len(step)]
            out.mux(video.encode(frame))
            if sound is not None and titles is not None:
                _beside(out, sound, titles, index)
        for stream in (video, sound):
            if stream is not None:
                out.mux(stream.encode(None))
    return path


def on_one_thread(path: Path) -> list[av.VideoFrame]:
    """What FFmpeg gives on one thread, where it covers up errors in one way only; packets that it refuses are left out."""
    frames: list[av.VideoFrame] = []
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        context.thread_type, context.thread_count = "SLICE", 1
        for packet in container.demux(video=0):
            try:
                frames += packet.decode()
            except av.error.EOFError:
                break
            except av.error.FFmpegError:
                continue
    return frames


def _beside(out: Any, sound: Any, titles: Any, index: int) -> None:
    """The sound of a frame, and each 20th a line: side by side with the pictures, as in a file that streams."""
    tone = np.sin(np.arange(1920 * index, 1920 * (index + 1))[None] / 20).astype(np.float32).repeat(2, 0)
    samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="stereo")
    samples.sample_rate, samples.pts = 48_000, 1920 * index
    out.mux(sound.encode(samples))
    number, last = divmod(index, 20)
    if last == 19:
        text = f"line {number}".encode()
        packet = av.Packet(text if out.format.name == "matroska" else len(text).to_bytes(2, "big") + text)
        packet.pts = packet.dts = number * 700
        packet.duration, packet.time_base, packet.stream = 500, Fraction(1, 1000), titles
        out.mux(packet)


def in_segments(source: Path, folder: Path, target: Path, model: str, seconds: float = 0.5, **options: Any) -> Plan:
    """The output by split, segment and join, segments in the reverse order."""
    path = folder / f"{target.stem}.json"
    options = {"encoding": LOSSLESS} | options
    plan = cluster.split(
        source, path, model, container=target.suffix[1:], seconds=seconds, device="cpu", dtype="fp32", **options
    )
    upscaler = plan.upscaler()
    for number in reversed(range(len(plan.segments))):
        cluster.run_segment(plan, number, cluster.segments_folder(path), upscaler)
    cluster.join(plan, cluster.segments_folder(path), target, upscaler)
    return plan


def in_one_run(source: Path, target: Path, model: str, **options: Any) -> Any:
    """The output of ``upscale_video``."""
    options = {"encoding": LOSSLESS} | options
    return upscale_video(source, target, Upscaler(model, device="cpu", dtype="fp32"), **options)


def content(path: Path) -> dict[str, Any]:
    """All that an output holds: a hash of every decoded frame and its time, every packet of other streams, chapters and tags."""
    with av.open(str(path)) as c:
        video = next(s for s in c.streams.video if s.average_rate is not None or s.frames != 1)
        found: dict[str, Any] = {
            "tags": {k: v for k, v in c.metadata.items() if k.lower() != "encoder"},
            "chapters": [
                (ch["start"] * ch["time_base"], ch["end"] * ch["time_base"], ch["metadata"]) for ch in c.chapters()
            ],
            "streams": [
                (
                    s.type,
                    s.codec_context.name if s.codec_context else None,
                    {k: v for k, v in s.metadata.items() if k.isupper() is False or k == "LANGUAGE"},
                    s.disposition,
                )
                for s in c.streams
            ],
            "packets": {},
            "frames": [],
        }
        decoding: list[Any] = []
        for packet in c.demux():
            if packet.stream.index == video.index:
                if packet.dts is not None:
                    decoding.append(packet.dts * packet.time_base)
                found["frames"] += [
                    (f.pts * f.time_base, f.format.name, hashlib.sha256(_pixels(f)).digest()) for f in packet.decode()
                ]
            elif packet.size:
                entry = (packet.pts * packet.time_base, packet.duration * packet.time_base, bytes(packet))
                found["packets"].setdefault(packet.stream.index, []).append(entry)
        found["decoding"] = decoding
    return found


def _pixels(frame: av.VideoFrame) -> bytes:
    """All planes without the bytes that fill up their rows."""
    if not frame.format.name.startswith("yuva"):
        return frame.to_ndarray().tobytes()
    size = 2 if frame.format.components[0].bits > 8 else 1
    rows = (np.frombuffer(p, np.uint8).reshape(p.height, p.line_size)[:, : p.width * size] for p in frame.planes)
    return b"".join(plane.tobytes() for plane in rows)


def assert_same(one: Path, other: Path) -> None:
    """Fails at the first thing in which two outputs differ."""
    a, b = content(one), content(other)
    for key in a:
        if key == "frames":
            assert [f[0] for f in a[key]] == [f[0] for f in b[key]]
            assert [i for i, (x, y) in enumerate(zip(a[key], b[key], strict=True)) if x != y] == []
        else:
            assert a[key] == b[key], key


__all__ = ["LOSSLESS", "InputOptions", "assert_same", "content", "in_one_run", "in_segments", "moving_clip"]
