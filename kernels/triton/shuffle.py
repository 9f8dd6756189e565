"""Pixel shuffle on its own, where no convolution stores shuffled, and its inverse.

The twins are ``pixel_shuffle`` and ``pixel_unshuffle`` of ``torch.nn.functional``.
"""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from srfast.kernels.buffers import Canvas
from srfast.kernels.triton.values import part_of_row

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
    INVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one row of the larger image, which is written, or with INVERSE read."""
    image, y, x, plane, mask = part_of_row(height * FACTOR, width * FACTOR, PLANES, BLOCK)
    channel = plane * (FACTOR * FACTOR) + (y % FACTOR) * FACTOR + x % FACTOR
    small = image * x_image + (y // FACTOR).to(tl.int64) * x_row + ((x // FACTOR) * X_PIXEL + channel)
    large = image * o_image + y.to(tl.int64) * o_row + (x * O_PIXEL + plane)
    if INVERSE:
        tl.store(x_ptr + small, tl.load(out_ptr + large, mask=mask), mask=mask)
    else:
        tl.store(out_ptr + large, tl.load(x_ptr + small, mask=mask), mask=mask)


def shuffle_launch(x: Canvas, out: Canvas, factor: int) -> Callable[[], None]:
    """A function that runs ``pixel_shuffle(x, factor)``.

    Raises:
        ValueError: the output is not [N, C / (factor * factor), factor * H, factor * W] of the same dtype and device.
    """
    return _launch(x, out, factor, inverse=False)


def unshuffle_launch(x: Canvas, out: Canvas, factor: int) -> Callable[[], None]:
    """A function that runs ``pixel_unshuffle(x, factor)``.

    Raises:
        ValueError: the output is not [N, C * factor * factor, H / factor, W / factor] of the same dtype and device.
    """
    return _launch(out, x, factor, inverse=True)


def _launch(small: Canvas, large: Canvas, factor: int, inverse: bool) -> Callable[[], None]:
    given = (large.images, large.channels * factor**2, large.height, large.width, large.data.dtype, large.data.device)
    size = (small.height * factor, small.width * factor)
    expected = (small.images, small.channels, *size, small.data.dtype, small.data.device)
    if given != expected:
        raise ValueError(f"shuffled by {factor} the larger canvas has {given}, not {expected}")
    args = (small.at(0, 0), large.at(0, 0), small.height, small.width, small.image, small.row, large.image, large.row)
    constants: dict[str, Any] = {
        "X_PIXEL": small.pixel,
        "O_PIXEL": large.pixel,
        "PLANES": large.channels,
        "FACTOR": factor,
        "INVERSE": inverse,
        "BLOCK": BLOCK,
        "enable_fp_fusion": False,
    }
    grid = (large.images * large.height, -(-large.width * large.channels // BLOCK))
    bound: Any = shuffle_kernel
    return lambda: bound[grid](*args, **constants)
