"""``srfast upscale`` for videos."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from srfast.cli.options import (
    copied_from,
    encoding_from,
    input_from,
    is_image,
    milliseconds,
    size_in_bytes,
    upscaler_from,
)
from srfast.errors import FrameLossError, InputError, OutputError, escaped

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler


def upscale(args: argparse.Namespace, source: str, target: str, upscaler: Upscaler | None = None) -> int:
    """Runs it; returns 0, or the code of frame loss where the input's damage cost something.

    ``upscaler`` is one that is there already; by default it is loaded.
    """
    from srfast._files import check_output, whole_file
    from srfast.cli.progress import Reporter
    from srfast.video import upscale_video
    from srfast.video.memory import engine_budget
    from srfast.video.reader import VideoReader
    from srfast.video.report import as_dict, verdict
    from srfast.video.source import can_reopen, is_sequence

    if args.frames is not None and args.frames < 1:
        raise ValueError(f"--frames takes a number from 1, not {args.frames}")
    _check_target(source, target)
    if args.max_latency:
        from srfast.cli.live import upscale_live

        return int(upscale_live(args, source, target, milliseconds(args.max_latency)))
    options = input_from(args)
    size: tuple[int, int] | None = None
    if can_reopen(source):  # a bad input or output is reported before a model is loaded
        with VideoReader(source, options) as reader:
            size = (reader.height, reader.width)
    if target != "-" and not is_sequence(target):
        check_output(Path(target), args.overwrite)
    if args.report:
        check_output(args.report, overwrite=True)
    memory = None
    if args.max_memory:
        memory = engine_budget(size_in_bytes(args.max_memory), size, args.outscale)
    upscaler = upscaler or upscaler_from(args, "video", memory)
    with _interruption(target), Reporter(args.progress) as reporter:
        result = upscale_video(
            source,
            target,
            upscaler,
            encoding=encoding_from(args),
            overwrite=args.overwrite,
            frames=args.frames,
            copy=copied_from(args),
            resume=args.resume,
            strict=args.strict,
            reuse=not args.no_reuse,
            input_options=options,
            on_progress=lambda p: reporter.update(p.done, p.total, p.seconds, p.resumed),
        )
    name = "the standard output" if target == "-" else target
    print(escaped(f"{name}: {verdict(result)} on {upscaler}"), file=sys.stderr)
    if args.report:
        with whole_file(args.report, overwrite=True) as partial:
            partial.write_text(json.dumps(as_dict(result, source, target, upscaler), indent=2) + "\n")
    if result.damage:
        said = f"srfast: error: the input was damaged: {result.damage}; all else is in {name}"
        print(escaped(said), file=sys.stderr)
        return FrameLossError.exit_code
    return 0


def _check_target(source: str, target: str) -> None:
    """A video does not become one picture."""
    from srfast.video.animation import SUFFIXES as ANIMATED
    from srfast.video.animation import is_animation
    from srfast.video.source import can_reopen, is_sequence, label

    suffix = Path(target).suffix.lower()
    if not is_image(target) or (suffix in ANIMATED and (suffix != ".png" or is_animation(Path(source)))):
        return
    if can_reopen(source) and not is_sequence(source) and not Path(source).exists():
        raise InputError(f"{source} is missing")
    raise OutputError(
        f"{target} is one picture, but {label(source)} is a video, or an image in a format that OpenCV cannot read here; "
        "for the frames of a video give numbered images, such as frames/%05d.png"
    )


@contextlib.contextmanager
def _interruption(target: str) -> Iterator[None]:
    """Says what Ctrl-C leaves behind."""
    from srfast.video.source import is_sequence

    try:
        yield
    except KeyboardInterrupt as error:
        left = "the output ends where it was" if target == "-" else "no output was written"
        left = "the pictures so far are there" if is_sequence(target) else left
        more = "" if target == "-" else " (a run of some length continues with --resume)"
        raise KeyboardInterrupt(left + more) from error
