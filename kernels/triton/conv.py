"""The fused convolution in Triton, a tile in each program, and its checked launch: everything is checked once, then a
launch only launches. Its twin in plain torch is ``srfast.kernels.reference.conv_reference``.
"""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime import JITFunction

from srfast.kernels import gluon
from srfast.kernels.buffers import Canvas
from srfast.kernels.packing import PackedConv
from srfast.kernels.targets import FrameTarget, Launch, check_canvas, check_frames, enlargement
from srfast.kernels.triton.config import Config
from srfast.kernels.triton.tile import convolve


@triton.jit
def conv_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    slope_ptr,
    res_ptr,
    out_ptr,
    flag_ptr,
    x_image,
    x_row,
    r_image,
    r_row,
    o_image,
    o_row,
    tiles_y,
    tiles_x,
    o_height,
    o_width,
    gain,
    low,
    high,
    X_PIXEL: tl.constexpr,
    R_PIXEL: tl.constexpr,
    O_PIXEL: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCKS_C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_O: tl.constexpr,
    ACT: tl.constexpr,
    SHUFFLE: tl.constexpr,
    GAIN: tl.constexpr,
    RES_UP: tl.constexpr,
    CLAMP: tl.constexpr,
    OUT_PEAK: tl.constexpr,
    OUT_STEPS: tl.constexpr,
    OUT_REVERSE: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    SWAP: tl.constexpr,
    STAGES: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """One tile of TILE_H x TILE_W pixels and BLOCK_O output channels."""
    blocks_o: tl.constexpr = (CHANNELS + BLOCK_O - 1) // BLOCK_O
    pixels: tl.constexpr = TILE_H * TILE_W
    pid = tl.program_id(0)
    block_o = pid % blocks_o
    tile = pid // blocks_o
    x0 = (tile % tiles_x) * TILE_W
    tile = tile // tiles_x
    y0 = (tile % tiles_y) * TILE_H
    image = (tile // tiles_y).to(tl.int64)
    pixel = tl.arange(0, pixels)
    py = pixel // TILE_W
    px = pixel % TILE_W
    convolve(
        x_ptr + image * x_image + y0.to(tl.int64) * x_row + x0 * X_PIXEL,
        w_ptr,
        py * x_row + px * X_PIXEL,
        x_row,
        y0,
        x0,
        py,
        px,
        block_o,
        image,
        bias_ptr,
        slope_ptr,
        res_ptr,
        out_ptr,
        flag_ptr,
        r_image,
        r_row,
        o_image,
        o_row,
        o_height,
        o_width,
        gain,
        low,
        high,
        X_PIXEL,
        R_PIXEL,
        O_PIXEL,
        KH,
        KW,
        BLOCKS_C,
        BLOCK_C,
        CHANNELS,
        BLOCK_O,
        ACT,
        SHUFFLE,
        GAIN,
        RES_UP,
        CLAMP,
        OUT_PEAK,
        OUT_STEPS,
        OUT_REVERSE,
        pixels,
        SWAP,
        STAGES,
        UPCAST,
    )


# Kernels are plain Python functions under TRITON_INTERPRET=1.
INTERPRETED = not isinstance(conv_kernel, JITFunction)


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
    if config.gluon and gluon.unavailable_reason() is None:
        from srfast.kernels.gluon import conv as gluon_conv

        if isinstance(out, Canvas) and gluon_conv.fits(x, conv, out, residual):
            return gluon_conv.row_launch(x, conv, out, residual)
    height, width = x.height * conv.shuffle, x.width * conv.shuffle
    size = (height, width)
    if isinstance(out, Canvas):
        target = canvas_target(out, x, conv.planes, size)
    else:
        target = frame_target(out, x, conv.planes, size)
    up = 0 if residual is None else enlargement(residual, x, conv.planes, size)
    res = x if residual is None else residual
    low, high = conv.clamp or (0.0, 0.0)
    tiles_y, tiles_x = -(-x.height // config.tile_h), -(-x.width // config.tile_w)
    blocks_o = -(-conv.channels // conv.block_o)
    args = (
        x.at(-conv.half, -conv.half),
        conv.weight,
        conv.bias,
        conv.slope,
        res.at(0, 0),
        target.data,
        target.flag,
        x.image,
        x.row,
        res.image,
        res.row,
        target.image,
        target.row,
        tiles_y,
        tiles_x,
        height,
        width,
        float(conv.gain),
        float(low),
        float(high),
    )
    constants: dict[str, Any] = {
        "X_PIXEL": x.pixel,
        "R_PIXEL": res.pixel,
        "O_PIXEL": target.pixel,
        "KH": conv.kernel,
        "KW": conv.columns,
        "BLOCKS_C": conv.blocks_c,
        "BLOCK_C": conv.block_c,
        "CHANNELS": conv.channels,
        "BLOCK_O": conv.block_o,
        "ACT": conv.act,
        "SHUFFLE": conv.shuffle,
        "GAIN": conv.gain != 1.0,
        "RES_UP": up,
        "CLAMP": conv.clamp is not None,
        "OUT_PEAK": target.peak,
        "OUT_STEPS": target.steps,
        "OUT_REVERSE": target.reverse,
        "TILE_H": config.tile_h,
        "TILE_W": config.tile_w,
        "SWAP": swapped(config.swap, conv),
        "STAGES": config.stages,
        "UPCAST": INTERPRETED and x.data.dtype == torch.bfloat16,
        "num_warps": config.warps,
        # The sums are matrix instructions: contracting the epilogue gains nothing and may differ between kernels.
        "enable_fp_fusion": False,
    }
    grid = (x.images * tiles_y * tiles_x * blocks_o,)
    bound: Any = conv_kernel
    return lambda: bound[grid](*args, **constants)


@dataclass(frozen=True)
class Target:
    """Where a kernel stores: memory, strides in elements, peak (0: floating), integer steps per unit, channel order."""

    data: Tensor
    flag: Tensor
    image: int
    row: int
    pixel: int
    peak: int
    steps: float
    reverse: bool = False


def check_input(x: Canvas, conv: PackedConv, tile: tuple[int, int], reach: int) -> None:
    """Raises ValueError unless ``conv`` can read ``x`` in such tiles with ``reach`` pixels around them."""
    if x.channels != conv.in_channels or (conv.pixel and x.pixel != conv.pixel):
        raise ValueError(
            f"the convolution reads {conv.in_channels} channels (pixels of {conv.pixel or 'any'} elements), "
            f"the canvas has {x.channels} (of {x.pixel})"
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


def canvas_target(out: Canvas, x: Canvas, channels: int, size: tuple[int, int]) -> Target:
    """Return the whole of a canvas, checked."""
    check_canvas(out, x, channels, size)
    return Target(out.at(0, 0), out.data, out.image, out.row, out.pixel, 0, 1.0)


def frame_target(out: FrameTarget, x: Canvas, channels: int, size: tuple[int, int]) -> Target:
    """Return frames of the result's size, checked."""
    check_frames(out, x, channels, size)
    frame, peak = out.frame, out.peak
    return Target(
        frame, out.flag, frame.stride(0), frame.stride(1), frame.stride(2), peak, peak / out.white, out.reverse
    )


def swapped(wanted: bool, conv: PackedConv) -> bool:
    """Weights go on the rows of the product only where they fill the 64 rows of Hopper's matrix instructions."""
    return wanted and conv.block_o >= 64
