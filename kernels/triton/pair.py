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

from typing import Any

import torch
import triton
import triton.language as tl

from srfast.kernels.buffers import Canvas, padded_channels
from srfast.kernels.packing import PackedConv
from srfast.kernels.targets import FrameTarget, Launch, enlargement
from srfast.kernels.triton.config import PairConfig
from srfast.kernels.triton.conv import INTERPRETED, canvas_target, check_input, frame_target, swapped
from srfast.kernels.triton.tile import accumulate, bias_and_act, convolve


@triton.jit
def middle(
    x_ptr,
    w_ptr,
    bias_ptr,
    slope_ptr,
    scratch,
    y0,
    x0,
    x_row,
    height,
    width,
    X_PIXEL: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    BLOCKS_C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_O: tl.constexpr,
    PIXEL: tl.constexpr,
    ACT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    CHUNK: tl.constexpr,
    SWAP: tl.constexpr,
    STAGES: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """act(conv(x) + bias) of ROWS x COLUMNS pixels from (y0, x0) on into ``scratch``; zeros outside the image."""
    blocks_o: tl.constexpr = (CHANNELS + BLOCK_O - 1) // BLOCK_O
    for start in range(0, ROWS * COLUMNS, CHUNK):
        pixel = start + tl.arange(0, CHUNK)
        row = tl.minimum(pixel // COLUMNS, ROWS - 1)
        column = pixel % COLUMNS
        inside = (y0 + row >= 0) & (y0 + row < height) & (x0 + column >= 0) & (x0 + column < width)
        for block_o in range(blocks_o):
            acc = accumulate(
                x_ptr,
                w_ptr + block_o * (BLOCK_O * BLOCK_C),
                row * x_row + column * X_PIXEL,
                x_row,
                X_PIXEL,
                KH,
                KW,
                BLOCKS_C,
                BLOCK_C,
                BLOCK_O,
                blocks_o * BLOCK_O,
                CHUNK,
                SWAP,
                STAGES,
                UPCAST,
            )
            channel = block_o * BLOCK_O + tl.arange(0, BLOCK_O)
            acc = bias_and_act(acc, bias_ptr, slope_ptr, channel, ACT)
            acc = tl.where(inside[:, None], acc, 0.0).to(scratch.dtype.element_ty)
            target = scratch + pixel[:, None] * PIXEL + channel[None, :]
            if CHANNELS % BLOCK_O == 0:
                tl.store(target, acc)
            else:
                tl.store(target, acc, mask=(channel < CHANNELS)[None, :])


@triton.jit
def pair_kernel(
    x_ptr,
    w1_ptr,
    bias1_ptr,
    slope1_ptr,
    w2_ptr,
    bias2_ptr,
    slope2_ptr,
    scratch_ptr,
    res_ptr,
    out_ptr,
    flag_ptr,
    x_image,
    x_row,
    scratch_size,
    r_image,
    r_row,
    o_image,
    o_row,
    tiles,
    tiles_y,
    tiles_x,
    height,
    width,
    o_height,
    o_width,
    gain,
    low,
    high,
    X_PIXEL: tl.constexpr,
    R_PIXEL: tl.constexpr,
    O_PIXEL: tl.constexpr,
    M_PIXEL: tl.constexpr,
    KH1: tl.constexpr,
    KW1: tl.constexpr,
    BLOCKS_C1: tl.constexpr,
    BLOCK_C1: tl.constexpr,
    MIDDLE: tl.constexpr,
    BLOCK_O1: tl.constexpr,
    ACT1: tl.constexpr,
    K2: tl.constexpr,
    BLOCKS_C2: tl.constexpr,
    BLOCK_C2: tl.constexpr,
    CHANNELS: tl.constexpr,
    BLOCK_O2: tl.constexpr,
    ACT2: tl.constexpr,
    SHUFFLE: tl.constexpr,
    GAIN: tl.constexpr,
    RES_UP: tl.constexpr,
    CLAMP: tl.constexpr,
    OUT_PEAK: tl.constexpr,
    OUT_STEPS: tl.constexpr,
    OUT_REVERSE: tl.constexpr,
    REGION_H: tl.constexpr,
    REGION_W: tl.constexpr,
    CHUNK: tl.constexpr,
    SWAP1: tl.constexpr,
    SWAP2: tl.constexpr,
    STAGES: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Regions ``program_id, program_id + programs, ...``; x_ptr is the first tap of the first pixel around region 0."""
    half: tl.constexpr = K2 // 2
    rows: tl.constexpr = REGION_H + 2 * half
    columns: tl.constexpr = REGION_W + 2 * half
    blocks_o: tl.constexpr = (CHANNELS + BLOCK_O2 - 1) // BLOCK_O2
    scratch = scratch_ptr + tl.program_id(0).to(tl.int64) * scratch_size
    tile = tl.program_id(0)
    while tile < tiles:
        x0 = (tile % tiles_x) * REGION_W
        y0 = ((tile // tiles_x) % tiles_y) * REGION_H
        image = (tile // (tiles_x * tiles_y)).to(tl.int64)
        middle(
            x_ptr + image * x_image + y0.to(tl.int64) * x_row + x0 * X_PIXEL,
            w1_ptr,
            bias1_ptr,
            slope1_ptr,
            scratch,
            y0 - half,
            x0 - half,
            x_row,
            height,
            width,
            X_PIXEL,
            KH1,
            KW1,
            BLOCKS_C1,
            BLOCK_C1,
            MIDDLE,
            BLOCK_O1,
            M_PIXEL,
            ACT1,
            rows,
            columns,
            CHUNK,
            SWAP1,
            STAGES,
            UPCAST,
        )
        # The whole block's stores to scratch are visible to the whole block from here on.
        tl.debug_barrier()
        for start in range(0, REGION_H * REGION_W, CHUNK):
            pixel = start + tl.arange(0, CHUNK)
            py = pixel // REGION_W
            px = pixel % REGION_W
            for block_o in range(blocks_o):
                convolve(
                    scratch,
                    w2_ptr,
                    (py * columns + px) * M_PIXEL,
                    columns * M_PIXEL,
                    y0,
                    x0,
                    py,
                    px,
                    block_o,
                    image,
                    bias2_ptr,
                    slope2_ptr,
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
                    M_PIXEL,
                    R_PIXEL,
                    O_PIXEL,
                    K2,
                    K2,
                    BLOCKS_C2,
                    BLOCK_C2,
                    CHANNELS,
                    BLOCK_O2,
                    ACT2,
                    SHUFFLE,
                    GAIN,
                    RES_UP,
                    CLAMP,
                    OUT_PEAK,
                    OUT_STEPS,
                    OUT_REVERSE,
                    CHUNK,
                    SWAP2,
                    STAGES,
                    UPCAST,
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
    size = (x.height * second.shuffle, x.width * second.shuffle)
    if isinstance(out, Canvas):
        target = canvas_target(out, x, second.planes, size)
    else:
        target = frame_target(out, x, second.planes, size)
    up = 0 if residual is None else enlargement(residual, x, second.planes, size)
    res = x if residual is None else residual
    low, high = second.clamp or (0.0, 0.0)
    tiles_y, tiles_x = -(-x.height // config.region_h), -(-x.width // config.region_w)
    tiles = x.images * tiles_y * tiles_x
    programs = min(programs, tiles)
    pixel = padded_channels(first.channels)
    # Zeros: channels that only pad are read and multiplied by zero weights, so they must not hold NaN.
    size_of_scratch = config.scratch_pixels(second.kernel) * pixel + 64
    scratch = torch.zeros((programs, size_of_scratch), dtype=x.data.dtype, device=x.data.device)
    reach = first.half + second.half
    args = (
        x.at(-reach, -reach),
        first.weight,
        first.bias,
        first.slope,
        second.weight,
        second.bias,
        second.slope,
        scratch,
        res.at(0, 0),
        target.data,
        target.flag,
        x.image,
        x.row,
        scratch.shape[1],
        res.image,
        res.row,
        target.image,
        target.row,
        tiles,
        tiles_y,
        tiles_x,
        x.height,
        x.width,
        *size,
        float(second.gain),
        float(low),
        float(high),
    )
    constants: dict[str, Any] = {
        "X_PIXEL": x.pixel,
        "R_PIXEL": res.pixel,
        "O_PIXEL": target.pixel,
        "M_PIXEL": pixel,
        "KH1": first.kernel,
        "KW1": first.columns,
        "BLOCKS_C1": first.blocks_c,
        "BLOCK_C1": first.block_c,
        "MIDDLE": first.channels,
        "BLOCK_O1": first.block_o,
        "ACT1": first.act,
        "K2": second.kernel,
        "BLOCKS_C2": second.blocks_c,
        "BLOCK_C2": second.block_c,
        "CHANNELS": second.channels,
        "BLOCK_O2": second.block_o,
        "ACT2": second.act,
        "SHUFFLE": second.shuffle,
        "GAIN": second.gain != 1.0,
        "RES_UP": up,
        "CLAMP": second.clamp is not None,
        "OUT_PEAK": target.peak,
        "OUT_STEPS": target.steps,
        "OUT_REVERSE": target.reverse,
        "REGION_H": config.region_h,
        "REGION_W": config.region_w,
        "CHUNK": config.chunk,
        "SWAP1": swapped(config.swap, first),
        "SWAP2": swapped(config.swap, second),
        "STAGES": config.stages,
        "UPCAST": INTERPRETED and x.data.dtype == torch.bfloat16,
        "num_warps": config.warps,
        # For the loops over pixels and regions; the loop over taps has its own.
        "num_stages": 1,
        "enable_fp_fusion": False,
    }
    bound: Any = pair_kernel
    return lambda: bound[(programs,)](*args, **constants)


def _check(x: Canvas, first: PackedConv, second: PackedConv, config: PairConfig) -> None:
    check_input(x, first, (config.region_h, config.region_w), first.half + second.half)
    if first.shuffle != 1 or first.gain != 1.0 or first.clamp is not None:
        raise ValueError("the first of two fused convolutions has a bias and an activation only")
    if second.in_channels != first.channels or second.pixel:
        raise ValueError(
            f"the second convolution reads {second.in_channels} channels, the first writes {first.channels}"
        )
    if second.weight.dtype != first.weight.dtype or second.weight.device != first.weight.device:
        raise ValueError(f"weights are {first.weight.dtype} and {second.weight.dtype}, or on different devices")
