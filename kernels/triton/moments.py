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

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from srfast.kernels.buffers import Canvas
from srfast.kernels.launch import InTurn, KernelLaunch
from srfast.kernels.packing import ACTS
from srfast.kernels.params import Size, image_of
from srfast.kernels.triton.pointwise import check_alike
from srfast.kernels.triton.values import activation, part_of_row, row_start

# An image comes in at most so many parts, of at least so many rows.
PARTS, ROWS = 128, 4
_PRELU = tl.constexpr(ACTS["prelu"])
_SIGMOID = tl.constexpr(ACTS["sigmoid"])


class Parts(NamedTuple):
    """An image's size in pixels, the rows of each of its parts but the last, and how many parts there are."""

    height: Any
    width: Any
    rows: Any
    count: Any


def gains_reference(
    x: Tensor,  # [N, C, H, W]
    squeeze: Tensor,  # [M, C]
    squeeze_bias: Tensor,  # [M]
    expand: Tensor,  # [C, M]
    expand_bias: Tensor,  # [C]
    slope: Tensor,  # [1] or [M]
    contrast: bool = False,
    hard: bool = False,
) -> Tensor:  # [N, C]
    """sigmoid(expand @ prelu(squeeze @ moment(x) + squeeze_bias) + expand_bias).

    The moment is the mean, or with ``contrast`` the deviation plus the mean; ``hard`` ends in a hard sigmoid.
    """
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    moment = torch.sqrt(variance) + mean if contrast else mean
    sums = F.linear(F.prelu(F.linear(moment, squeeze, squeeze_bias), slope), expand, expand_bias)
    return F.hardsigmoid(sums) if hard else torch.sigmoid(sums)


def norm_reference(
    x: Tensor, scale: Tensor, shift: Tensor, eps: float, groups: int | None = None
) -> tuple[Tensor, Tensor]:
    """[N, C, H, W] -> scale and shift [N, C] that normalise each of ``groups`` groups of channels, or each channel."""
    channels = x.shape[1]
    parts = x.reshape(len(x), groups or channels, -1)
    variance, mean = (v.repeat_interleave(channels // v.shape[1], 1) for v in torch.var_mean(parts, 2, correction=0))
    scale = scale * torch.rsqrt(variance + eps)
    return scale, shift - mean * scale


def pixel_norm_reference(x: Tensor, scale: Tensor, shift: Tensor, eps: float, centred: bool = True) -> Tensor:
    """[N, C, H, W], each pixel normalised over its channels, times ``scale`` [C], plus ``shift`` [C].

    Not ``centred``, it is divided by the root of its mean square, to which ``eps`` is added.
    """
    if not centred:
        return x / (torch.sqrt(x.square().mean(1, keepdim=True)) + eps) * scale[:, None, None] + shift[:, None, None]
    variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + eps) * scale[:, None, None] + shift[:, None, None]


def pixel_moments_reference(x: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, 2, H, W]: mean and largest of each pixel's channels."""
    return torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)


