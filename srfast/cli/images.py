"""``srfast upscale`` for one image and for a folder of images."""

from __future__ import annotations

import argparse
import errno
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from srfast.cli.options import size_in_bytes, upscaler_from
from srfast.errors import InputError, OutputError, SrfastError, escaped

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler

# What no further image could be written after.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def upscale_image(args: argparse.Namespace, source: Path, target: Path) -> int:
    """One image; returns 0."""
    from srfast.images import check_image_output, check_size, read_picture, write_image

    if not source.exists():
        raise InputError(f"{source} is missing")
    check_image_output(target, args.overwrite)
    picture = read_picture(source)
    upscaler = upscaler_from(args, "image", _memory(args))
    check_size(target, *upscaler.output_size(*picture.image.shape[:2]))
    started = time.perf_counter()
    result = upscaler(picture.image)
    seconds = time.perf_counter() - started
    write_image(target, result, args.overwrite, picture.metadata)
    height, width = result.shape[:2]
    print(escaped(f"{target}: {width}x{height} in {seconds:.2f} s on {upscaler}"), file=sys.stderr)
    return 0


def upscale_folder(args: argparse.Namespace, source: Path, target: Path) -> int:
    """All images of a folder; returns 0, or the code of the first one that could not be read or written."""
    from srfast.cli.progress import Reporter

    jobs = _jobs(args, source, target)
    waiting = [(path, result) for path, result in jobs if not (args.resume and result.exists())]
    existing = [result for _, result in waiting if result.exists()]
    if existing and not args.overwrite:
        raise OutputError(
            f"{existing[0]} exists; give -y to overwrite it, --resume to do only what is missing, or another folder"
        )
    upscaler = upscaler_from(args, "image", _memory(args))
    target.mkdir(parents=True, exist_ok=True)
    before, started, outcomes = len(jobs) - len(waiting), time.perf_counter(), []
    try:
        with Reporter(args.progress, "images") as reporter:
            for done, (path, result) in enumerate(waiting, before + 1):
                outcomes.append(_one(upscaler, path, result, args.overwrite))
                reporter.update(done, len(jobs), time.perf_counter() - started, before)
                if outcomes[-1] and getattr(outcomes[-1].__cause__, "errno", None) in _NO_ROOM:
                    break
    except KeyboardInterrupt as error:
        there = before + outcomes.count(None)
        raise KeyboardInterrupt(f"{there} of {len(jobs)} images are in {target}; --resume does the others") from error
    finally:
        failed = [error for error in outcomes if error]
        for failure in failed:
            print(escaped(f"srfast: error: {failure}"), file=sys.stderr)
    there, old = before + outcomes.count(None), f", {before} of them from before" if before else ""
    print(escaped(f"{target}: {there} of {len(jobs)} images{old} on {upscaler}"), file=sys.stderr)
    return failed[0].exit_code if failed else 0


def _one(upscaler: Upscaler, path: Path, result: Path, overwrite: bool) -> SrfastError | None:
    """An image of a folder; what is wrong with it, if it could not be read, upscaled or written."""
    from srfast.images import check_size, read_picture, write_image

    try:
        picture = read_picture(path)
        check_size(result, *upscaler.output_size(*picture.image.shape[:2]))
        write_image(result, upscaler(picture.image), overwrite, picture.metadata)
    except (InputError, OutputError) as error:
        return error
    except (SrfastError, MemoryError) as error:
        return SrfastError(f"{path}: {error or 'there is no memory for it'}")
    return None


def _jobs(args: argparse.Namespace, source: Path, target: Path) -> list[tuple[Path, Path]]:
    """The images of a folder and where each result goes."""
    from srfast.images import check_format, find_images

    images = find_images(source)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file, but the input is a folder; give a folder")
    names = [_result_name(path, args.suffix, args.ext) for path in images]
    check_format(target / names[0])  # --ext is that of all; without it they are the inputs'
    clash, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise OutputError(f"two images of {source} would both be written as {clash}; leave --ext out")
    return [(path, target / name) for path, name in zip(images, names, strict=True)]


def _memory(args: argparse.Namespace) -> int | None:
    from srfast.video.memory import engine_budget

    return engine_budget(size_in_bytes(args.max_memory), None, args.outscale) if args.max_memory else None


def _result_name(path: Path, suffix: str, ext: str | None) -> str:
    return f"{path.stem}{suffix}.{ext.lstrip('.')}" if ext else f"{path.stem}{suffix}{path.suffix}"
