"""Two convolutions in one launch: a residual block, or the last two convolutions of an upsampling tail.

Each program makes one region of the result. It first computes the middle activation of the region and the pixels around
it into its own scratch memory, small enough to stay in the L2 cache, and then convolves that. The middle is rounded as
two launches would round it, and is zero outside the image, where the second convolution pads: the result is the same to
the bit. Twin: ``conv.conv_reference`` twice.
"""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
import triton.language as tl

from srfast.kernels.buffers import Canvas, padded_channels
from srfast.kernels.launch import KernelLaunch
from srfast.kernels.packing import PackedConv
from srfast.kernels.params import Image, Place, Regions, Size, compiled_in, image_of
from srfast.kernels.targets import FrameTarget, Launch
from srfast.kernels.triton.config import PairConfig
from srfast.kernels.triton.conv import check_input, ending, product_of, scalars_of, shape_of, weights_of
from srfast.kernels.triton.tile import accumulate, bias_and_act, convolve


@triton.jit
def middle(
    x,
    weights,
    scratch,
    y0,
    x0,
    size,
    PIXEL: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    SHAPE: tl.constexpr,
    PRODUCT: tl.constexpr,
):
    """act(conv(x) + bias) of ROWS x COLUMNS pixels from (y0, x0) on into ``scratch``; zeros outside the image."""
    block_o: tl.constexpr = SHAPE.block_o
    blocks_o: tl.constexpr = (SHAPE.channels + block_o - 1) // block_o
    for start in range(0, ROWS * COLUMNS, PRODUCT.pixels):
        pixel = start + tl.arange(0, PRODUCT.pixels)
        # The last chunk reaches beyond the region: it repeats the last row, so that its loads stay inside the canvas.
        row = tl.minimum(pixel // COLUMNS, ROWS - 1)
        column = pixel % COLUMNS
        inside = (y0 + row >= 0) & (y0 + row < size.height) & (x0 + column >= 0) & (x0 + column < size.width)
        for block in range(blocks_o):
            w_ptr = weights.ptr + block * (block_o * SHAPE.block_c)
            acc = accumulate(x, w_ptr, row * x.row_stride + column * x.pixel_stride, SHAPE, PRODUCT)
            channel = block * block_o + tl.arange(0, block_o)
            acc = bias_and_act(acc, weights, channel, SHAPE.act)
            # Rounded as a launch of its own would store it, so that two launches and one give the same bits.
            acc = tl.where(inside[:, None], acc, 0.0).to(scratch.dtype.element_ty)
            target = scratch + pixel[:, None] * PIXEL + channel[None, :]
            if SHAPE.channels % block_o == 0:
                tl.store(target, acc)
            else:
                tl.store(target, acc, mask=(channel < SHAPE.channels)[None, :])


@triton.jit
def pair_kernel(
    x,
    weights1,
    weights2,
    scratch_ptr,
    scratch_size,
    residual,
    out,
    regions,
    size,
    scalars,
    PIXEL: tl.constexpr,
    SHAPE1: tl.constexpr,
    PRODUCT1: tl.constexpr,
    SHAPE2: tl.constexpr,
    PRODUCT2: tl.constexpr,
    END: tl.constexpr,
    REGION: tl.constexpr,
):
    """Regions ``program_id, program_id + programs, ...`` of REGION pixels.

    Args:
        x: ``Image`` from the first tap of the first pixel around region 0 on.
        scratch_ptr: room for a region's middle, PIXEL elements a pixel, ``scratch_size`` elements for each program.
        residual, out: from their pixels (0, 0) on.
        regions: ``Regions``, how many there are.
        size: ``Size`` of the input in pixels.
    """
    half: tl.constexpr = SHAPE2.rows // 2
    rows: tl.constexpr = REGION.height + 2 * half
    columns: tl.constexpr = REGION.width + 2 * half
    blocks_o: tl.constexpr = (SHAPE2.channels + SHAPE2.block_o - 1) // SHAPE2.block_o
    # As many programs as run at once, each with several regions: their scratch memory stays in the L2 cache, where
    # the middle of a whole image would not fit.
    scratch = scratch_ptr + tl.program_id(0).to(tl.int64) * scratch_size
    tile = tl.program_id(0)
    while tile < regions.all:
        x0 = (tile % regions.across) * REGION.width
        y0 = ((tile // regions.across) % regions.down) * REGION.height
        image = (tile // (regions.across * regions.down)).to(tl.int64)
        corner = x.ptr + image * x.image_stride + y0.to(tl.int64) * x.row_stride + x0 * x.pixel_stride
        middle(
            Image(corner, x.image_stride, x.row_stride, x.pixel_stride),
            weights1,
            scratch,
            y0 - half,
            x0 - half,
            size,
            PIXEL,
            rows,
            columns,
            SHAPE1,
            PRODUCT1,
        )
        # The whole block's stores to scratch are visible to the whole block from here on.
        tl.debug_barrier()
        for start in range(0, REGION.height * REGION.width, PRODUCT2.pixels):
            pixel = start + tl.arange(0, PRODUCT2.pixels)
            py = pixel // REGION.width
            px = pixel % REGION.width
            for block_o in range(blocks_o):
                convolve(
                    Image(scratch, 0, columns * PIXEL, PIXEL),
                    (py * columns + px) * PIXEL,
                    Place(image, y0, x0, py, px),
                    block_o,
                    weights2,
                    residual,
                    out,
                    scalars,
                    SHAPE2,
                    END,
                    PRODUCT2,
                )
        # Nobody overwrites scratch for the next region before everybody has read it.
        tl.debug_barrier()
        tile += tl.num_programs(0)


def pair_launch(
    x: Canvas,
    first: PackedConv,
    second: PackedConv,
    out: Canvas | FrameTarget,
    config: PairConfig,
    residual: Canvas | None = None,
    programs: int = 264,
) -> Launch:
    """A function that runs ``second(first(x))``, the middle never leaving the cache.

    Args:
        x: with a border for both convolutions together.
        first: bias and activation only.
        residual: of ``second``, as in ``conv_launch``.
        programs: that run at once, each with scratch memory for one region; about two for each multiprocessor.

    Raises:
        ValueError: shapes, dtypes, devices or borders do not fit.
    """
    _check(x, first, second, config)
    target, end = ending(x, second, out, residual)
    down, across = -(-x.height // config.region_h), -(-x.width // config.region_w)
    programs = min(programs, x.images * down * across)
    pixel = padded_channels(first.channels)
    # Zeros: channels that only pad are read and multiplied by zero weights, so they must not hold NaN.
    size_of_scratch = config.scratch_pixels(second.kernel) * pixel + 64
    scratch = torch.zeros((programs, size_of_scratch), dtype=x.data.dtype, device=x.data.device)
    reach = first.half + second.half
    args = (
        image_of(x, -reach, -reach),
        weights_of(first),
        weights_of(second),
        scratch,
        size_of_scratch,
        image_of(x if residual is None else residual),
        target,
        Regions(x.images * down * across, down, across),
        Size(x.height, x.width),
        scalars_of(second),
        pixel,
        shape_of(first),
        product_of(x, first, config, config.chunk),
        shape_of(second),
        product_of(x, second, config, config.chunk),
        end,
        compiled_in(Size(config.region_h, config.region_w)),
    )
    # The stages are for the loops over pixels and regions; the loop over taps has its own.
    return KernelLaunch(pair_kernel, (programs,), *args, num_warps=config.warps, num_stages=1)


def _check(x: Canvas, first: PackedConv, second: PackedConv, config: PairConfig) -> None:
    check_input(x, first, (config.region_h, config.region_w), first.half + second.half)
    if first.shuffle != 1 or first.gain != 1.0 or first.clamp is not None:
        raise ValueError("the first of two fused convolutions has a bias and an activation only")
    if second.in_channels != first.channels or second.pixel_stride:
        raise ValueError(
            f"the second convolution reads {second.in_channels} channels, the first writes {first.channels}"
        )
    if second.weight.dtype != first.weight.dtype or second.weight.device != first.weight.device:
        raise ValueError(f"weights are {first.weight.dtype} and {second.weight.dtype}, or on different devices")
