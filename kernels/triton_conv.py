"""The fused convolution in Triton; its twin in plain torch is ``conv.conv_reference``.

An implicit GEMM over NHWC canvases: pixels of a tile times channels of one tap, taps in a rolled loop for the
pipeliner, sums in float32, then the whole epilogue on the sums. Images of up to 8 channels are read a row of taps at a
time: the taps of a row lie side by side in memory, so they are one long "pixel" of k * 4 or k * 8 elements.
"""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from srfast.kernels.packed_conv import ACTS

_PRELU = tl.constexpr(ACTS["prelu"])
_TANH = tl.constexpr(ACTS["tanh"])
_SIGMOID = tl.constexpr(ACTS["sigmoid"])
_SILU = tl.constexpr(ACTS["silu"])
_GELU = tl.constexpr(ACTS["gelu"])


@triton.jit
def accumulate(
    x_ptr,  # first tap of the tile's first pixel
    w_ptr,  # [KH * KW * BLOCKS_C, O_PAD, BLOCK_C], moved to the tile's first output channel
    offset,  # [P] of each pixel of the tile, in elements
    x_row,  # elements from row to row
    X_PIXEL: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCKS_C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_O: tl.constexpr,
    O_PAD: tl.constexpr,
    PIXELS: tl.constexpr,
    SWAP: tl.constexpr,
    STAGES: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """[PIXELS, BLOCK_O] float32: the convolution.

    SWAP puts the weights on the rows of the matrix product, pixels on its columns.
    UPCAST multiplies in float32: Triton's interpreter cannot multiply bfloat16.
    """
    channel = tl.arange(0, BLOCK_C)
    x_offset = offset[:, None] + channel[None, :]
    w_offset = tl.arange(0, BLOCK_O)[:, None] * BLOCK_C + channel[None, :]
    if SWAP:
        acc = tl.zeros((BLOCK_O, PIXELS), dtype=tl.float32)
    else:
        acc = tl.zeros((PIXELS, BLOCK_O), dtype=tl.float32)
    for step in tl.range(0, KH * KW * BLOCKS_C, num_stages=STAGES):
        tap = step // BLOCKS_C
        x_step = (tap // KW) * x_row + (tap % KW) * X_PIXEL + (step % BLOCKS_C) * BLOCK_C
        x = tl.load(x_ptr + x_step + x_offset)
        w = tl.load(w_ptr + step * (O_PAD * BLOCK_C) + w_offset)
        if UPCAST:
            x = x.to(tl.float32)
            w = w.to(tl.float32)
        if SWAP:
            acc = tl.dot(w, tl.trans(x), acc)
        else:
            acc = tl.dot(x, tl.trans(w), acc)
    if SWAP:
        acc = tl.trans(acc)
    return acc


@triton.jit
def activation(value, slope, ACT: tl.constexpr):
    """``conv.activate`` in float32."""
    if ACT == _PRELU:
        value = tl.where(value > 0, value, value * slope)
    if ACT == _SIGMOID:
        value = 1.0 / (1.0 + tl.exp(-value))
    if ACT == _SILU:
        value = value / (1.0 + tl.exp(-value))
    if ACT == _GELU:
        value = 0.5 * value * (1.0 + tl.erf(value * 0.7071067811865476))
    if ACT == _TANH:
        small = tl.exp(-2.0 * tl.abs(value))
        size = (1.0 - small) / (1.0 + small)
        value = tl.where(value < 0, -size, size)
    return value


@triton.jit
def bias_and_act(acc, bias_ptr, slope_ptr, channel, ACT: tl.constexpr):
    """act(acc + bias) in float32; ``channel`` [BLOCK_O] are the packed output channels."""
    acc += tl.load(bias_ptr + channel)[None, :]
    return activation(acc, tl.load(slope_ptr + channel)[None, :], ACT)


@triton.jit
def limit(acc, low, high):
    """Clamps and lets NaN through, as torch does."""
    acc = tl.maximum(acc, low, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(acc, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def store_integer(acc, out_ptrs, mask, flag_ptr, STEPS: tl.constexpr, PEAK: tl.constexpr, MULTIPLE: tl.constexpr = 1):
    """Stores acc * STEPS rounded to nearest (ties to even) in 0..PEAK, as so many multiples; the flag is set where acc is
    NaN or infinite."""
    bad = mask & ~(tl.abs(acc) <= 3.4028234663852886e38)
    any_bad = tl.max(bad.to(tl.int32))
    tl.atomic_max(flag_ptr, any_bad, mask=any_bad > 0)
    acc = tl.minimum(tl.maximum(acc * STEPS, 0.0), PEAK)
    # Adding 1.5 * 2^23 leaves no bits for a fraction: the addition itself rounds.
    acc = (acc + 12582912.0) - 12582912.0
    tl.store(out_ptrs, (acc.to(tl.int32) * MULTIPLE).to(out_ptrs.dtype.element_ty), mask=mask)


@triton.jit
def epilogue(
    acc,  # [PIXELS, BLOCK_O] float32
    y0,
    x0,
    py,  # [PIXELS] row and column in the tile
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
    R_PIXEL: tl.constexpr,
    O_PIXEL: tl.constexpr,
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
):
    """Everything after the sums, and the store; output channels in the order of ``packed_conv``."""
    packed = block_o * BLOCK_O + tl.arange(0, BLOCK_O)
    acc = bias_and_act(acc, bias_ptr, slope_ptr, packed, ACT)
    if GAIN:
        acc *= gain
    plane: tl.constexpr = CHANNELS // (SHUFFLE * SHUFFLE)
    if SHUFFLE == 1:
        channel = packed[None, :]
        down = py[:, None]
        across = px[:, None]
    elif plane % BLOCK_O == 0:
        # The block lies in one phase: its channels are neighbours in memory.
        phase = (block_o * BLOCK_O) // plane
        channel = (packed - phase * plane)[None, :]
        down = py[:, None] * SHUFFLE + phase // SHUFFLE
        across = px[:, None] * SHUFFLE + phase % SHUFFLE
    else:
        phase = packed // plane
        channel = (packed % plane)[None, :]
        down = py[:, None] * SHUFFLE + (phase // SHUFFLE)[None, :]
        across = px[:, None] * SHUFFLE + (phase % SHUFFLE)[None, :]
    y = y0 * SHUFFLE + down
    x = x0 * SHUFFLE + across
    mask = (y < o_height) & (x < o_width)
    if CHANNELS % BLOCK_O != 0:
        mask = mask & (packed < CHANNELS)[None, :]
    if RES_UP == 1:
        base = image * r_image + (y0 * SHUFFLE).to(tl.int64) * r_row + x0 * (SHUFFLE * R_PIXEL)
        acc += tl.load(res_ptr + base + (down * r_row + across * R_PIXEL + channel), mask=mask, other=0.0).to(
            tl.float32
        )
    if RES_UP > 1:
        # The residual is enlarged by nearest neighbour on the way.
        offset = (y // RES_UP) * r_row + (x // RES_UP) * R_PIXEL + channel
        acc += tl.load(res_ptr + image * r_image + offset, mask=mask, other=0.0).to(tl.float32)
    if CLAMP:
        acc = limit(acc, low, high)
    if OUT_REVERSE:
        channel = plane - 1 - channel
    base = image * o_image + (y0 * SHUFFLE).to(tl.int64) * o_row + x0 * (SHUFFLE * O_PIXEL)
    out_ptrs = out_ptr + base + (down * o_row + across * O_PIXEL + channel)
    if OUT_PEAK > 0:
        store_integer(acc, out_ptrs, tl.broadcast_to(mask, acc.shape), flag_ptr, OUT_STEPS, OUT_PEAK)
    else:
        tl.store(out_ptrs, acc.to(out_ptr.dtype.element_ty), mask=mask)


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
    x_base = x_ptr + image * x_image + y0.to(tl.int64) * x_row + x0 * X_PIXEL
    w_base = w_ptr + block_o * (BLOCK_O * BLOCK_C)
    acc = accumulate(
        x_base,
        w_base,
        py * x_row + px * X_PIXEL,
        x_row,
        X_PIXEL,
        KH,
        KW,
        BLOCKS_C,
        BLOCK_C,
        BLOCK_O,
        blocks_o * BLOCK_O,
        pixels,
        SWAP,
        STAGES,
        UPCAST,
    )
    epilogue(
        acc,
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
        R_PIXEL,
        O_PIXEL,
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
    )
