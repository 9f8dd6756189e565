"""Images into a canvas and out of one: any strides, integer or floating, with the change of range on the way."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.launch import KernelLaunch
from srfast.kernels.params import Size, strided
from srfast.kernels.targets import PEAKS
from srfast.kernels.triton.values import part_of_row, row_start, store_integer

BLOCK = 1024


def load_reference(images: Tensor, gain: float, dtype: torch.dtype) -> Tensor:
    """[N, H, W, C] of any type -> [N, C, H, W] of ``dtype``, times ``gain`` in float32."""
    return (images.float() * gain).to(dtype).permute(0, 3, 1, 2)


def store_reference(x: Tensor, gain: float, dtype: torch.dtype) -> Tensor:
    """[N, C, H, W] -> [N, H, W, C] of an integer type, times ``gain``, rounded to nearest and saturated."""
    return (x.float() * gain).round().clamp(0, PEAKS[dtype]).permute(0, 2, 3, 1).to(dtype)


@triton.jit
def copy_kernel(
    x,
    out,
    flag_ptr,
    size,
    gain,
    CHANNELS: tl.constexpr,
    PEAK: tl.constexpr,
    REVERSE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one row; integers (PEAK > 0) are rounded and saturated, and what is not finite is reported."""
    image, y, column, channel, mask = part_of_row(size.height, size.width, CHANNELS, BLOCK)
    # Frames may be views with any strides: an image's rows and columns changed round, say, lie whole images apart.
    column = column.to(tl.int64)
    source = row_start(x, image, y) + column * x.pixel_stride + channel * x.channel_stride
    value = tl.load(source, mask=mask, other=0)
    if REVERSE:
        channel = CHANNELS - 1 - channel
    target = row_start(out, image, y) + column * out.pixel_stride + channel * out.channel_stride
    value = value.to(tl.float32) * gain
    if PEAK > 0:
        store_integer(value[None, :], target[None, :], mask[None, :], flag_ptr, 1.0, PEAK)
    else:
        tl.store(target, value.to(out.ptr.dtype.element_ty), mask=mask)


def copy_launch(
    x: Tensor, out: Tensor, gain: float = 1.0, flag: Tensor | None = None, reverse: bool = False
) -> KernelLaunch:
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
    images = (strided(x), strided(out), x if flag is None else flag)
    args = (*images, Size(height, width), float(gain), channels, peak, reverse, BLOCK)
    return KernelLaunch(copy_kernel, grid, *args)


def load_launch(images: Tensor, out: Canvas, gain: float, reverse: bool = False) -> KernelLaunch:
    """A function that runs ``load_reference`` into a canvas; ``images`` [N, H, W, C] with any strides."""
    return copy_launch(images, out.nchw().permute(0, 2, 3, 1), gain, reverse=reverse)


def store_launch(x: Tensor, frame: Tensor, gain: float, flag: Tensor, reverse: bool = False) -> KernelLaunch:
    """A function that runs ``store_reference``; both [N, H, W, C] with any strides."""
    return copy_launch(x, frame, gain, flag, reverse)
