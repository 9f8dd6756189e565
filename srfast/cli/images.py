"""``srfast upscale`` for one image."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from srfast.cli.options import UpscaleOptions, upscaler_from
from srfast.errors import InputError, escaped


def upscale_image(options: UpscaleOptions, source: Path, target: Path) -> int:
    """One image; returns 0."""
    from srfast.images import check_image_output, check_size, read_picture, write_image

    if not source.exists():
        raise InputError(f"{source} is missing")
    overwrite = options.output.overwrite
    check_image_output(target, overwrite)
    picture = read_picture(source)
    upscaler = upscaler_from(options.model, "image", options.model.memory(None))
    check_size(target, *upscaler.output_size(*picture.image.shape[:2]))
    started = time.perf_counter()
    result = upscaler(picture.image)
    seconds = time.perf_counter() - started
    write_image(target, result, overwrite, picture.metadata)
    height, width = result.shape[:2]
    print(escaped(f"{target}: {width}x{height} in {seconds:.2f} s on {upscaler}"), file=sys.stderr)
    return 0
