"""Moments of an activation, and what gates and normalisations make of them.

Channels are summed in parts, rows of one image each, and the parts put together in a fixed order: the same image gives
the same bits in any batch. (Loops to a bound known only on the GPU are ``while``: Triton 3.6 cannot interpret ``range`` of one
with numpy 2.4.) A part keeps its mean and the squares of the deviations from it, which lose nothing where the
mean is large (Chan et al. 1983, https://doi.org/10.1080/00031305.1983.10483115).
"""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from srfast.kernels.buffers import Canvas
from srfast.kernels.packing import ACTS
from srfast.kernels.triton.values import activation

# An image comes in at most so many parts, of at least so many rows.
PARTS, ROWS = 128, 4
_PRELU = tl.constexpr(ACTS["prelu"])
_SIGMOID = tl.constexpr(ACTS["sigmoid"])


def gains_reference(
    x: Tensor,  # [N, C, H, W]
    squeeze: Tensor,  # [M, C]
    squeeze_bias: Tensor,  # [M]
    expand: Tensor,  # [C, M]
    expand_bias: Tensor,  # [C]
    slope: Tensor,  # [1] or [M]
) -> Tensor:  # [N, C]
    """sigmoid(expand @ prelu(squeeze @ mean(x) + squeeze_bias) + expand_bias)."""
    hidden = F.prelu(F.linear(x.mean((2, 3)), squeeze, squeeze_bias), slope)
    return torch.sigmoid(F.linear(hidden, expand, expand_bias))


def norm_reference(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """[N, C, H, W] -> scale and shift [N, C] that normalise each channel of each image."""
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    scale = scale * torch.rsqrt(variance + eps)
    return scale, shift - mean * scale


def pixel_moments_reference(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, 2, H, W]: mean and largest of each pixel's channels."""
    return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)