@triton.jit
def parts_kernel(
    x,
    part_ptr,  # [N, parts, 2, CHANNELS] float32
    parts,
    CHANNELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Means and squared deviations of BLOCK_C channels over one part."""
    image = (tl.program_id(0) // parts.count).to(tl.int64)
    part = tl.program_id(0) % parts.count
    channel = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = part * parts.rows
    count = (tl.minimum(first + parts.rows, parts.height) - first) * parts.width
    base = row_start(x, image, first) + channel[None, :]
    wanted = (channel < CHANNELS)[None, :]
    total = tl.zeros((BLOCK_P, BLOCK_C), dtype=tl.float32)
    start = 0
    while start < count:
        pixel = (start + tl.arange(0, BLOCK_P))[:, None]
        offset = (pixel // parts.width).to(tl.int64) * x.row_stride + (pixel % parts.width) * x.pixel_stride
        total += tl.load(base + offset, mask=(pixel < count) & wanted, other=0.0).to(tl.float32)
        start += BLOCK_P
    # A second walk for the deviations: the difference of squares and squared mean would cancel where the mean is large.
    mean = tl.sum(total, 0) / count
    squares = tl.zeros((BLOCK_P, BLOCK_C), dtype=tl.float32)
    start = 0
    while start < count:
        pixel = (start + tl.arange(0, BLOCK_P))[:, None]
        offset = (pixel // parts.width).to(tl.int64) * x.row_stride + (pixel % parts.width) * x.pixel_stride
        inside = (pixel < count) & wanted
        deviation = tl.load(base + offset, mask=inside, other=0.0).to(tl.float32) - mean[None, :]
        squares += tl.where(inside, deviation * deviation, 0.0)
        start += BLOCK_P
    target = part_ptr + (image * parts.count + part) * (2 * CHANNELS) + channel
    tl.store(target, mean, mask=channel < CHANNELS)
    tl.store(target + CHANNELS, tl.sum(squares, 0), mask=channel < CHANNELS)


@triton.jit
def joined_mean(part_ptr, parts, channel, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr):
    """[BLOCK_C] means of one image from those of its parts."""
    mean = tl.zeros((BLOCK_C,), dtype=tl.float32)
    part = 0
    while part < parts.count:
        part_rows = tl.minimum(parts.rows, parts.height - part * parts.rows)
        value = tl.load(part_ptr + part * (2 * CHANNELS) + channel, mask=channel < CHANNELS, other=0.0)
        mean += value * (part_rows.to(tl.float32) / parts.height)
        part += 1
    return mean


@triton.jit
def joined_squares(part_ptr, parts, mean, channel, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr):
    """[BLOCK_C] squared deviations from ``mean`` of one image, from the means and squares of its parts."""
    squares = tl.zeros((BLOCK_C,), dtype=tl.float32)
    part = 0
    while part < parts.count:
        count = (tl.minimum(parts.rows, parts.height - part * parts.rows) * parts.width).to(tl.float32)
        at = part_ptr + part * (2 * CHANNELS) + channel
        away = tl.load(at, mask=channel < CHANNELS, other=0.0) - mean
        squares += tl.load(at + CHANNELS, mask=channel < CHANNELS, other=0.0) + count * away * away
        part += 1
    return squares


@triton.jit
def gains_kernel(
    part_ptr,
    squeeze_ptr,  # [MIDDLE, CHANNELS]
    squeeze_bias_ptr,
    expand_ptr,  # [MIDDLE, CHANNELS], transposed
    expand_bias_ptr,
    slope_ptr,
    scale_ptr,  # [N, CHANNELS]
    parts,
    MIDDLE: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CONTRAST: tl.constexpr,
    HARD: tl.constexpr,
):
    """The gains of one image."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK_C)
    mask = channel < CHANNELS
    part_ptr += image * parts.count * (2 * CHANNELS)
    mean = joined_mean(part_ptr, parts, channel, CHANNELS, BLOCK_C)
    if CONTRAST:
        squares = joined_squares(part_ptr, parts, mean, channel, CHANNELS, BLOCK_C)
        mean += tl.sqrt(squares / (parts.height * parts.width))
    total = tl.load(expand_bias_ptr + channel, mask=mask, other=0.0)
    for i in range(MIDDLE):
        weight = tl.load(squeeze_ptr + i * CHANNELS + channel, mask=mask, other=0.0)
        hidden = tl.sum(weight * mean, 0) + tl.load(squeeze_bias_ptr + i)
        hidden = activation(hidden, tl.load(slope_ptr + i), _PRELU)
        total += hidden * tl.load(expand_ptr + i * CHANNELS + channel, mask=mask, other=0.0)
    if HARD:
        gain = tl.minimum(tl.maximum(total + 3.0, 0.0), 6.0) / 6.0
    else:
        gain = activation(total, 0.0, _SIGMOID)
    tl.store(scale_ptr + image * CHANNELS + channel, gain, mask=mask)


@triton.jit
def group_mean(value, channel, CHANNELS: tl.constexpr, GROUP: tl.constexpr):
    """Of every channel, the mean of the [BLOCK_C] values of its group. Few programs run it: it compares each with each."""
    alike = (channel[:, None] // GROUP == channel[None, :] // GROUP) & (channel < CHANNELS)[None, :]
    return tl.sum(tl.where(alike, value[None, :], 0.0), 1) / GROUP


@triton.jit
def norm_kernel(
    part_ptr,
    weight_ptr,
    bias_ptr,
    scale_ptr,  # [N, CHANNELS]
    shift_ptr,  # [N, CHANNELS]
    parts,
    eps,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,  # channels of a group
    BLOCK_C: tl.constexpr,
):
    """Scale and shift that normalise one image."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK_C)
    mask = channel < CHANNELS
    part_ptr += image * parts.count * (2 * CHANNELS)
    mean = joined_mean(part_ptr, parts, channel, CHANNELS, BLOCK_C)
    if GROUP > 1:
        mean = group_mean(mean, channel, CHANNELS, GROUP)
    squares = joined_squares(part_ptr, parts, mean, channel, CHANNELS, BLOCK_C)
    variance = squares / (parts.height * parts.width)
    if GROUP > 1:
        variance = group_mean(variance, channel, CHANNELS, GROUP)
    scale = tl.load(weight_ptr + channel, mask=mask, other=0.0) / tl.sqrt(variance + eps)
    shift = tl.load(bias_ptr + channel, mask=mask, other=0.0) - mean * scale
    tl.store(scale_ptr + image * CHANNELS + channel, scale, mask=mask)
    tl.store(shift_ptr + image * CHANNELS + channel, shift, mask=mask)


@triton.jit
def pixel_moments_kernel(
    x,
    out,
    size,
    CHANNELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """BLOCK_P pixels of one row: mean to the first channel, largest to the second."""
    image, y, column, _, mask = part_of_row(size.height, size.width, 1, BLOCK_P)
    channel = tl.arange(0, BLOCK_C)
    wanted = mask[:, None] & (channel < CHANNELS)[None, :]
    source = row_start(x, image, y) + (column[:, None] * x.pixel_stride + channel[None, :])
    value = tl.load(source, mask=wanted, other=0.0).to(tl.float32)
    mean = tl.sum(value, 1) / CHANNELS
    largest = tl.max(tl.where(wanted, value, float("-inf")), 1)
    target = row_start(out, image, y) + column * out.pixel_stride
    tl.store(target, mean.to(out.ptr.dtype.element_ty), mask=mask)
    tl.store(target + 1, largest.to(out.ptr.dtype.element_ty), mask=mask)


@triton.jit
def pixel_norm_kernel(
    x,
    out,
    scale_ptr,
    shift_ptr,
    size,
    eps,
    CHANNELS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    CENTRED: tl.constexpr,
):
    """BLOCK_P pixels of one row, each normalised over its channels."""
    image, y, column, _, mask = part_of_row(size.height, size.width, 1, BLOCK_P)
    channel = tl.arange(0, BLOCK_C)
    wanted = mask[:, None] & (channel < CHANNELS)[None, :]
    source = row_start(x, image, y) + (column[:, None] * x.pixel_stride + channel[None, :])
    value = tl.load(source, mask=wanted, other=0.0).to(tl.float32)
    if CENTRED:
        away = tl.where(wanted, value - (tl.sum(value, 1) / CHANNELS)[:, None], 0.0)
        size_of = tl.sqrt(tl.sum(away * away, 1) / CHANNELS + eps)
    else:
        away = value
        size_of = tl.sqrt(tl.sum(away * away, 1) / CHANNELS) + eps
    gain = 1.0 / size_of
    scale = tl.load(scale_ptr + channel, mask=channel < CHANNELS, other=0.0)
    shift = tl.load(shift_ptr + channel, mask=channel < CHANNELS, other=0.0)
    result = away * gain[:, None] * scale[None, :] + shift[None, :]
    target = row_start(out, image, y) + (column[:, None] * out.pixel_stride + channel[None, :])
    tl.store(target, result.to(out.ptr.dtype.element_ty), mask=wanted)


class ChannelMoments:
    """Memory and launch for the moments of a canvas's channels, in parts."""

    def __init__(self, x: Canvas) -> None:
        self.x = x
        rows = max(ROWS, -(-x.height // PARTS))
        self.parts = Parts(x.height, x.width, rows, -(-x.height // rows))
        shape = (x.images, self.parts.count, 2, x.channels)
        self.data = torch.empty(shape, dtype=torch.float32, device=x.data.device)

    def launch(self) -> KernelLaunch:
        """Return the launch that computes them."""
        x, block_c = self.x, min(64, triton.next_power_of_2(self.x.channels))
        grid = (x.images * self.parts.count, -(-x.channels // block_c))
        constants = (x.channels, block_c, 2048 // block_c)
        return KernelLaunch(parts_kernel, grid, image_of(x), self.data, self.parts, *constants)

    def result(self) -> Tensor:
        """Memory for a value of each channel of each image."""
        return torch.empty((self.x.images, self.x.channels), dtype=torch.float32, device=self.x.data.device)


def gains_launch(
    x: Canvas,
    squeeze: Tensor,
    squeeze_bias: Tensor,
    expand: Tensor,
    expand_bias: Tensor,
    slope: Tensor,
    contrast: bool = False,
    hard: bool = False,
) -> tuple[InTurn, Tensor]:
    """A function that runs ``gains_reference`` on a canvas, and the [N, C] float32 tensor that it fills."""
    moments = ChannelMoments(x)
    gains, middle = moments.result(), squeeze.shape[0]
    given = (squeeze, squeeze_bias, expand.t(), expand_bias, slope.expand(middle))
    weights = [v.detach().to(x.data.device, torch.float32).contiguous() for v in given]
    constants = (middle, x.channels, triton.next_power_of_2(x.channels), contrast, hard)
    args = (moments.data, *weights, gains, moments.parts, *constants)
    return InTurn(moments.launch(), KernelLaunch(gains_kernel, (x.images,), *args)), gains


def norm_launch(
    x: Canvas, scale: Tensor, shift: Tensor, eps: float, groups: int | None = None
) -> tuple[InTurn, Tensor, Tensor]:
    """A function that runs ``norm_reference`` on a canvas, and the two [N, C] float32 tensors that it fills."""
    moments = ChannelMoments(x)
    scales, shifts = moments.result(), moments.result()
    weights = _vectors(x, scale, shift)
    constants = (x.channels, x.channels // (groups or x.channels), triton.next_power_of_2(x.channels))
    args = (moments.data, *weights, scales, shifts, moments.parts, float(eps), *constants)
    return InTurn(moments.launch(), KernelLaunch(norm_kernel, (x.images,), *args)), scales, shifts


def pixel_moments_launch(x: Canvas, out: Canvas) -> KernelLaunch:
    """A function that runs ``pixel_moments_reference``.

    Raises:
        ValueError: the output is not [N, 2, H, W] of the same dtype and device.
    """
    given = (out.images, out.channels, out.height, out.width, out.data.dtype, out.data.device)
    expected = (x.images, 2, x.height, x.width, x.data.dtype, x.data.device)
    if given != expected:
        raise ValueError(f"the moments of pixels go to {given}, not {expected}")
    block_c = triton.next_power_of_2(x.channels)
    block_p = max(1, 4096 // block_c)
    grid = (x.images * x.height, -(-x.width // block_p))
    args = (image_of(x), image_of(out), Size(x.height, x.width), x.channels, block_c, block_p)
    return KernelLaunch(pixel_moments_kernel, grid, *args)


def pixel_norm_launch(
    x: Canvas, out: Canvas, scale: Tensor, shift: Tensor, eps: float, centred: bool = True
) -> KernelLaunch:
    """A function that runs ``pixel_norm_reference``; ``out`` may be ``x``."""
    check_alike(x, out)
    block_c = triton.next_power_of_2(x.channels)
    block_p = max(1, 4096 // block_c)
    grid = (x.images * x.height, -(-x.width // block_p))
    images = (image_of(x), image_of(out), *_vectors(x, scale, shift))
    args = (*images, Size(x.height, x.width), float(eps), x.channels, block_c, block_p, centred)
    return KernelLaunch(pixel_norm_kernel, grid, *args)


def _vectors(x: Canvas, *given: Tensor) -> list[Tensor]:
    """Values of [1] or [C] as the kernels read them."""
    return [v.detach().to(x.data.device, torch.float32).expand(x.channels).contiguous() for v in given]
