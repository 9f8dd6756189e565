"""Images into a canvas and out of one: any strides, integer or floating, with the change of range on the way."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.triton.values import store_integer

BLOCK = 1024
PEAKS = {torch.uint8: 255, torch.uint16: 65535}


def load_reference(images: Tensor, gain: float, dtype: torch.dtype) -> Tensor:
    """[N, H, W, C] of any type -> [N, C, H, W] of ``dtype``, times ``gain`` in float32."""
    return (images.float() * gain).to(dtype).permute(0, 3, 1, 2)


def store_reference(x: Tensor, gain: float, dtype: torch.dtype) -> Tensor:
    """[N, C, H, W] -> [N, H, W, C] of an integer type, times ``gain``, rounded to nearest and saturated."""
    return (x.float() * gain).round().clamp(0, PEAKS[dtype]).permute(0, 2, 3, 1).to(dtype)


@triton.jit
def copy_kernel(
    x_ptr,
    out_ptr,
    flag_ptr,
    height,
    width,
    gain,
    x_image,
    x_row,
    x_pixel,
    x_channel,
    o_image,
    o_row,
    o_pixel,
    o_channel,
    CHANNELS: tl.constexpr,
    PEAK: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one row; integers (PEAK > 0) are rounded and saturated, and what is not finite is reported."""
    image = (tl.program_id(0) // height).to(tl.int64)
    y = (tl.program_id(0) % height).to(tl.int64)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = (index // CHANNELS).to(tl.int64)
    channel = index % CHANNELS
    mask = x < width
    value = tl.load(x_ptr + image * x_image + y * x_row + x * x_pixel + channel * x_channel, mask=mask, other=0)
    if REVERSE:
        channel = CHANNELS - 1 - channel
    out_ptrs = out_ptr + image * o_image + y * o_row + x * o_pixel + channel * o_channel
    if PEAK > 0:
        value = value.to(tl.float32) * gain
        store_integer(value[None, :], out_ptrs[None, :], mask[None, :], flag_ptr, 1.0, PEAK)
    else:
        value = value.to(tl.float32) * gain
        tl.store(out_ptrs, value.to(out_ptr.dtype.element_ty), mask=mask)


def copy_launch(
    x: Tensor, out: Tensor, gain: float = 1.0, flag: Tensor | None = None, reverse: bool = False
) -> Callable[[], None]:
    """A function that writes ``x * gain`` to ``out``.

    Args:
        x, out: [N, H, W, C] of one shape with any strides; floating, uint8 or uint16.
        flag: [1] int32, set to 1 where a value for an integer ``out`` is NaN or infinite; needed for integers only.
        reverse: the order of the channels is turned round.

    Raises:
        ValueError: shapes or devices differ, or a type is not covered.
    """
    types = (torch.float16, torch.bfloat16, torch.float32, torch.uint8, torch.uint16)
    if x.ndim != 4 or x.shape != out.shape or x.device != out.device or x.dtype not in types or out.dtype not in types:
        raise ValueError(
            f"{list(x.shape)} {x.dtype} on {x.device} does not go to {list(out.shape)} {out.dtype} on {out.device}"
        )
    peak = PEAKS.get(out.dtype, 0)
    if peak and (flag is None or flag.dtype != torch.int32 or flag.device != x.device):
        raise ValueError(f"integer frames need an int32 flag on {x.device}")
    count, height, width, channels = x.shape
    grid = (count * height, -(-width * channels // BLOCK))
    args = (x, out, x if flag is None else flag, height, width, float(gain), *x.stride(), *out.stride())
    constants: dict[str, Any] = {"CHANNELS": channels, "PEAK": peak, "REVERSE": reverse, "BLOCK": BLOCK}
    bound: Any = copy_kernel
    return lambda: bound[grid](*args, **constants, enable_fp_fusion=False)


def load_launch(images: Tensor, out: Canvas, gain: float, reverse: bool = False) -> Callable[[], None]:
    """A function that runs ``load_reference`` into a canvas; ``images`` [N, H, W, C] with any strides."""
    return copy_launch(images, out.nchw().permute(0, 2, 3, 1), gain, reverse=reverse)


def store_launch(x: Tensor, frame: Tensor, gain: float, flag: Tensor, reverse: bool = False) -> Callable[[], None]:
    """A function that runs ``store_reference``; both [N, H, W, C] with any strides."""
    return copy_launch(x, frame, gain, flag, reverse)
