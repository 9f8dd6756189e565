"""Point operations that no convolution has absorbed: ``clamp(act(x * scale + shift) + other)``."""

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

from srfast.kernels.canvas import Canvas
from srfast.kernels.conv import activate
from srfast.kernels.packed_conv import ACTS
from srfast.kernels.triton_conv import activation, limit

BLOCK = 1024


def pointwise_reference(
    x: Tensor,  # [N, C, H, W]
    *,
    scale: Tensor | None = None,  # [1] or [C]
    shift: Tensor | None = None,
    act: str = "none",
    slope: Tensor | None = None,
    other: Tensor | None = None,  # [N, C, H, W]
    clamp: tuple[float, float] | None = None,
) -> Tensor:
    """The specification in plain torch."""
    if scale is not None:
        x = x * scale.to(x.dtype).view(1, -1, 1, 1)
    if shift is not None:
        x = x + shift.to(x.dtype).view(1, -1, 1, 1)
    x = activate(x, act, slope)
    if other is not None:
        x = x + other
    return x if clamp is None else x.clamp(*clamp)


@triton.jit
def pointwise_kernel(
    x_ptr,
    other_ptr,
    out_ptr,
    scale_ptr,
    shift_ptr,
    slope_ptr,
    height,
    width,
    x_image,
    x_row,
    other_image,
    other_row,
    o_image,
    o_row,
    low,
    high,
    X_PIXEL: tl.constexpr,
    OTHER_PIXEL: tl.constexpr,
    O_PIXEL: tl.constexpr,
    CHANNELS: tl.constexpr,
    AFFINE: tl.constexpr,
    ACT: tl.constexpr,
    OTHER: tl.constexpr,
    CLAMP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one row."""
    image = (tl.program_id(0) // height).to(tl.int64)
    y = (tl.program_id(0) % height).to(tl.int64)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = index // CHANNELS
    channel = index % CHANNELS
    mask = x < width
    value = tl.load(x_ptr + image * x_image + y * x_row + (x * X_PIXEL + channel), mask=mask, other=0.0).to(tl.float32)
    if AFFINE:
        value = value * tl.load(scale_ptr + channel) + tl.load(shift_ptr + channel)
    slope = tl.load(slope_ptr + channel)
    value = activation(value, slope, ACT)
    if OTHER:
        offset = image * other_image + y * other_row + (x * OTHER_PIXEL + channel)
        value += tl.load(other_ptr + offset, mask=mask, other=0.0).to(tl.float32)
    if CLAMP:
        value = limit(value, low, high)
    offset = image * o_image + y * o_row + (x * O_PIXEL + channel)
    tl.store(out_ptr + offset, value.to(out_ptr.dtype.element_ty), mask=mask)


def pointwise_launch(
    x: Canvas,
    out: Canvas,
    *,
    scale: Tensor | None = None,  # [1] or [C]
    shift: Tensor | None = None,  # [1] or [C]
    act: str = "none",
    slope: Tensor | None = None,  # [1] or [C]
    other: Canvas | None = None,
    clamp: tuple[float, float] | None = None,
) -> Callable[[], None]:
    """A function that runs ``pointwise_reference`` on canvases of one size and dtype, in float32.

    Raises:
        ValueError: canvases that differ, or vectors of another length.
    """
    other_canvas = x if other is None else other
    check_alike(x, out)
    check_alike(x, other_canvas)
    vectors = [_vector(v, x, default) for v, default in ((scale, 1.0), (shift, 0.0), (slope, 0.0))]
    low, high = clamp or (0.0, 0.0)
    args = (
        x.at(0, 0),
        other_canvas.at(0, 0),
        out.at(0, 0),
        *vectors,
        x.height,
        x.width,
        x.image,
        x.row,
        other_canvas.image,
        other_canvas.row,
        out.image,
        out.row,
        float(low),
        float(high),
    )
    constants: dict[str, Any] = {
        "X_PIXEL": x.pixel,
        "OTHER_PIXEL": other_canvas.pixel,
        "O_PIXEL": out.pixel,
        "CHANNELS": x.channels,
        "AFFINE": scale is not None or shift is not None,
        "ACT": ACTS[act],
        "OTHER": other is not None,
        "CLAMP": clamp is not None,
        "BLOCK": BLOCK,
        "enable_fp_fusion": False,
    }
    grid = (x.images * x.height, -(-x.width * x.channels // BLOCK))
    bound: Any = pointwise_kernel
    return lambda: bound[grid](*args, **constants)


def check_alike(a: Canvas, b: Canvas) -> None:
    """Raises ValueError unless both hold images of one size, dtype and device."""
    first, second = ((c.images, c.channels, c.height, c.width, c.data.dtype, c.data.device) for c in (a, b))
    if first != second:
        raise ValueError(f"canvases differ: {first} and {second}")


def _vector(values: Tensor | None, x: Canvas, default: float) -> Tensor:
    if values is None:
        values = torch.tensor([default])
    if values.numel() not in (1, x.channels):
        raise ValueError(f"{values.numel()} values for {x.channels} channels")
    return values.detach().to(x.data.device, torch.float32).expand(x.channels).contiguous()
