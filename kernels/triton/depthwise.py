"""Depthwise convolution: every channel with a kernel of its own; the twin is ``kernels.reference.depthwise_reference``.

Neighbouring threads have neighbouring channels of one pixel. A value is read once for each tap, from the first-level cache but
for the first time: there is nothing to multiply as matrices.
"""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.launch import KernelLaunch
from srfast.kernels.packing import ACTS
from srfast.kernels.params import Size, image_of
from srfast.kernels.triton.config import DepthwiseConfig
from srfast.kernels.triton.pointwise import check_alike
from srfast.kernels.triton.values import activation, part_of_row, row_start


@triton.jit
def depthwise_kernel(
    x,
    out,
    weight_ptr,  # [KERNEL, KERNEL, CHANNELS] float32
    bias_ptr,  # [CHANNELS] float32
    slope_ptr,  # [CHANNELS] float32
    size,
    CHANNELS: tl.constexpr,
    KERNEL: tl.constexpr,
    ACT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one row. What lies beyond the image counts as 0 and is not read."""
    image, y, column, channel, mask = part_of_row(size.height, size.width, CHANNELS, BLOCK)
    total = tl.load(bias_ptr + channel)
    for i in range(KERNEL):
        row = y + (i - KERNEL // 2)
        rows = row + tl.zeros_like(column)  # as a block, for a mask of blocks alone
        inside = mask & (rows >= 0) & (rows < size.height)
        source = row_start(x, image, row) + channel
        for j in tl.static_range(KERNEL):
            at = column + (j - KERNEL // 2)
            value = tl.load(source + at * x.pixel_stride, mask=inside & (at >= 0) & (at < size.width), other=0.0)
            total += value.to(tl.float32) * tl.load(weight_ptr + (i * KERNEL + j) * CHANNELS + channel)
    total = activation(total, tl.load(slope_ptr + channel), ACT)
    target = row_start(out, image, y) + (column * out.pixel_stride + channel)
    tl.store(target, total.to(out.ptr.dtype.element_ty), mask=mask)


def depthwise_launch(
    x: Canvas,
    out: Canvas,
    weight: Tensor,  # [C, 1, k, k]
    bias: Tensor,  # [C]
    config: DepthwiseConfig,
    *,
    act: str = "none",
    slope: Tensor | None = None,  # [1] or [C]
) -> KernelLaunch:
    """A function that runs ``depthwise_reference``, with sums in float32; ``out`` is other memory than ``x``.

    Raises:
        ValueError: canvases that differ or are one, or weights that do not fit them.
    """
    check_alike(x, out)
    if x.data.data_ptr() == out.data.data_ptr():
        raise ValueError("a depthwise convolution reads neighbours, so its result goes to other memory")
    kernel, channels = weight.shape[-1], x.channels
    slopes = bias.new_zeros(1) if slope is None else slope
    if list(weight.shape) != [channels, 1, kernel, kernel] or kernel % 2 == 0 or bias.shape != (channels,):
        raise ValueError(f"weight {list(weight.shape)} and bias {list(bias.shape)} on {channels} channels")
    if slopes.shape not in ((1,), (channels,)):
        raise ValueError(f"{list(slopes.shape)} slopes for {channels} channels")
    given = (weight[:, 0].permute(1, 2, 0), bias, slopes.expand(channels))
    weights = [v.detach().to(x.data.device).float().contiguous() for v in given]
    args = (image_of(x), image_of(out), *weights, Size(x.height, x.width), channels, kernel, ACTS[act], config.block)
    grid = (x.images * x.height, -(-x.width * channels // config.block))
    return KernelLaunch(depthwise_kernel, grid, *args, num_warps=config.warps)
