"""``srfast upscale``: videos, images and folders of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from srfast.cli.images import comes_an_image, is_image_format, upscale_image
from srfast.cli.options import (
    Kind,
    UpscaleOptions,
    add_model,
    add_video,
    check_applicable,
    is_image,
    is_readable_image,
    paths_from,
)
from srfast.cli.queue import queue_of, upscale_all


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    p = commands.add_parser("upscale", parents=[common], help="upscale a video, an image or a folder of images")
    p.add_argument(
        "paths",
        nargs="*",
        metavar="IN ... OUT",
        help="two files, or files and folders and a folder; - is a pipe; in/%%05d.png",
    )
    p.add_argument("--queue", type=Path, metavar="FILE", help="a list of inputs, one a line; OUT is a folder then")
    p.add_argument("-i", "--input", help="input, instead of the first position")
    p.add_argument("-o", "--output", help="output, instead of the second position")
    p.add_argument("-y", "--overwrite", action="store_true", help="replace outputs that exist")
    add_model(p)
    add_video(p)
    run = p.add_argument_group("video run")
    run.add_argument("--frames", type=int, help="stop after this many frames")
    run.add_argument(
        "--resume", action="store_true", help="continue a run that was interrupted; of a folder, do what is missing"
    )
    run.add_argument("--strict", action="store_true", help="end at the first damage of the input")
    run.add_argument("--no-reuse", action="store_true", help="compute also what has not changed since the last frame")
    run.add_argument("--report", type=Path, metavar="FILE", help="write a report of the run as JSON")
    run.add_argument(
        "--max-latency", metavar="TIME", help="live: newest frames win, late ones get a lighter way (40ms)"
    )
    run.add_argument("--lighter", metavar="MODEL", help="live: the model for frames that would be late")
    ray = p.add_argument_group("many machines (docs/cluster.md)")
    ray.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="videos in segments on a Ray cluster, such as 'auto'; without ADDRESS on all GPUs of this machine; give it last",
    )
    ray.add_argument("--ray-gpus", type=float, metavar="N", help="GPUs of a worker, such as 0.5; 1 where there are any")
    ray.add_argument("--ray-cpus", type=float, metavar="N", help="CPUs of a worker; 1 where there are no GPUs")
    ray.add_argument("--ray-workers", type=int, metavar="N", help="workers at most; as many as fit by default")
    output = p.add_argument_group("output")
    output.add_argument("--suffix", default="", help="added to the file names of a folder's results")
    output.add_argument("--ext", help="image format of a folder's results, such as png; the input's by default")
    output.add_argument("--progress", choices=["bar", "json", "none"], default="bar", help="on stderr")
    p.set_defaults(run=_upscale)


def _upscale(args: argparse.Namespace) -> int:
    options = UpscaleOptions.of(args)
    sources, target = paths_from(args, queue_of(args.queue) if args.queue else [])
    if options.cluster.ray is not None:
        from srfast.cli.ray import upscale_on_ray

        several = len(sources) > 1 or args.queue or _into_folder(sources[0], target)
        return upscale_on_ray(options, sources, target, bool(several))
    if len(sources) > 1 or args.queue or _into_folder(sources[0], target):
        return upscale_all(options, sources, target)
    source = sources[0]
    kind = _kind(source, target, options)
    check_applicable(options, kind, useful=("format",) if target == "-" else ())
    if kind is Kind.IMAGE:
        return upscale_image(options, source, target)
    # PyAV loads with it, which images do not need.
    from srfast.cli.video import upscale

    return upscale(options, source, target)


def _into_folder(source: str, target: str) -> bool:
    """True for a folder, and for one file whose result is to go into a folder."""
    return Path(source).is_dir() or (Path(source).is_file() and target.endswith(("/", os.sep)))


def _kind(source: str, target: str, options: UpscaleOptions) -> Kind:
    from srfast.video.animation import SUFFIXES as ANIMATED
    from srfast.video.animation import is_animation

    video = Kind.VIDEO if options.run.max_latency is None else Kind.LIVE
    image_format = is_image_format(options.video.format)
    if source == "-":
        # A pipe has no name to tell by, so its first bytes decide, and only where the output can be a picture at all.
        one = image_format if target == "-" else is_image(target)
        return Kind.IMAGE if one and not options.video.input_format and comes_an_image() else video
    if Path(source).is_fifo() and is_image(target) and not options.video.input_format:
        return Kind.IMAGE  # as the output is; to look at its first bytes would take them from whoever reads it next
    if target == "-":
        still = is_readable_image(source) and not is_animation(Path(source))
        return Kind.IMAGE if still and (image_format or not options.video.format) else video
    if is_animation(Path(source)) and (Path(target).suffix.lower() in ANIMATED or not is_image(target)):
        return video
    if is_image(source) or (is_image(target) and is_readable_image(source)):
        return Kind.IMAGE
    return video