@triton.jit
def parts_kernel(
    x_ptr,
    part_ptr,  # [N, parts, 2, CHANNELS] float32
    height,
    width,
    rows,  # of a part
    parts,
    x_image,
    x_row,
    X_PIXEL: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Means and squared deviations of BLOCK_C channels over one part."""
    image = (tl.program_id(0) // parts).to(tl.int64)
    part = tl.program_id(0) % parts
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = part * rows
    count = (tl.minimum(first + rows, height) - first) * width
    base = x_ptr + image * x_image + first.to(tl.int64) * x_row + channel[None, :]
    wanted = (channel < CHANNELS)[None, :]
    total = tl.zeros((BLOCK_P, BLOCK_C), dtype=tl.float32)
    start = 0
    while start < count:
        pixel = (start + tl.arange(0, BLOCK_P))[:, None]
        offset = (pixel // width).to(tl.int64) * x_row + (pixel % width) * X_PIXEL
        total += tl.load(base + offset, mask=(pixel < count) & wanted, other=0.0).to(tl.float32)
        start += BLOCK_P
    mean = tl.sum(total, 0) / count
    squares = tl.zeros((BLOCK_P, BLOCK_C), dtype=tl.float32)
    start = 0
    while start < count:
        pixel = (start + tl.arange(0, BLOCK_P))[:, None]
        offset = (pixel // width).to(tl.int64) * x_row + (pixel % width) * X_PIXEL
        inside = (pixel < count) & wanted
        deviation = tl.load(base + offset, mask=inside, other=0.0).to(tl.float32) - mean[None, :]
        squares += tl.where(inside, deviation * deviation, 0.0)
        start += BLOCK_P
    target = part_ptr + (image * parts + part) * (2 * CHANNELS) + channel
    tl.store(target, mean, mask=channel < CHANNELS)
    tl.store(target + CHANNELS, tl.sum(squares, 0), mask=channel < CHANNELS)


@triton.jit
def joined_mean(part_ptr, height, width, rows, parts, channel, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr):
    """[BLOCK_C] means of one image from those of its parts."""
    mean = tl.zeros((BLOCK_C,), dtype=tl.float32)
    part = 0
    while part < parts:
        part_rows = tl.minimum(rows, height - part * rows)
        value = tl.load(part_ptr + part * (2 * CHANNELS) + channel, mask=channel < CHANNELS, other=0.0)
        mean += value * (part_rows.to(tl.float32) / height)
        part += 1
    return mean


@triton.jit
def gains_kernel(
    part_ptr,
    squeeze_ptr,  # [MIDDLE, CHANNELS]
    squeeze_bias_ptr,
    expand_ptr,  # [MIDDLE, CHANNELS], transposed
    expand_bias_ptr,
    slope_ptr,
    scale_ptr,  # [N, CHANNELS]
    height,
    width,
    rows,
    parts,
    MIDDLE: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """The gains of one image."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK_C)
    mask = channel < CHANNELS
    mean = joined_mean(
        part_ptr + image * parts * (2 * CHANNELS), height, width, rows, parts, channel, CHANNELS, BLOCK_C
    )
    total = tl.load(expand_bias_ptr + channel, mask=mask, other=0.0)
    for i in range(MIDDLE):
        weight = tl.load(squeeze_ptr + i * CHANNELS + channel, mask=mask, other=0.0)
        hidden = tl.sum(weight * mean, 0) + tl.load(squeeze_bias_ptr + i)
        hidden = activation(hidden, tl.load(slope_ptr + i), _PRELU)
        total += hidden * tl.load(expand_ptr + i * CHANNELS + channel, mask=mask, other=0.0)
    tl.store(scale_ptr + image * CHANNELS + channel, activation(total, 0.0, _SIGMOID), mask=mask)


@triton.jit
def norm_kernel(
    part_ptr,
    weight_ptr,
    bias_ptr,
    scale_ptr,  # [N, CHANNELS]
    shift_ptr,  # [N, CHANNELS]
    height,
    width,
    rows,
    parts,
    eps,
    CHANNELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Scale and shift that normalise one image."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK_C)
    mask = channel < CHANNELS
    part_ptr += image * parts * (2 * CHANNELS)
    mean = joined_mean(part_ptr, height, width, rows, parts, channel, CHANNELS, BLOCK_C)
    squares = tl.zeros((BLOCK_C,), dtype=tl.float32)
    part = 0
    while part < parts:
        count = (tl.minimum(rows, height - part * rows) * width).to(tl.float32)
        at = part_ptr + part * (2 * CHANNELS) + channel
        away = tl.load(at, mask=mask, other=0.0) - mean
        squares += tl.load(at + CHANNELS, mask=mask, other=0.0) + count * away * away
        part += 1
    variance = squares / (height * width)
    scale = tl.load(weight_ptr + channel, mask=mask, other=0.0) / tl.sqrt(variance + eps)
    shift = tl.load(bias_ptr + channel, mask=mask, other=0.0) - mean * scale
    tl.store(scale_ptr + image * CHANNELS + channel, scale, mask=mask)
    tl.store(shift_ptr + image * CHANNELS + channel, shift, mask=mask)


@triton.jit
def pixel_moments_kernel(
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
    CHANNELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """BLOCK_P pixels of one row: mean to the first channel, largest to the second."""
    image = (tl.program_id(0) // height).to(tl.int64)
    y = (tl.program_id(0) % height).to(tl.int64)
    x = tl.program_id(1) * BLOCK_P + tl.arange(0, BLOCK_P)
    channel = tl.arange(0, BLOCK_C)
    mask = x < width
    wanted = mask[:, None] & (channel < CHANNELS)[None, :]
    source = x_ptr + image * x_image + y * x_row + (x[:, None] * X_PIXEL + channel[None, :])
    value = tl.load(source, mask=wanted, other=0.0).to(tl.float32)
    mean = tl.sum(value, 1) / CHANNELS
    largest = tl.max(tl.where(wanted, value, float("-inf")), 1)
    target = out_ptr + image * o_image + y * o_row + x * O_PIXEL
    tl.store(target, mean.to(out_ptr.dtype.element_ty), mask=mask)
    tl.store(target + 1, largest.to(out_ptr.dtype.element_ty), mask=mask)


class ChannelMoments:
    """Memory and launch for the moments of a canvas's channels, in parts."""

    def __init__(self, x: Canvas) -> None:
        self.x = x
        self.rows = max(ROWS, -(-x.height // PARTS))
        self.parts = -(-x.height // self.rows)
        self.data = torch.empty((x.images, self.parts, 2, x.channels), dtype=torch.float32, device=x.data.device)
        self.size = (x.height, x.width, self.rows, self.parts)

    def launch(self) -> None:
        """Computes them."""
        x, block_c = self.x, min(64, _power_of_two(self.x.channels))
        grid = (x.images * self.parts, -(-x.channels // block_c))
        constants = (x.pixel, x.channels, block_c, 2048 // block_c)
        bound: Any = parts_kernel
        bound[grid](x.at(0, 0), self.data, *self.size, x.image, x.row, *constants, enable_fp_fusion=False)

    def result(self) -> Tensor:
        """Memory for a value of each channel of each image."""
        return torch.empty((self.x.images, self.x.channels), dtype=torch.float32, device=self.x.data.device)


def gains_launch(
    x: Canvas, squeeze: Tensor, squeeze_bias: Tensor, expand: Tensor, expand_bias: Tensor, slope: Tensor
) -> tuple[Callable[[], None], Tensor]:
    """A function that runs ``gains_reference`` on a canvas, and the [N, C] float32 tensor that it fills."""
    moments = ChannelMoments(x)
    gains, middle = moments.result(), squeeze.shape[0]
    given = (squeeze, squeeze_bias, expand.t(), expand_bias, slope.expand(middle))
    weights = [v.detach().to(x.data.device, torch.float32).contiguous() for v in given]
    bound: Any = gains_kernel

    def launch() -> None:
        moments.launch()
        constants = (middle, x.channels, _power_of_two(x.channels))
        bound[(x.images,)](moments.data, *weights, gains, *moments.size, *constants, enable_fp_fusion=False)

    return launch, gains


def norm_launch(x: Canvas, scale: Tensor, shift: Tensor, eps: float) -> tuple[Callable[[], None], Tensor, Tensor]:
    """A function that runs ``norm_reference`` on a canvas, and the two [N, C] float32 tensors that it fills."""
    moments = ChannelMoments(x)
    scales, shifts = moments.result(), moments.result()
    given = (v.detach().to(x.data.device, torch.float32) for v in (scale, shift))
    weights = [v.expand(x.channels).contiguous() for v in given]
    bound: Any = norm_kernel

    def launch() -> None:
        moments.launch()
        constants = (x.channels, _power_of_two(x.channels))
        bound[(x.images,)](
            moments.data, *weights, scales, shifts, *moments.size, float(eps), *constants, enable_fp_fusion=False
        )

    return launch, scales, shifts


def pixel_moments_launch(x: Canvas, out: Canvas) -> Callable[[], None]:
    """A function that runs ``pixel_moments_reference``.

    Raises:
        ValueError: the output is not [N, 2, H, W] of the same dtype and device.
    """
    given = (out.images, out.channels, out.height, out.width, out.data.dtype, out.data.device)
    expected = (x.images, 2, x.height, x.width, x.data.dtype, x.data.device)
    if given != expected:
        raise ValueError(f"the moments of pixels go to {given}, not {expected}")
    block_c = _power_of_two(x.channels)
    block_p = max(1, 4096 // block_c)
    grid = (x.images * x.height, -(-x.width // block_p))
    args = (x.at(0, 0), out.at(0, 0), x.height, x.width, x.image, x.row, out.image, out.row)
    constants = (x.pixel, out.pixel, x.channels, block_c, block_p)
    bound: Any = pixel_moments_kernel
    return lambda: bound[grid](*args, *constants, enable_fp_fusion=False)


def _power_of_two(value: int) -> int:
    return 1 << (value - 1).bit_length()
