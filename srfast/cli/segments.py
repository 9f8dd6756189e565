"""``srfast split``, ``segment`` and ``join``: one video in segments, on any machines, by any scheduler."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from srfast.cli.options import ModelOptions, VideoOptions, add_model, add_video, load_arguments, options_of
from srfast.errors import FrameLossError, escaped


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the commands."""
    split = commands.add_parser(
        "split", parents=[common], help="plan a video's run in segments; prints how many there are"
    )
    split.add_argument("input", help="the video, a file that all machines see under this path")
    split.add_argument(
        "plan", type=Path, help="the plan to write, such as plan.json; the segments go into a folder beside it"
    )
    split.add_argument("-y", "--overwrite", action="store_true", help="replace a plan that exists")
    split.add_argument("--seconds", type=float, default=10.0, help="the least length of a segment (10)")
    split.add_argument("--strict", action="store_true", help="end at the first damage of the input")
    split.add_argument("--no-reuse", action="store_true", help="compute also what has not changed since the last frame")
    add_model(split)
    add_video(split)
    split.set_defaults(run=_split)
    segment = commands.add_parser("segment", parents=[common], help="compute one segment of a plan")
    segment.add_argument("plan", type=Path, help="the plan of 'srfast split'")
    segment.add_argument("number", type=int, help="of the segment, from 0; one that is there is left as it is")
    segment.add_argument("--progress", choices=["bar", "json", "none"], default="bar", help="on stderr")
    segment.set_defaults(run=_segment)
    join = commands.add_parser("join", parents=[common], help="make the output from a plan's segments and its source")
    join.add_argument("plan", type=Path, help="the plan of 'srfast split'")
    join.add_argument("output", help="the file to write, in the plan's container")
    join.add_argument("-y", "--overwrite", action="store_true", help="replace an output that exists")
    join.add_argument("--report", type=Path, metavar="FILE", help="write a report of all segments as JSON")
    join.set_defaults(run=_join)


def plan_arguments(
    model: ModelOptions, video: VideoOptions, memory: int | None, *, strict: bool, reuse: bool
) -> dict[str, Any]:
    """What ``srfast.cluster.split`` and ``upscale`` share, by the options; the model among it."""
    if video.preview is not None:
        raise ValueError("--preview does nothing for segments: it is of srfast upscale and srfast plan")
    return load_arguments(model, "video", memory) | dict(video.upscaling(strict=strict, reuse=reuse))


def _split(args: argparse.Namespace) -> int:
    from srfast.cluster import split
    from srfast.video.reader import VideoReader

    model, video = options_of(ModelOptions, args), options_of(VideoOptions, args)
    memory = None
    # The limit is for the whole process: what the engine gets of it depends on the size of the frames.
    if model.max_memory:
        with VideoReader(args.input, video.input()) as reader:
            memory = model.memory((reader.height, reader.width))
    plan = split(
        args.input,
        args.plan,
        container=video.format,
        seconds=args.seconds,
        overwrite=args.overwrite,
        **plan_arguments(model, video, memory, strict=args.strict, reuse=not args.no_reuse),
    )
    count = len(plan.segments)
    each = f"segments 0 to {count - 1}" if count > 1 else "segment 0 only"
    print(escaped(f"{args.plan}: {plan.frames} frames in {count} segments; do {each}, then join"), file=sys.stderr)
    # Alone on the standard output, for scripts: N=$(srfast split ...).
    print(count)
    return 0


def _segment(args: argparse.Namespace) -> int:
    from srfast.cli.progress import Reporter
    from srfast.cluster import read_plan, run_segment, segments_folder

    plan = read_plan(args.plan)
    with Reporter(args.progress) as reporter:
        record = run_segment(
            plan,
            args.number,
            segments_folder(args.plan),
            on_progress=lambda p: reporter.update(p.done, p.total, p.seconds, p.resumed),
        )
    said = f"{args.plan}: segment {record.segment} of {len(plan.segments)}: {record.frames} frames"
    print(escaped(f"{said}, sha256 {record.sha256[:16]}"), file=sys.stderr)
    return 0


def _join(args: argparse.Namespace) -> int:
    from srfast._files import check_output, whole_file
    from srfast.cluster import as_dict, join, read_plan, segments_folder

    if args.report:
        check_output(args.report, overwrite=True)
    plan = read_plan(args.plan)
    joined = join(plan, segments_folder(args.plan), args.output, overwrite=args.overwrite)
    result = joined.result
    said = f"{result.frames} frames of {result.width}x{result.height} from {len(joined.segments)} segments"
    print(escaped(f"{args.output}: {said}; {segments_folder(args.plan)} can be removed"), file=sys.stderr)
    if args.report:
        with whole_file(args.report, overwrite=True) as partial:
            partial.write_text(json.dumps(as_dict(joined, plan, args.output), indent=2) + "\n")
    if result.damage:
        said = f"srfast: error: the input was damaged: {result.damage}; all else is in {args.output}"
        print(escaped(said), file=sys.stderr)
        return FrameLossError.exit_code
    return 0
