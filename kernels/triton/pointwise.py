"""Point operations that no convolution has absorbed: ``clamp(act(x * scale + shift) + other)``, or times ``other``."""

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
from srfast.kernels.packing import ACTS
from srfast.kernels.params import Size, image_of
from srfast.kernels.reference import activate
from srfast.kernels.triton.values import activation, limit, part_of_row, row_start

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
    x,
    other,
    out,
    scale_ptr,
    shift_ptr,
    slope_ptr,
    vector_image,  # from one image's scales and shifts to the next one's; 0 where all images share them
    size,
    low,
    high,
    CHANNELS: tl.constexpr,
    OTHER_CHANNELS: tl.constexpr,
    AFFINE: tl.constexpr,
    ACT: tl.constexpr,
    OTHER: tl.constexpr,
    CLAMP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one row."""
    image, y, column, channel, mask = part_of_row(size.height, size.width, CHANNELS, BLOCK)
    source = row_start(x, image, y) + (column * x.pixel_stride + channel)
    value = tl.load(source, mask=mask, other=0.0).to(tl.float32)
    if AFFINE:
        vector = image * vector_image + channel
        value = value * tl.load(scale_ptr + vector) + tl.load(shift_ptr + vector)
    slope = tl.load(slope_ptr + channel)
    value = activation(value, slope, ACT)
    if OTHER > 0:
        # One channel for all, as a gate over pixels has it, or each its own.
        where = row_start(other, image, y) + (column * other.pixel_stride + channel % OTHER_CHANNELS)
        operand = tl.load(where, mask=mask, other=0.0).to(tl.float32)
        if OTHER == _ADD:
            value += operand
        if OTHER == _MULTIPLY:
            value *= operand
    if CLAMP:
        value = limit(value, low, high)
    target = row_start(out, image, y) + (column * out.pixel_stride + channel)
    tl.store(target, value.to(out.ptr.dtype.element_ty), mask=mask)


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
) -> KernelLaunch:
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
        image_of(x),
        image_of(other_canvas),
        image_of(out),
        scales,
        shifts,
        _vector(slope, x, 0.0, False),
        x.channels if by_image else 0,
        Size(x.height, x.width),
        float(low),
        float(high),
        x.channels,
        other_canvas.channels,
        scale is not None or shift is not None,
        ACTS[act],
        NO_OTHER if other is None else MULTIPLY if multiply else ADD,
        clamp is not None,
        BLOCK,
    )
    grid = (x.images * x.height, -(-x.width * x.channels // BLOCK))
    return KernelLaunch(pointwise_kernel, grid, *args)


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
