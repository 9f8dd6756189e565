"""``srfast upscale`` for one image."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from srfast.cli.options import upscaler_from
from srfast.cli.queue import memory_of
from srfast.errors import InputError, escaped


def upscale_image(args: argparse.Namespace, source: Path, target: Path) -> int:
    """One image; returns 0."""
    from srfast.images import check_image_output, check_size, read_picture, write_image

    if not source.exists():
        raise InputError(f"{source} is missing")
    check_image_output(target, args.overwrite)
    picture = read_picture(source)
    upscaler = upscaler_from(args, "image", memory_of(args))
    check_size(target, *upscaler.output_size(*picture.image.shape[:2]))
    started = time.perf_counter()
    result = upscaler(picture.image)
    seconds = time.perf_counter() - started
    write_image(target, result, args.overwrite, picture.metadata)
    height, width = result.shape[:2]
    print(escaped(f"{target}: {width}x{height} in {seconds:.2f} s on {upscaler}"), file=sys.stderr)
    return 0
