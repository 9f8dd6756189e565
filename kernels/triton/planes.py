"""NV12 and P010 planes to the network's RGB in a canvas, and back; the twins are in ``planes``."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.planes import LUMA_WEIGHTS, Planes
from srfast.kernels.triton.values import limit, store_integer

BLOCK = 256


@triton.jit
def load_planes_kernel(
    y_ptr,
    uv_ptr,
    out_ptr,
    height,
    width,
    y_image,
    y_row,
    uv_image,
    uv_row,
    o_image,
    o_row,
    y_scale,
    y_shift,
    uv_scale,
    uv_shift,
    red,
    blue,
    gain,
    O_PIXEL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK pixels of one row; luma * y_scale + y_shift is in 0..1, colour differences in -1/2..1/2."""
    image = (tl.program_id(0) // height).to(tl.int64)
    y = tl.program_id(0) % height
    x = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = x < width
    luma = tl.load(y_ptr + image * y_image + y.to(tl.int64) * y_row + x, mask=mask, other=0).to(tl.float32)
    luma = luma * y_scale + y_shift
    # The row of chroma that this row lies nearer to has 3/4 of it, the one on the other side of the row 1/4.
    near = y // 2
    far = tl.minimum(tl.maximum(near + (y % 2) * 2 - 1, 0), height // 2 - 1)
    left = (x // 2) * 2
    right = tl.minimum(x // 2 + x % 2, width // 2 - 1) * 2
    near_ptr = uv_ptr + image * uv_image + near.to(tl.int64) * uv_row
    far_ptr = uv_ptr + image * uv_image + far.to(tl.int64) * uv_row
    u = chroma_at(near_ptr, far_ptr, left, right, mask) * uv_scale + uv_shift
    v = chroma_at(near_ptr + 1, far_ptr + 1, left, right, mask) * uv_scale + uv_shift
    r = luma + 2.0 * (1.0 - red) * v
    b = luma + 2.0 * (1.0 - blue) * u
    g = (luma - red * r - blue * b) / (1.0 - red - blue)
    out = out_ptr + image * o_image + y.to(tl.int64) * o_row + x * O_PIXEL
    kind = out_ptr.dtype.element_ty
    tl.store(out, (limit(r, 0.0, 1.0) * gain).to(kind), mask=mask)
    tl.store(out + 1, (limit(g, 0.0, 1.0) * gain).to(kind), mask=mask)
    tl.store(out + 2, (limit(b, 0.0, 1.0) * gain).to(kind), mask=mask)


@triton.jit
def chroma_at(near_ptr, far_ptr, left, right, mask):
    """3/4 of the near row, 1/4 of the far one, each the mean of two columns."""
    near = tl.load(near_ptr + left, mask=mask, other=0).to(tl.float32)
    near += tl.load(near_ptr + right, mask=mask, other=0).to(tl.float32)
    far = tl.load(far_ptr + left, mask=mask, other=0).to(tl.float32)
    far += tl.load(far_ptr + right, mask=mask, other=0).to(tl.float32)
    return 0.375 * near + 0.125 * far


@triton.jit
def store_planes_kernel(
    x_ptr,
    y_ptr,
    uv_ptr,
    flag_ptr,
    height,  # in pairs of pixels, as the width
    width,
    x_image,
    x_row,
    y_image,
    y_row,
    uv_image,
    uv_row,
    gain,
    y_scale,
    y_shift,
    uv_scale,
    uv_shift,
    red,
    blue,
    X_PIXEL: tl.constexpr,
    PEAK: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK squares of 2 x 2 pixels of two rows."""
    image = (tl.program_id(0) // height).to(tl.int64)
    pair = (tl.program_id(0) % height).to(tl.int64)
    square = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = square < width
    base = x_ptr + image * x_image + pair * 2 * x_row
    luma = y_ptr + image * y_image + pair * 2 * y_row + 2 * square
    u = tl.zeros((BLOCK,), dtype=tl.float32)
    v = tl.zeros((BLOCK,), dtype=tl.float32)
    for row in tl.static_range(2):
        for column in tl.static_range(3):
            # Columns -1, 0 and 1 of the square; left of the first there is none.
            x = tl.maximum(2 * square + column - 1, 0)
            pixel = base + row * x_row + x * X_PIXEL
            r_raw = tl.load(pixel, mask=mask, other=0.0).to(tl.float32) * gain
            g_raw = tl.load(pixel + 1, mask=mask, other=0.0).to(tl.float32) * gain
            b_raw = tl.load(pixel + 2, mask=mask, other=0.0).to(tl.float32) * gain
            # Limits hide infinities: their sum with zero times all three does not.
            bad = (r_raw + g_raw + b_raw) * 0.0
            r = limit(r_raw, 0.0, 1.0)
            g = limit(g_raw, 0.0, 1.0)
            b = limit(b_raw, 0.0, 1.0)
            y = red * r + (1.0 - red - blue) * g + blue * b
            weight = 0.25 if column == 1 else 0.125
            u += weight * (b - y)
            v += weight * (r - y)
            if column > 0:
                value = (y * y_scale + y_shift) + bad
                store_code(value, luma + row * y_row + (column - 1), mask, flag_ptr, PEAK, STEP)
    target = uv_ptr + image * uv_image + pair * uv_row + 2 * square
    store_code(u * (uv_scale * 0.5 / (1.0 - blue)) + uv_shift, target, mask, flag_ptr, PEAK, STEP)
    store_code(v * (uv_scale * 0.5 / (1.0 - red)) + uv_shift, target + 1, mask, flag_ptr, PEAK, STEP)


@triton.jit
def store_code(value, out_ptrs, mask, flag_ptr, PEAK: tl.constexpr, STEP: tl.constexpr):
    """Rounds to a code in 0..PEAK and stores STEP times that; the flag as in ``store_integer``."""
    store_integer(value[None, :], out_ptrs[None, :], mask[None, :], flag_ptr, 1.0, PEAK, STEP)


def load_planes_launch(planes: Planes, out: Canvas, gain: float) -> Callable[[], None]:
    """A function that runs ``load_planes_reference`` with a peak of ``gain``.

    Raises:
        ValueError: the canvas has another size or device, or pixels of a plane do not lie side by side.
    """
    _check(planes, out)
    y, uv, colour = planes.luma, planes.chroma, planes.colour
    (y_offset, y_range), (uv_offset, uv_range) = colour.luma, colour.chroma
    args = (
        y,
        uv,
        out.at(0, 0),
        out.height,
        out.width,
        y.stride(0),
        y.stride(1),
        uv.stride(0),
        uv.stride(1),
        out.image,
        out.row,
        1 / (colour.step * y_range),
        -y_offset / y_range,
        1 / (colour.step * uv_range),
        -uv_offset / uv_range,
        *LUMA_WEIGHTS[colour.matrix],
        float(gain),
    )
    grid = (out.images * out.height, -(-out.width // BLOCK))
    bound: Any = load_planes_kernel
    return lambda: bound[grid](*args, O_PIXEL=out.pixel, BLOCK=BLOCK, enable_fp_fusion=False)


def store_planes_launch(x: Canvas, planes: Planes, white: float, flag: Tensor) -> Callable[[], None]:
    """A function that runs ``store_planes_reference`` on a canvas whose white is ``white``.

    Args:
        flag: [1] int32, set to 1 where a value is NaN or infinite.

    Raises:
        ValueError: as ``load_planes_launch``.
    """
    _check(planes, x)
    y, uv, colour = planes.luma, planes.chroma, planes.colour
    (y_offset, y_range), (uv_offset, uv_range) = colour.luma, colour.chroma
    args = (
        x.at(0, 0),
        y,
        uv,
        flag,
        x.height // 2,
        x.width // 2,
        x.image,
        x.row,
        y.stride(0),
        y.stride(1),
        uv.stride(0),
        uv.stride(1),
        1 / white,
        y_range,
        y_offset,
        uv_range,
        uv_offset,
        *LUMA_WEIGHTS[colour.matrix],
    )
    grid = (x.images * x.height // 2, -(-x.width // (2 * BLOCK)))
    constants = {"X_PIXEL": x.pixel, "PEAK": colour.peak, "STEP": colour.step, "BLOCK": BLOCK}
    bound: Any = store_planes_kernel
    return lambda: bound[grid](*args, **constants, enable_fp_fusion=False)


def _check(planes: Planes, canvas: Canvas) -> None:
    given = (*planes.luma.shape[:3], 3, planes.luma.device)
    expected = (canvas.images, canvas.height, canvas.width, canvas.channels, canvas.data.device)
    if given != expected:
        raise ValueError(f"planes of {given} do not fit a canvas of {expected}")
    if planes.luma.stride(2) != 1 or planes.chroma.stride()[2:] != (2, 1):
        raise ValueError("the pixels of a plane must lie side by side, whatever its rows do")
