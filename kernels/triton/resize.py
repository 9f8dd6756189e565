"""Enlargement by a whole factor; the twin is ``torch.nn.functional.interpolate`` with align_corners=False."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.triton.values import part_of_row

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
    x_ptr,
    out_ptr,
    first_ptr,
    weight_ptr,
    height,
    width,
    x_image,
    x_row,
    o_image,
    o_row,
    X_PIXEL: tl.constexpr,
    O_PIXEL: tl.constexpr,
    CHANNELS: tl.constexpr,
    FACTOR: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one output row; taps beyond the image repeat its edge."""
    image, y, x, channel, mask = part_of_row(height * FACTOR, width * FACTOR, CHANNELS, BLOCK)
    y_first = y // FACTOR + tl.load(first_ptr + y % FACTOR)
    x_first = x // FACTOR + tl.load(first_ptr + x % FACTOR)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for i in tl.static_range(TAPS):
        source_y = tl.minimum(tl.maximum(y_first + i, 0), height - 1)
        y_weight = tl.load(weight_ptr + (y % FACTOR) * TAPS + i)
        row = x_ptr + image * x_image + source_y.to(tl.int64) * x_row
        line = tl.zeros((BLOCK,), dtype=tl.float32)
        for j in tl.static_range(TAPS):
            source_x = tl.minimum(tl.maximum(x_first + j, 0), width - 1)
            x_weight = tl.load(weight_ptr + (x % FACTOR) * TAPS + j)
            line += x_weight * tl.load(row + (source_x * X_PIXEL + channel), mask=mask, other=0.0).to(tl.float32)
        total += y_weight * line
    offset = image * o_image + y.to(tl.int64) * o_row + (x * O_PIXEL + channel)
    tl.store(out_ptr + offset, total.to(out_ptr.dtype.element_ty), mask=mask)


def resize_launch(x: Canvas, out: Canvas, factor: int, mode: str) -> Callable[[], None]:
    """A function that enlarges ``x`` by ``factor``; ``mode`` is nearest, bilinear or bicubic.

    Raises:
        ValueError: the output is not [N, C, factor * H, factor * W] of the same dtype and device, or an unknown mode.
    """
    given = (out.images, out.channels, out.height, out.width, out.data.dtype, out.data.device)
    expected = (x.images, x.channels, x.height * factor, x.width * factor, x.data.dtype, x.data.device)
    if given != expected or mode not in TAPS:
        raise ValueError(f"enlarged by {factor} ({mode}) the output has {given}, not {expected}")
    first, weights = (t.to(x.data.device) for t in phase_weights(factor, mode))
    args = (x.at(0, 0), out.at(0, 0), first, weights, x.height, x.width, x.image, x.row, out.image, out.row)
    constants: dict[str, Any] = {
        "X_PIXEL": x.pixel,
        "O_PIXEL": out.pixel,
        "CHANNELS": x.channels,
        "FACTOR": factor,
        "TAPS": TAPS[mode],
        "BLOCK": BLOCK,
        "enable_fp_fusion": False,
    }
    grid = (out.images * out.height, -(-out.width * out.channels // BLOCK))
    bound: Any = resize_kernel
    return lambda: bound[grid](*args, **constants)
