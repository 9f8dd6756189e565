"""Checked launches of two convolutions fused into one kernel."""

from __future__ import annotations

from typing import Any

import torch

from srfast.kernels.buffers import Canvas, padded_channels
from srfast.kernels.packing import PackedConv
from srfast.kernels.triton.config import PairConfig
from srfast.kernels.triton.conv_launch import (
    INTERPRETED,
    FrameTarget,
    Launch,
    canvas_target,
    check_input,
    enlargement,
    frame_target,
    swapped,
)
from srfast.kernels.triton.pair import pair_kernel


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
    up = 0 if residual is None else enlargement(residual, x, second, size)
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
