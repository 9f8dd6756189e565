"""Pixel shuffle on its own, where no convolution stores shuffled; the twin is ``torch.nn.functional.pixel_shuffle``."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from srfast.kernels.canvas import Canvas

BLOCK = 1024


@triton.jit
def shuffle_kernel(
    x_ptr,
    out_ptr,
    height,
    width,
    x_image,
    x_row,
    o_image,
    o_row,
    X_PIXEL: tl.constexpr,
    O_PIXEL: tl.constexpr,
    PLANES: tl.constexpr,
    FACTOR: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one output row."""
    rows = height * FACTOR
    image = (tl.program_id(0) // rows).to(tl.int64)
    y = tl.program_id(0) % rows
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = index // PLANES
    plane = index % PLANES
    mask = x < width * FACTOR
    channel = plane * (FACTOR * FACTOR) + (y % FACTOR) * FACTOR + x % FACTOR
    offset = image * x_image + (y // FACTOR).to(tl.int64) * x_row + ((x // FACTOR) * X_PIXEL + channel)
    value = tl.load(x_ptr + offset, mask=mask)
    tl.store(out_ptr + image * o_image + y.to(tl.int64) * o_row + (x * O_PIXEL + plane), value, mask=mask)


def shuffle_launch(x: Canvas, out: Canvas, factor: int) -> Callable[[], None]:
    """A function that runs ``pixel_shuffle(x, factor)``.

    Raises:
        ValueError: the output is not [N, C / (factor * factor), factor * H, factor * W] of the same dtype and device.
    """
    given = (out.images, out.channels * factor**2, out.height, out.width, out.data.dtype, out.data.device)
    expected = (x.images, x.channels, x.height * factor, x.width * factor, x.data.dtype, x.data.device)
    if given != expected:
        raise ValueError(f"shuffled by {factor} the output has {given}, not {expected}")
    args = (x.at(0, 0), out.at(0, 0), x.height, x.width, x.image, x.row, out.image, out.row)
    constants: dict[str, Any] = {
        "X_PIXEL": x.pixel,
        "O_PIXEL": out.pixel,
        "PLANES": out.channels,
        "FACTOR": factor,
        "BLOCK": BLOCK,
        "enable_fp_fusion": False,
    }
    grid = (out.images * out.height, -(-out.width * out.channels // BLOCK))
    bound: Any = shuffle_kernel
    return lambda: bound[grid](*args, **constants)
