"""The parts of a convolution in Triton: the sums over taps, the epilogue on them, and the stores.

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

from srfast.kernels.triton.values import activation, limit, store_integer


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
def bias_and_act(acc, bias_ptr, slope_ptr, channel, ACT: tl.constexpr):
    """act(acc + bias) in float32; ``channel`` [BLOCK_O] are the packed output channels."""
    acc += tl.load(bias_ptr + channel)[None, :]
    return activation(acc, tl.load(slope_ptr + channel)[None, :], ACT)


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
def convolve(
    x_ptr,  # first tap of the pixels whose offset is 0
    w_ptr,  # all weights
    offset,
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
    PIXELS: tl.constexpr,
    SWAP: tl.constexpr,
    STAGES: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """The whole convolution of PIXELS pixels and a block of output channels: ``accumulate``, then ``epilogue``."""
    blocks_o: tl.constexpr = (CHANNELS + BLOCK_O - 1) // BLOCK_O
    acc = accumulate(
        x_ptr,
        w_ptr + block_o * (BLOCK_O * BLOCK_C),
        offset,
        x_row,
        X_PIXEL,
        KH,
        KW,
        BLOCKS_C,
        BLOCK_C,
        BLOCK_O,
        blocks_o * BLOCK_O,
        PIXELS,
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
