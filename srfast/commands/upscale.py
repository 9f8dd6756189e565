"""``srfast upscale``: a video, an image or a folder of images."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from srfast.commands.options import add_model, add_video, is_image, paths_from, size_in_bytes, upscaler_from
from srfast.errors import InputError, OutputError


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    p = commands.add_parser("upscale", parents=[common], help="upscale a video, an image or a folder of images")
    p.add_argument("paths", nargs="*", metavar="IN OUT", help="two files or two folders; - is a pipe; in/%%05d.png")
    p.add_argument("-i", "--input", help="input, instead of the first position")
    p.add_argument("-o", "--output", help="output, instead of the second position")
    p.add_argument("-y", "--overwrite", action="store_true", help="replace outputs that exist")
    add_model(p)
    add_video(p)
    run = p.add_argument_group("video run")
    run.add_argument("--frames", type=int, help="stop after this many frames")
    run.add_argument("--resume", action="store_true", help="continue a run that was interrupted")
    run.add_argument("--strict", action="store_true", help="end at the first damage of the input")
    run.add_argument("--no-reuse", action="store_true", help="compute also what has not changed since the last frame")
    run.add_argument("--report", type=Path, metavar="FILE", help="write a report of the run as JSON")
    run.add_argument(
        "--max-latency", metavar="TIME", help="live: newest frames win, late ones get a lighter way (40ms)"
    )
    run.add_argument("--lighter", metavar="MODEL", help="live: the model for frames that would be late")
    output = p.add_argument_group("output")
    output.add_argument("--suffix", default="", help="added to the file names of a folder's results")
    output.add_argument("--ext", help="image format of a folder's results, such as png; the input's by default")
    output.add_argument("--progress", choices=["bar", "json", "none"], default="bar", help="on stderr")
    p.set_defaults(run=_upscale)


def _upscale(args: argparse.Namespace) -> int:
    source, target = paths_from(args)
    if Path(source).is_dir():
        return _folder(args, Path(source), Path(target))
    if is_image(source):
        return _image(args, Path(source), Path(target))
    from srfast.commands.video import upscale

    return upscale(args, source, target)


def _memory(args: argparse.Namespace) -> int | None:
    return size_in_bytes(args.max_memory) if args.max_memory else None


def _image(args: argparse.Namespace, source: Path, target: Path) -> int:
    from srfast.images import read_image, write_image
    from srfast.output import check_output

    if not source.exists():
        raise InputError(f"{source} is missing")
    image = read_image(source)
    check_output(target, args.overwrite)
    upscaler = upscaler_from(args, "image", _memory(args))
    started = time.perf_counter()
    result = upscaler(image)
    seconds = time.perf_counter() - started
    write_image(target, result, args.overwrite)
    height, width = result.shape[:2]
    print(f"{target}: {width}x{height} in {seconds:.2f} s on {upscaler}", file=sys.stderr)
    return 0


def _folder(args: argparse.Namespace, source: Path, target: Path) -> int:
    from srfast.images import find_images, read_image, write_image
    from srfast.progress import Reporter

    images = find_images(source)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file, but the input is a folder; give a folder")
    names = [_result_name(path, args.suffix, args.ext) for path in images]
    clash = next((n for n in names if names.count(n) > 1), None)
    if clash:
        raise OutputError(f"two images of {source} would both be written as {clash}; leave --ext out")
    existing = [name for name in names if (target / name).exists()]
    if existing and not args.overwrite:
        raise OutputError(f"{target / existing[0]} exists; give -y to overwrite it, or another folder")
    upscaler = upscaler_from(args, "image", _memory(args))
    target.mkdir(parents=True, exist_ok=True)
    started, failed = time.perf_counter(), []
    with Reporter(args.progress, "images") as reporter:
        for done, (path, name) in enumerate(zip(images, names, strict=True), 1):
            try:
                write_image(target / name, upscaler(read_image(path)), args.overwrite)
            except InputError as error:
                failed.append(str(error))
            reporter.update(done, len(images), time.perf_counter() - started)
    for message in failed:
        print(f"srfast: error: {message}", file=sys.stderr)
    print(f"{target}: {len(images) - len(failed)} of {len(images)} images on {upscaler}", file=sys.stderr)
    return InputError.exit_code if failed else 0


def _result_name(path: Path, suffix: str, ext: str | None) -> str:
    return f"{path.stem}{suffix}.{ext.lstrip('.')}" if ext else f"{path.stem}{suffix}{path.suffix}"
