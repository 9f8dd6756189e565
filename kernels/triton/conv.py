"""The fused convolution in Triton, a tile in each program; its twin in plain torch is ``conv.conv_reference``."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

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
