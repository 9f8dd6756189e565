"""The fused convolution in Triton, a tile in each program, and its checked launch: everything is checked once, then a
launch only launches. Its twin in plain torch is ``srfast.kernels.reference.conv_reference``.
"""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
import triton.language as tl

from srfast.kernels import gluon
from srfast.kernels.buffers import Canvas
from srfast.kernels.launch import KernelLaunch
from srfast.kernels.packing import PackedConv
from srfast.kernels.params import (
    INTERPRETED,
    Ending,
    Image,
    Place,
    Product,
    Result,
    Scalars,
    Shape,
    Weights,
    compiled_in,
    fixed,
    image_of,
)
from srfast.kernels.targets import FrameTarget, Launch, check_canvas, check_frames, enlargement
from srfast.kernels.triton.config import Config, PairConfig
from srfast.kernels.triton.tile import convolve


@triton.jit
def conv_kernel(
    x,
    weights,
    residual,
    out,
    tiles_y,
    tiles_x,
    scalars,
    SHAPE: tl.constexpr,
    END: tl.constexpr,
    PRODUCT: tl.constexpr,
    TILE_W: tl.constexpr,
):
    """One tile of PRODUCT.pixels pixels, TILE_W wide, and a block of output channels.

    Args:
        x: ``Image`` from the first tap of pixel (0, 0) on.
        residual, out: from their pixels (0, 0) on.
    """
    blocks_o: tl.constexpr = (SHAPE.channels + SHAPE.block_o - 1) // SHAPE.block_o
    tile_h: tl.constexpr = PRODUCT.pixels // TILE_W
    # Programs that share a tile's pixels follow one another, so that they find them in the L2 cache.
    pid = tl.program_id(0)
    block_o = pid % blocks_o
    tile = pid // blocks_o
    x0 = (tile % tiles_x) * TILE_W
    tile = tile // tiles_x
    y0 = (tile % tiles_y) * tile_h
    image = (tile // tiles_y).to(tl.int64)
    pixel = tl.arange(0, PRODUCT.pixels)
    py = pixel // TILE_W
    px = pixel % TILE_W
    # 64 bits for the image and the row, 32 within the tile: addresses stay cheap where there are many of them.
    corner = x.ptr + image * x.image_stride + y0.to(tl.int64) * x.row_stride + x0 * x.pixel_stride
    convolve(
        Image(corner, x.image_stride, x.row_stride, x.pixel_stride),
        py * x.row_stride + px * x.pixel_stride,
        Place(image, y0, x0, py, px),
        block_o,
        weights,
        residual,
        out,
        scalars,
        SHAPE,
        END,
        PRODUCT,
    )


def conv_launch(
    x: Canvas, conv: PackedConv, out: Canvas | FrameTarget, config: Config, residual: Canvas | None = None
) -> Launch:
    """A function that runs ``conv.conv_reference`` on canvases, with sums and epilogue in float32.

    Args:
        x: input; memory beside its channels must be finite (it is multiplied by zeros).
        out: of the same dtype as ``x``, or frames that the last convolution writes directly.
        residual: of the output's size, or smaller by a whole factor: then enlarged by nearest neighbour on the way.

    Raises:
        ValueError: shapes, dtypes, devices or borders do not fit.
    """
    check_input(x, conv, config.tile, conv.half)
    # Gluon kernels are compiled, never interpreted, and newer Tritons rename what they use: without them Triton's own runs.
    if config.gluon and not INTERPRETED and gluon.unavailable_reason() is None:
        from srfast.kernels.gluon import conv as gluon_conv

        if isinstance(out, Canvas) and gluon_conv.fits(x, conv, out, residual):
            return gluon_conv.row_launch(x, conv, out, residual, config.rows)
    target, end = ending(x, conv, out, residual)
    tiles_y, tiles_x = -(-x.height // config.tile_h), -(-x.width // config.tile_w)
    blocks_o = -(-conv.channels // conv.block_o)
    # All along one axis: the others of a grid end at 65,535.
    grid = (x.images * tiles_y * tiles_x * blocks_o,)
    args = (
        image_of(x, -conv.half, -conv.half),
        weights_of(conv),
        image_of(x if residual is None else residual),
        target,
        tiles_y,
        tiles_x,
        scalars_of(conv),
        shape_of(conv),
        end,
        product_of(x, conv, config, config.tile_h * config.tile_w),
        config.tile_w,
    )
    return KernelLaunch(conv_kernel, grid, *args, num_warps=config.warps)


def weights_of(conv: PackedConv) -> Weights:
    """Return a convolution's memory as a kernel takes it."""
    return Weights(conv.weight, conv.bias, conv.slope)


def scalars_of(conv: PackedConv) -> Scalars:
    """Return a convolution's gain and limits as a kernel takes them."""
    return Scalars(float(conv.gain), *map(float, conv.clamp or (0.0, 0.0)))


def shape_of(conv: PackedConv) -> Shape:
    """Return what a kernel is compiled for of a convolution's weights and activation."""
    return compiled_in(
        Shape(conv.kernel, conv.columns, conv.blocks_c, conv.block_c, conv.channels, conv.block_o, conv.act)
    )


def product_of(x: Canvas, conv: PackedConv, config: Config | PairConfig, pixels: int) -> Product:
    """Return how a kernel makes the sums of so many pixels."""
    # Weights go on the rows of the product only where they fill the 64 rows of Hopper's matrix instructions.
    swap = config.swap and conv.block_o >= 64
    return compiled_in(Product(pixels, swap, config.stages, INTERPRETED and x.data.dtype == torch.bfloat16))


def ending(x: Canvas, conv: PackedConv, out: Canvas | FrameTarget, residual: Canvas | None) -> tuple[Result, Ending]:
    """Return where a convolution of ``x`` stores and how it ends, checked.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
    """
    size = (x.height * conv.shuffle, x.width * conv.shuffle)
    peak, steps, reverse = 0, 1.0, False
    if isinstance(out, Canvas):
        check_canvas(out, x, conv.planes, size)
        place, flag = image_of(out), out.data
    else:
        check_frames(out, x, conv.planes, size)
        frame = out.frame
        place, flag = Image(frame, frame.stride(0), frame.stride(1), fixed(frame.stride(2))), out.flag
        peak, steps, reverse = out.peak, out.peak / out.white, out.reverse
    # A missing residual is compiled away; its parameter then names some memory that nobody reads.
    up = 0 if residual is None else enlargement(residual, x, conv.planes, size)
    end = Ending(conv.shuffle, conv.gain != 1.0, up, conv.clamp is not None, peak, steps, reverse)
    return Result(*place[:4], flag, *size), compiled_in(end)


def check_input(x: Canvas, conv: PackedConv, tile: tuple[int, int], reach: int) -> None:
    """Raises ValueError unless ``conv`` can read ``x`` in such tiles with ``reach`` pixels around them."""
    if x.channels != conv.in_channels or (conv.pixel_stride and x.pixel_stride != conv.pixel_stride):
        raise ValueError(
            f"the convolution reads {conv.in_channels} channels (pixels of {conv.pixel_stride or 'any'} elements), "
            f"the canvas has {x.channels} (of {x.pixel_stride})"
        )
    if not x.overhang(tile, reach):
        raise ValueError(
            f"a canvas of {list(x.data.shape)} with border {x.border} for {x.height}x{x.width} pixels has no room for "
            f"tiles of {tile[0]}x{tile[1]} with {reach} pixels around them"
        )
    if x.data.dtype != conv.weight.dtype or x.data.device != conv.weight.device:
        raise ValueError(
            f"weights are {conv.weight.dtype} on {conv.weight.device}, the input {x.data.dtype} on {x.data.device}"
        )
