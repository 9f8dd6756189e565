"""Random runs of ``srfast upscale`` on tiny videos: what goes in, what is asked for, and whether the outcome may be."""

from __future__ import annotations

import contextlib
import io
import json
import random
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np

from srfast.cli import main
from srfast.video.keeping import TABLE
from srfast.video.upscale_stage import NetworkStage
from tests.helpers.video import properties
from tests.helpers.video.segments import moving_clip

CODES = {1: "other", 2: "usage", 3: "model", 4: "backend", 5: "package", 6: "input", 7: "output", 8: "damage"}
LINES = 3
# Containers that hold a time for each frame, and the largest error of it in seconds: the clocks of Matroska and GIF.
TIMED = {"mp4": 0.0006, "mov": 0.0006, "mkv": 0.0006, "webm": 0.0006, "ts": 0.0001, "nut": 0.0006, "apng": 0.0006}
KINDS = ("mp4", "mov", "mkv", "webm", "avi", "ts", "nut", "y4m", "yuv", "png", "jpg", "gif", "apng", "webp", "avif")
CODECS = (
    "libx264",
    "libx265",
    "ffv1",
    "libvpx-vp9",
    "prores_ks",
    "mjpeg",
    "mpeg4",
    "mpeg2video",
    "libsvtav1",
    "rawvideo",
)
CODECS += ("png", "gif", "libaom-av1", "aac", "nonsense")
FORMATS = (
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv420p10le",
    "rgb24",
    "gbrp",
    "yuva420p",
    "gray",
    "nv12",
    "pal8",
    "nonsense",
)
SECONDS = 10.0  # of computing for one run


@dataclass(frozen=True)
class Source:
    """An input.

    Attributes:
        name: of its property.
        path: the file.
        times: seconds of its frames, as PyAV reads them; None where it has no video, or is damaged.
    """

    name: str
    path: Path
    times: tuple[float, ...] | None


@dataclass(frozen=True)
class Run:
    """A run: the input, the kind of the output, and options."""

    source: Source
    kind: str
    options: tuple[str, ...]


