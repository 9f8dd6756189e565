"""Enlargement by a whole factor; the twin is ``torch.nn.functional.interpolate`` with align_corners=False."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.launch import KernelLaunch
from srfast.kernels.params import Size, image_of
from srfast.kernels.triton.values import part_of_row, row_start

BLOCK = 1024
TAPS = {"nearest": 1, "bilinear": 2, "bicubic": 4}


def phase_weights(factor: int, mode: str) -> tuple[Tensor, Tensor]:
    """First tap, relative to the pixel that a phase lies in, and weights of the taps, for each of ``factor`` phases.

    Phase p of a source pixel lies at (p + 0.5) / factor - 0.5. Bicubic is Keys' kernel with a = -0.75, as in PyTorch.

    Returns:
        [factor] int32 and [factor, taps] float32.
    """
    taps = TAPS[mode]
    first, weights = torch.zeros(factor, dtype=torch.int32), torch.ones(factor, taps, dtype=torch.float64)
    for phase in range(factor if taps > 1 else 0):
        position = (phase + 0.5) / factor - 0.5
        base = math.floor(position) - (taps // 2 - 1)
        first[phase] = base
        for tap in range(taps):
            distance = abs(position - (base + tap))
            weights[phase, tap] = 1 - distance if taps == 2 else _keys(distance)
    return first, weights.float()


def _keys(x: float, a: float = -0.75) -> float:
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a


@triton.jit
def resize_kernel(
    x,
    out,
    first_ptr,
    weight_ptr,
    size,  # of the input
    CHANNELS: tl.constexpr,
    FACTOR: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one output row; taps beyond the image repeat its edge."""
    image, y, column, channel, mask = part_of_row(size.height * FACTOR, size.width * FACTOR, CHANNELS, BLOCK)
    # Enlarged by a whole factor, all pixels of a phase have the same weights: a table instead of arithmetic per pixel, and
    # the host computes it in float64.
    y_first = y // FACTOR + tl.load(first_ptr + y % FACTOR)
    x_first = column // FACTOR + tl.load(first_ptr + column % FACTOR)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for i in tl.static_range(TAPS):
        source_y = tl.minimum(tl.maximum(y_first + i, 0), size.height - 1)
        y_weight = tl.load(weight_ptr + (y % FACTOR) * TAPS + i)
        # Along each row of taps first, then down them: separable, with the same order of roundings for every pixel.
        row = row_start(x, image, source_y)
        line = tl.zeros((BLOCK,), dtype=tl.float32)
        for j in tl.static_range(TAPS):
            source_x = tl.minimum(tl.maximum(x_first + j, 0), size.width - 1)
            x_weight = tl.load(weight_ptr + (column % FACTOR) * TAPS + j)
            line += x_weight * tl.load(row + (source_x * x.pixel_stride + channel), mask=mask, other=0.0).to(tl.float32)
        total += y_weight * line
    target = row_start(out, image, y) + (column * out.pixel_stride + channel)
    tl.store(target, total.to(out.ptr.dtype.element_ty), mask=mask)


def resize_launch(x: Canvas, out: Canvas, factor: int, mode: str) -> KernelLaunch:
    """A function that enlarges ``x`` by ``factor``; ``mode`` is nearest, bilinear or bicubic.

    Raises:
        ValueError: the output is not [N, C, factor * H, factor * W] of the same dtype and device, or an unknown mode.
    """
    given = (out.images, out.channels, out.height, out.width, out.data.dtype, out.data.device)
    expected = (x.images, x.channels, x.height * factor, x.width * factor, x.data.dtype, x.data.device)
    if given != expected or mode not in TAPS:
        raise ValueError(f"enlarged by {factor} ({mode}) the output has {given}, not {expected}")
    first, weights = (t.to(x.data.device) for t in phase_weights(factor, mode))
    images = (image_of(x), image_of(out))
    args = (*images, first, weights, Size(x.height, x.width), x.channels, factor, TAPS[mode], BLOCK)
    grid = (out.images * out.height, -(-out.width * out.channels // BLOCK))
    return KernelLaunch(resize_kernel, grid, *args)
