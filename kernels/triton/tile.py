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
def accumulate(x, w_ptr, offset, SHAPE: tl.constexpr, PRODUCT: tl.constexpr):
    """[PRODUCT.pixels, SHAPE.block_o] float32: the convolution's sums.

    Args:
        x: ``Image`` from the first tap of the pixels whose offset is 0 on.
        w_ptr: weights, moved to the first output channel.
        offset: [pixels] of each pixel in elements.
    """
    block_o: tl.constexpr = SHAPE.block_o
    block_c: tl.constexpr = SHAPE.block_c
    padded_o: tl.constexpr = (SHAPE.channels + block_o - 1) // block_o * block_o
    channel = tl.arange(0, block_c)
    x_offset = offset[:, None] + channel[None, :]
    w_offset = tl.arange(0, block_o)[:, None] * block_c + channel[None, :]
    # Hopper's wgmma multiplies 64 rows at a time but takes any multiple of 8 as columns: with the weights on the rows
    # ("swapped") a small tile of pixels fills the instruction, where pixels on the rows would leave rows empty.
    if PRODUCT.swap:
        acc = tl.zeros((block_o, PRODUCT.pixels), dtype=tl.float32)
    else:
        acc = tl.zeros((PRODUCT.pixels, block_o), dtype=tl.float32)
    # One rolled loop over taps and blocks of channels, instead of three nested ones: Triton's pipeliner turns the loads
    # of a single loop into asynchronous copies, ``stages`` steps ahead.
    for step in tl.range(0, SHAPE.rows * SHAPE.columns * SHAPE.blocks_c, num_stages=PRODUCT.stages):
        tap = step // SHAPE.blocks_c
        x_step = (
            (tap // SHAPE.columns) * x.row_stride
            + (tap % SHAPE.columns) * x.pixel_stride
            + (step % SHAPE.blocks_c) * block_c
        )
        # No masks: the canvas has a border of zeros, and room where a tile overhangs the image.
        pixels = tl.load(x.ptr + x_step + x_offset)
        w = tl.load(w_ptr + step * (padded_o * block_c) + w_offset)
        if PRODUCT.upcast:
            pixels = pixels.to(tl.float32)
            w = w.to(tl.float32)
        if PRODUCT.swap:
            acc = tl.dot(w, tl.trans(pixels), acc)
        else:
            acc = tl.dot(pixels, tl.trans(w), acc)
    if PRODUCT.swap:
        acc = tl.trans(acc)
    return acc


@triton.jit
def bias_and_act(acc, weights, channel, ACT: tl.constexpr):
    """act(acc + bias) in float32; ``channel`` [block_o] are the packed output channels."""
    acc += tl.load(weights.bias + channel)[None, :]
    return activation(acc, tl.load(weights.slope + channel)[None, :], ACT)


@triton.jit
def epilogue(acc, place, block_o, weights, residual, out, scalars, SHAPE: tl.constexpr, END: tl.constexpr):
    """Everything after the sums, and the store.

    Output channels are in the order of ``packing.phase_order``: all of one phase of the pixel shuffle side by side, so
    that a shuffled result is still stored in whole pixels.

    Args:
        acc: [pixels, SHAPE.block_o] float32.
        place: ``Place`` of the pixels, before the shuffle.
        block_o: which block of output channels.
        residual: ``Image`` from its pixel (0, 0) on.
        out: ``Result`` from its pixel (0, 0) on.
    """
    shuffle: tl.constexpr = END.shuffle
    packed = block_o * SHAPE.block_o + tl.arange(0, SHAPE.block_o)
    acc = bias_and_act(acc, weights, packed, SHAPE.act)
    if END.gain:
        acc *= scalars.gain
    plane: tl.constexpr = SHAPE.channels // (shuffle * shuffle)
    if shuffle == 1:
        channel = packed[None, :]
        down = place.down[:, None]
        across = place.across[:, None]
    elif plane % SHAPE.block_o == 0:
        # The block lies in one phase: its channels are neighbours in memory.
        phase = (block_o * SHAPE.block_o) // plane
        channel = (packed - phase * plane)[None, :]
        down = place.down[:, None] * shuffle + phase // shuffle
        across = place.across[:, None] * shuffle + phase % shuffle
    else:
        phase = packed // plane
        channel = (packed % plane)[None, :]
        down = place.down[:, None] * shuffle + (phase // shuffle)[None, :]
        across = place.across[:, None] * shuffle + (phase % shuffle)[None, :]
    y = place.y * shuffle + down
    x = place.x * shuffle + across
    mask = (y < out.height) & (x < out.width)
    if SHAPE.channels % SHAPE.block_o != 0:
        mask = mask & (packed < SHAPE.channels)[None, :]
    # Only the tile's corner is 64-bit: offsets inside a tile are small, and 64-bit ones cost two registers each.
    if END.residual == 1:
        base = (
            place.image * residual.image_stride
            + (place.y * shuffle).to(tl.int64) * residual.row_stride
            + place.x * (shuffle * residual.pixel_stride)
        )
        offset = down * residual.row_stride + across * residual.pixel_stride + channel
        acc += tl.load(residual.ptr + base + offset, mask=mask, other=0.0).to(tl.float32)
    if END.residual > 1:
        # The residual is enlarged by nearest neighbour on the way.
        offset = (y // END.residual) * residual.row_stride + (x // END.residual) * residual.pixel_stride + channel
        base = place.image * residual.image_stride
        acc += tl.load(residual.ptr + base + offset, mask=mask, other=0.0).to(tl.float32)
    if END.clamp:
        acc = limit(acc, scalars.low, scalars.high)
    if END.reverse:
        channel = plane - 1 - channel
    base = (
        place.image * out.image_stride
        + (place.y * shuffle).to(tl.int64) * out.row_stride
        + place.x * (shuffle * out.pixel_stride)
    )
    out_ptrs = out.ptr + base + (down * out.row_stride + across * out.pixel_stride + channel)
    if END.peak > 0:
        store_integer(acc, out_ptrs, tl.broadcast_to(mask, acc.shape), out.flag, END.steps, END.peak)
    else:
        tl.store(out_ptrs, acc.to(out.ptr.dtype.element_ty), mask=mask)


@triton.jit
def convolve(
    x,
    offset,
    place,
    block_o,
    weights,
    residual,
    out,
    scalars,
    SHAPE: tl.constexpr,
    END: tl.constexpr,
    PRODUCT: tl.constexpr,
):
    """The whole convolution of some pixels and a block of output channels: ``accumulate``, then ``epilogue``."""
    w_ptr = weights.ptr + block_o * (SHAPE.block_o * SHAPE.block_c)
    acc = accumulate(x, w_ptr, offset, SHAPE, PRODUCT)
    epilogue(acc, place, block_o, weights, residual, out, scalars, SHAPE, END)
