"""Pixel shuffle on its own, where no convolution stores shuffled, and its inverse.

The twins are ``pixel_shuffle`` and ``pixel_unshuffle`` of ``torch.nn.functional``.
"""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from srfast.kernels.buffers import Canvas
from srfast.kernels.launch import KernelLaunch
from srfast.kernels.params import Size, image_of
from srfast.kernels.triton.values import part_of_row, row_start

BLOCK = 1024


@triton.jit
def shuffle_kernel(
    small,
    large,
    size,  # of the smaller image
    PLANES: tl.constexpr,
    FACTOR: tl.constexpr,
    INVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one row of the larger image, which is written, or with INVERSE read."""
    image, y, x, plane, mask = part_of_row(size.height * FACTOR, size.width * FACTOR, PLANES, BLOCK)
    channel = plane * (FACTOR * FACTOR) + (y % FACTOR) * FACTOR + x % FACTOR
    small_ptr = row_start(small, image, y // FACTOR) + ((x // FACTOR) * small.pixel_stride + channel)
    large_ptr = row_start(large, image, y) + (x * large.pixel_stride + plane)
    if INVERSE:
        tl.store(small_ptr, tl.load(large_ptr, mask=mask), mask=mask)
    else:
        tl.store(large_ptr, tl.load(small_ptr, mask=mask), mask=mask)


def shuffle_launch(x: Canvas, out: Canvas, factor: int) -> KernelLaunch:
    """A function that runs ``pixel_shuffle(x, factor)``.

    Raises:
        ValueError: the output is not [N, C / (factor * factor), factor * H, factor * W] of the same dtype and device.
    """
    return _launch(x, out, factor, inverse=False)


def unshuffle_launch(x: Canvas, out: Canvas, factor: int) -> KernelLaunch:
    """A function that runs ``pixel_unshuffle(x, factor)``.

    Raises:
        ValueError: the output is not [N, C * factor * factor, H / factor, W / factor] of the same dtype and device.
    """
    return _launch(out, x, factor, inverse=True)


def _launch(small: Canvas, large: Canvas, factor: int, inverse: bool) -> KernelLaunch:
    given = (large.images, large.channels * factor**2, large.height, large.width, large.data.dtype, large.data.device)
    size = (small.height * factor, small.width * factor)
    expected = (small.images, small.channels, *size, small.data.dtype, small.data.device)
    if given != expected:
        raise ValueError(f"shuffled by {factor} the larger canvas has {given}, not {expected}")
    images = (image_of(small), image_of(large))
    args = (*images, Size(small.height, small.width), large.channels, factor, inverse, BLOCK)
    grid = (large.images * large.height, -(-large.width * large.channels // BLOCK))
    return KernelLaunch(shuffle_kernel, grid, *args)
