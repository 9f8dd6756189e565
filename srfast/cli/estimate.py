"""``srfast plan``: what a run will take, before it starts."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from srfast.cli.options import ModelOptions, VideoOptions, add_model, add_video, options_of, upscaler_from
from srfast.cli.video import preview_path, write_preview
from srfast.errors import InputError, escaped


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    p = commands.add_parser(
        "plan", parents=[common], help="predict speed, time, memory, size and disk of a video's run"
    )
    p.add_argument("input", help="the video")
    p.add_argument("output", nargs="?", default="out.mp4", help="the file that the run would write")
    p.add_argument("--seconds", type=float, default=2.0, help="about how long to probe (2)")
    p.add_argument("--json", action="store_true", help="print JSON")
    add_model(p)
    add_video(p)
    p.set_defaults(run=_plan)


def _plan(args: argparse.Namespace) -> int:
    from srfast.video.estimate import forecast
    from srfast.video.reader import VideoReader
    from srfast.video.source import can_reopen

    model, video = options_of(ModelOptions, args), options_of(VideoOptions, args)
    if not can_reopen(args.input):
        raise InputError("a plan reads the first frames more than once: give a file, not a pipe or a camera")
    with VideoReader(args.input, video.input()) as reader:
        size = (reader.height, reader.width)
    upscaler = upscaler_from(model, "video", model.memory(size))
    target = Path(args.output)
    result = forecast(
        args.input,
        upscaler,
        suffix=target.suffix.lower(),
        seconds=args.seconds,
        **video.upscaling(),
    )
    if video.preview is not None:
        write_preview(video, args.input, preview_path(args.output), upscaler)
    print(json.dumps(asdict(result), indent=2) if args.json else result)
    folder = target.absolute().parent
    # A warning and not an error: somebody may make room while the run goes on.
    if result.disk_bytes and folder.is_dir() and shutil.disk_usage(folder).free < result.disk_bytes:
        free = shutil.disk_usage(folder).free / 2**20
        print(escaped(f"srfast: warning: {folder} has only {free:.0f} MiB free"), file=sys.stderr)
    return 0
