"""Point operations that no convolution has absorbed: ``clamp(act(x * scale + shift) + other)``, or times ``other``."""

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
from srfast.kernels.packing import ACTS
from srfast.kernels.reference import activate
from srfast.kernels.triton.values import activation, limit

BLOCK = 1024
# What happens with the other operand.
NO_OTHER, ADD, MULTIPLY = 0, 1, 2
_ADD = tl.constexpr(ADD)
_MULTIPLY = tl.constexpr(MULTIPLY)


def pointwise_reference(
    x: Tensor,  # [N, C, H, W]
    *,
    scale: Tensor | None = None,  # [1], [C] or [N, C]
    shift: Tensor | None = None,
    act: str = "none",
    slope: Tensor | None = None,  # [1] or [C]
    other: Tensor | None = None,  # [N, C, H, W], or [N, 1, H, W] to multiply by
    multiply: bool = False,
    clamp: tuple[float, float] | None = None,
) -> Tensor:
    """The specification in plain torch."""
    if scale is not None:
        x = x * scale.to(x.dtype).view(*([1] * (2 - scale.ndim)), *scale.shape, 1, 1)
    if shift is not None:
        x = x + shift.to(x.dtype).view(*([1] * (2 - shift.ndim)), *shift.shape, 1, 1)
    x = activate(x, act, slope)
    if other is not None:
        x = x * other if multiply else x + other
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
    vector_image,  # elements from one image's scales and shifts to the next one's, or 0
    low,
    high,
    X_PIXEL: tl.constexpr,
    OTHER_PIXEL: tl.constexpr,
    O_PIXEL: tl.constexpr,
    CHANNELS: tl.constexpr,
    OTHER_CHANNELS: tl.constexpr,
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
        vector = image * vector_image + channel
        value = value * tl.load(scale_ptr + vector) + tl.load(shift_ptr + vector)
    slope = tl.load(slope_ptr + channel)
    value = activation(value, slope, ACT)
    if OTHER > 0:
        offset = image * other_image + y * other_row + (x * OTHER_PIXEL + channel % OTHER_CHANNELS)
        operand = tl.load(other_ptr + offset, mask=mask, other=0.0).to(tl.float32)
        if OTHER == _ADD:
            value += operand
        if OTHER == _MULTIPLY:
            value *= operand
    if CLAMP:
        value = limit(value, low, high)
    offset = image * o_image + y * o_row + (x * O_PIXEL + channel)
    tl.store(out_ptr + offset, value.to(out_ptr.dtype.element_ty), mask=mask)


def pointwise_launch(
    x: Canvas,
    out: Canvas,
    *,
    scale: Tensor | None = None,  # [1], [C] or [N, C]
    shift: Tensor | None = None,  # the same
    act: str = "none",
    slope: Tensor | None = None,  # [1] or [C]
    other: Canvas | None = None,
    multiply: bool = False,
    clamp: tuple[float, float] | None = None,
) -> Callable[[], None]:
    """A function that runs ``pointwise_reference`` on canvases of one size and dtype, in float32.

    ``out`` may be ``x`` or ``other``. A float32 ``scale`` or ``shift`` of [N, C] on the device is read where it is when the
    function runs; all other vectors are copied now.

    Raises:
        ValueError: canvases that differ, or vectors of another length.
    """
    other_canvas = x if other is None else other
    check_alike(x, out)
    check_alike(x, other_canvas, one_channel=multiply)
    by_image = any(v is not None and v.ndim == 2 for v in (scale, shift))
    scales, shifts = (_vector(v, x, default, by_image) for v, default in ((scale, 1.0), (shift, 0.0)))
    low, high = clamp or (0.0, 0.0)
    args = (
        x.at(0, 0),
        other_canvas.at(0, 0),
        out.at(0, 0),
        scales,
        shifts,
        _vector(slope, x, 0.0, False),
        x.height,
        x.width,
        x.image,
        x.row,
        other_canvas.image,
        other_canvas.row,
        out.image,
        out.row,
        x.channels if by_image else 0,
        float(low),
        float(high),
    )
    constants: dict[str, Any] = {
        "X_PIXEL": x.pixel,
        "OTHER_PIXEL": other_canvas.pixel,
        "O_PIXEL": out.pixel,
        "CHANNELS": x.channels,
        "OTHER_CHANNELS": other_canvas.channels,
        "AFFINE": scale is not None or shift is not None,
        "ACT": ACTS[act],
        "OTHER": NO_OTHER if other is None else MULTIPLY if multiply else ADD,
        "CLAMP": clamp is not None,
        "BLOCK": BLOCK,
        "enable_fp_fusion": False,
    }
    grid = (x.images * x.height, -(-x.width * x.channels // BLOCK))
    bound: Any = pointwise_kernel
    return lambda: bound[grid](*args, **constants)


def check_alike(a: Canvas, b: Canvas, one_channel: bool = False) -> None:
    """Raises ValueError unless both hold images of one size, dtype and device; ``b`` may have ``one_channel``."""
    first, second = ((c.images, c.channels, c.height, c.width, c.data.dtype, c.data.device) for c in (a, b))
    if first != second and not (one_channel and b.channels == 1 and first[0:1] + first[2:] == second[0:1] + second[2:]):
        raise ValueError(f"canvases differ: {first} and {second}")


def _vector(values: Tensor | None, x: Canvas, default: float, by_image: bool) -> Tensor:
    if values is None:
        values = torch.tensor([default])
    shapes = ([1], [x.channels], [x.images, x.channels] if by_image else [x.channels])
    if list(values.shape) not in shapes:
        raise ValueError(f"{list(values.shape)} values for {x.images} images of {x.channels} channels")
    values = values.detach().to(x.data.device, torch.float32)
    return values.expand((x.images, x.channels) if by_image else (x.channels,)).contiguous()