def sources(folder: Path) -> list[Source]:
    """A file for each property of the table of what is kept, and others that are damaged, bare, or no video."""
    made = []
    for number, row in enumerate(TABLE):
        place = folder / str(number)
        place.mkdir()
        path = properties.source_of(row, place)
        made.append(Source(row, path, times_of(path)))
    plain = moving_clip(folder / "plain.mkv", frames=9, size=(32, 24), beside=True)
    for name, path in (
        ("plain", plain),
        ("odd size", moving_clip(folder / "odd.mkv", "ffv1", frames=3, size=(31, 23), bframes=0, pix_fmt="yuv444p")),
        ("one frame", moving_clip(folder / "one.mkv", frames=1, size=(32, 24))),
        ("bare H.264", moving_clip(folder / "bare.h264", frames=6, size=(32, 24))),
        ("transport stream", moving_clip(folder / "plain.ts", "mpeg2video", frames=9, size=(32, 24), bframes=2)),
        ("AVI", moving_clip(folder / "plain.avi", "mpeg4", frames=9, size=(32, 24), bframes=2)),
        ("gray", moving_clip(folder / "gray.mkv", "ffv1", frames=3, size=(32, 24), bframes=0, pix_fmt="gray")),
        ("uneven and open", moving_clip(folder / "vfr.mkv", frames=12, size=(32, 24), step=[40, 33, 90, 20, 41])),
    ):
        made.append(Source(name, path, bare(path) if path.suffix == ".h264" else times_of(path)))
    data = plain.read_bytes()
    for name, content in (
        ("cut off", data[: len(data) // 2]),
        ("overwritten", data[: len(data) // 2] + bytes(300) + data[len(data) // 2 + 300 :]),
        ("no video", b"words, and no video"),
        ("empty", b""),
    ):
        path = folder / f"{name}.mkv"
        path.write_bytes(content)
        made.append(Source(name, path, None))
    sound = folder / "sound.mkv"
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("flac", rate=48_000, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), format="s16", layout="mono")
        tone.sample_rate, tone.pts = 48_000, 0
        out.mux(stream.encode(tone))
        out.mux(stream.encode(None))
    return [*made, Source("sound alone", sound, None), Source("absent", folder / "absent.mkv", None)]


def times_of(path: Path, kind: str = "") -> tuple[float, ...]:
    """Seconds of all frames from the first on, as PyAV decodes them."""
    with av.open(str(path)) as c:
        pictures = av.stream.Disposition.attached_pic
        streams = [s for s in c.streams.video if not s.disposition & pictures]
        video = max(streams, key=lambda s: s.frames) if kind == "avif" else streams[0]
        found = sorted(Fraction(f.pts or 0) * f.time_base for f in c.decode(video))
    return tuple(float(time - found[0]) for time in found)


def bare(path: Path) -> tuple[float, ...]:
    """The same, of frames without times at 25 a second."""
    with av.open(str(path)) as c:
        return tuple(n / 25 for n, _ in enumerate(c.decode(video=0)))


def drawn(chance: random.Random, inputs: list[Source], model: str) -> Run:
    """A run at random: an option about every third time each, a quarter of them with a value that cannot be."""
    source, kind = chance.choice(inputs), chance.choice(KINDS)

    def some(name: str, good: tuple[object, ...], bad: tuple[object, ...] = (), share: float = 0.15) -> list[str]:
        if chance.random() >= share:
            return []
        value = chance.choice(bad if bad and chance.random() < 0.25 else good)
        return [name] if value is True else [name, str(value)]

    options = [
        *some("-c", CODECS, share=0.35),
        *some("--pix-fmt", FORMATS, share=0.2),
        *some("--crf", (0, 1, 20, 30.5, 51), (-3, 99, "x", "nan")),
        *some("-e", ("preset=ultrafast", "g=3", "bf=2", "threads=1"), ("preset=nonsense", "nonsense=1", "g", "=")),
        *some("--from", (0, 0.04, 0.05, "0.08s"), (9, "-1", "1:99")),
        *some("--to", (0.1, 0.13, "0:00.2"), (0, "x")),
        *some("--frames", (1, 2, 50), (0, -1, "x")),
        *some("-s", (1, 1.5, 2, 3.3), (0, "x", 1e9)),
        *some("--size", ("48x36", "33x21", "64x64"), ("0x9", "64", "900000x900000"), share=0.1),
        *some("--height", (30, 47), (0, -5), share=0.1),
        *some("--deinterlace", (True,), share=0.08),
        *some("--deinterlace-fields", (True,), share=0.08),
        *some("--strict", (True,)),
        *some("--resume", (True,), share=0.08),
        *some("--no-reuse", (True,), share=0.08),
        *some("--self-ensemble", (True,), share=0.04),
        *some("--preview", (1, 2), (0, -1), share=0.06),
        *some("-f", ("mkv", "mp4", "y4m"), ("nonsense",), share=0.05),
        *some("--tile", (0, 16, 24), ("x", -1), share=0.1),
        *some("--max-memory", ("2G",), ("1K", "x"), share=0.06),
        *some("--input-option", ("probesize=100000",), ("nonsense=1", "x"), share=0.05),
        *some("--progress", ("none", "json"), share=0.2),
        *(word for name in ("audio", "subtitle", "attachment", "data") for word in some(f"--no-copy-{name}", (True,))),
    ]
    return Run(source, kind, ("-m", model, "--device", "cpu", "--dtype", "fp32", *options))


class Counted:
    """Counts the frames that reach the network while it is in use."""

    def __init__(self) -> None:
        self.frames = 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block."""
        begin: Callable[..., Any] = NetworkStage._begin

        def counting(stage: NetworkStage, frame: Any) -> Any:
            self.frames += 1
            return begin(stage, frame)

        with mock.patch.object(NetworkStage, "_begin", counting):
            yield


def tried(run: Run, folder: Path) -> tuple[str, str]:
    """Runs it in an empty folder.

    Returns:
        In a word what came of it, and what is wrong with that: nothing, as a rule.
    """
    numbered = run.kind in ("png", "jpg")
    target = folder / (f"o%03d.{run.kind}" if numbered else f"o.{run.kind}")
    counted, out, err = Counted(), io.StringIO(), io.StringIO()
    started = time.process_time()
    with (
        counted.watching(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error", ResourceWarning)
        try:
            code = main(["upscale", str(run.source.path), str(target), *run.options])
        except SystemExit as end:  # argparse
            code = int(end.code or 0)
        except BaseException as error:
            return "raised", f"{type(error).__name__}: {str(error)[:200]}"
    seconds = time.process_time() - started
    if seconds > SECONDS:
        return "slow", f"it took {seconds:.1f} s"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    results = [path for path in files if path.suffix == target.suffix and ".preview." not in path.name]
    others = [path for path in files if path not in results and not path.name.endswith(".preview.png")]
    said = [_words(line) for line in err.getvalue().split("\n") if line]
    if "Traceback" in err.getvalue():
        return "traceback", err.getvalue()[-300:]
    if others:
        return "left over", f"code {code}: {[path.name for path in others]}"
    if code in (0, 8) and results:
        try:
            wrong = _wrong(run, target, results, code)
        except (OSError, ValueError, IndexError, av.error.FFmpegError) as error:
            wrong = f"it cannot be read: {type(error).__name__}: {error}"
        return ("done" if code == 0 else "damage told"), wrong
    if code not in CODES:
        return "unknown code", f"{code}: {said}"
    error = next((n for n, line in enumerate(said) if line.startswith("srfast") and "error: " in line), None)
    if error is None or len(said) - error > LINES:
        return "unclear", f"code {code}: {said}"
    if results:
        return "left over", f"code {code}, and there is {results[0].name}: {said[error]}"
    late = counted.frames and run.source.times is not None
    return f"refused: {CODES[code]}", f"after {counted.frames} frames: {said[error]}" if late else ""


def _words(line: str) -> str:
    """A line of the standard error; with --progress json, the message in it."""
    return str(json.loads(line).get("message", "")) if line.startswith("{") else line


def _wrong(run: Run, target: Path, results: list[Path], code: int) -> str:
    """What is wrong with an output that was made."""
    if run.source.times is None:
        return "" if code == 8 or run.source.name in ("cut off", "overwritten") else "there was no video"
    if code:
        return "a whole video is called damaged"
    expected = _expected(run)
    if run.kind in ("png", "jpg"):
        return "" if len(results) == len(expected) else f"{len(results)} images of {len(expected)} frames"
    if run.kind == "yuv":
        return "" if target.stat().st_size % len(expected) == 0 else f"{target.stat().st_size} bytes"
    if run.kind == "webp":
        from PIL import Image

        with Image.open(target) as image:
            count = int(getattr(image, "n_frames", 1))
        # An animation holds no frame that is the one before it.
        return "" if 1 <= count <= len(expected) else f"{count} frames of {len(expected)}"
    found = times_of(target, run.kind)
    if len(found) != len(expected):
        return f"{len(found)} frames of {len(expected)}"
    allowed = TIMED.get(run.kind)
    off = max((abs(a - b) for a, b in zip(found, expected, strict=True)), default=0.0)
    # Times of both are rounded to the clock of their container.
    return f"times are off by {off:.4f} s" if allowed is not None and off > allowed + 0.0006 else ""


def _expected(run: Run) -> list[float]:
    """Times of the frames that the options ask for, the first at 0."""
    assert run.source.times is not None
    values = dict(zip(run.options, run.options[1:], strict=False))
    times = list(run.source.times)
    if "--deinterlace-fields" in run.options and run.source.name == "interlacing":
        times = [time + half for time in times for half in (0.0, 0.02)]
    start, end = (_seconds(values[name]) if name in values else None for name in ("--from", "--to"))
    kept = [t for t in times if (start is None or t >= start - 1e-6) and (end is None or t < end - 1e-6)]
    kept = kept[: int(values.get("--frames", len(kept)))]
    return [time - kept[0] for time in kept]


def _seconds(text: str) -> float:
    *minutes, seconds = text.rstrip("s").split(":")
    return sum(60.0 * float(part) for part in minutes) + float(seconds)
