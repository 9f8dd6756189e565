"""Measures networks on videos as they are, which have no original: ``python -m srfast.training.clips --model ... --clip ...``.

NIQE and BRISQUE of what bicubic interpolation and every network make of some frames; with ``--out`` a picture of each clip.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

import av
import numpy as np

from srfast.errors import SrfastError
from srfast.training.compare import Systems, beside, busiest, load_systems, named, table, write_png
from srfast.training.evaluate import enlarge
from srfast.training.measures import Files, Metric, choose_metrics, means
from srfast.training.metrics import UInt8Image

WITHOUT_ORIGINAL = ("NIQE", "BRISQUE")
SIDE = 64  # of the part of a frame that a picture shows, source pixels


def frames(clip: Path, every: int) -> Iterator[UInt8Image]:
    """Every so many-th frame of a video, from its first, uint8 RGB [H, W, 3].

    Raises:
        ValueError: the file is not a video, or has no frame.
    """
    found = False
    try:
        with av.open(str(clip)) as container:
            for frame in islice(container.decode(video=0), 0, None, every):
                found = True
                yield np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
    except (av.error.FFmpegError, IndexError) as error:
        raise ValueError(f"{clip} cannot be read as a video: {error}") from error
    if not found:
        raise ValueError(f"{clip} has no frame")


def measure(systems: Systems, clip: Path, every: int, metrics: Mapping[str, Metric]) -> dict[str, dict[str, float]]:
    """Mean of every measure that needs no original over some frames, by system.

    Args:
        systems: what is compared; HR is left out.
        clip: a video.
        every: distance of the frames that are measured.
        metrics: measures of one image, by name.

    Raises:
        ValueError: the file is not a video, or a frame is too small for a measure.
    """
    rows: dict[str, list[dict[str, float]]] = {}
    for frame in frames(clip, every):
        for name, image in enlarged(systems, frame).items():
            rows.setdefault(name, []).append({metric: function(image, image) for metric, function in metrics.items()})
    return {name: means(of_system) for name, of_system in rows.items()}


def enlarged(systems: Systems, frame: UInt8Image) -> dict[str, UInt8Image]:
    """What bicubic interpolation and every network make of a frame as it is."""
    return {name: enlarge(model, frame, systems.scale) for name, model in {"bicubic": None, **systems.models}.items()}


def picture(systems: Systems, frame: UInt8Image) -> UInt8Image:
    """The part of a frame with the most detail through every system, side by side."""
    side = min(SIDE, *frame.shape[:2])
    y, x = busiest(frame, side, side)
    part = frame[y : y + side, x : x + side]
    # Networks see what lies around the part as well.
    s = systems.scale
    crops = {
        name: image[y * s : (y + side) * s, x * s : (x + side) * s] for name, image in enlarged(systems, frame).items()
    }
    return beside({"source": part.repeat(s, 0).repeat(s, 1), **crops})


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(arguments)
    try:
        if args.every < 1:
            raise ValueError(f"--every counts frames from 1, not {args.every}")
        systems = load_systems(args.model)
        files = replace(Files.of(args), alexnet=None, vgg16=None)
        found = choose_metrics(files, systems.scale)
        metrics = {name: found[name] for name in WITHOUT_ORIGINAL if name in found}
        if not metrics:
            raise ValueError("nothing to measure with: give --niqe or --brisque")
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
        clips = {name: Path(file) for name, file in map(named, args.clip)}
        if len(clips) < len(args.clip):
            raise ValueError("two clips have one name; give NAME=FILE with names of their own")
        # Every clip is opened before any is measured, which takes long.
        first = {name: next(frames(clip, 1)) for name, clip in clips.items()}
        for name, clip in clips.items():
            print(table({name: measure(systems, clip, args.every, metrics)}), flush=True)
            if args.out:
                write_png(args.out / f"{name}.png", picture(systems, first[name]))
    except (SrfastError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.clips", description=__doc__)
    p.add_argument("--model", nargs="+", required=True, metavar="NAME=FILE", help="checkpoints or shipped models")
    p.add_argument("--clip", nargs="+", required=True, metavar="NAME=FILE", help="videos")
    p.add_argument("--every", type=int, default=25, help="measure every so many-th frame (default: 25)")
    p.add_argument("--out", type=Path, help="folder for a picture of each clip")
    Files.add_to(p)
    return p


if __name__ == "__main__":
    sys.exit(main())
