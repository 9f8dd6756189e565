"""NV12 and P010 planes to the network's RGB in a canvas, and back; the twins are in ``planes``."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.launch import KernelLaunch
from srfast.kernels.params import Size, image_of, strided
from srfast.kernels.planes import LUMA_WEIGHTS, Planes
from srfast.kernels.triton.values import limit, part_of_row, row_start, store_integer

BLOCK = 256


class Codes(NamedTuple):
    """How luma and colour differences become codes or are read from them, and red's and blue's weight in luma."""

    y_scale: Any
    y_shift: Any
    uv_scale: Any
    uv_shift: Any
    red: Any
    blue: Any


@triton.jit
def load_planes_kernel(
    luma,
    chroma,
    out,
    size,
    codes,
    gain,
    BLOCK: tl.constexpr,
):
    """BLOCK pixels of one row; luma * y_scale + y_shift is in 0..1, colour differences in -1/2..1/2."""
    image, y, x, _, mask = part_of_row(size.height, size.width, 1, BLOCK)
    light = tl.load(row_start(luma, image, y) + x, mask=mask, other=0).to(tl.float32)
    light = light * codes.y_scale + codes.y_shift
    # The row of chroma that this row lies nearer to has 3/4 of it, the one on the other side of the row 1/4.
    near = y // 2
    far = tl.minimum(tl.maximum(near + (y % 2) * 2 - 1, 0), size.height // 2 - 1)
    left = (x // 2) * 2
    right = tl.minimum(x // 2 + x % 2, size.width // 2 - 1) * 2
    near_ptr = row_start(chroma, image, near)
    far_ptr = row_start(chroma, image, far)
    u = chroma_at(near_ptr, far_ptr, left, right, mask) * codes.uv_scale + codes.uv_shift
    v = chroma_at(near_ptr + 1, far_ptr + 1, left, right, mask) * codes.uv_scale + codes.uv_shift
    # Luma is red * R + (1 - red - blue) * G + blue * B, and a colour difference the distance from it, scaled to
    # -1/2..1/2 (ITU-R BT.709, 3.2 and 3.3): solved for R, B and then G.
    r = light + 2.0 * (1.0 - codes.red) * v
    b = light + 2.0 * (1.0 - codes.blue) * u
    g = (light - codes.red * r - codes.blue * b) / (1.0 - codes.red - codes.blue)
    target = row_start(out, image, y) + x * out.pixel_stride
    kind = out.ptr.dtype.element_ty
    tl.store(target, (limit(r, 0.0, 1.0) * gain).to(kind), mask=mask)
    tl.store(target + 1, (limit(g, 0.0, 1.0) * gain).to(kind), mask=mask)
    tl.store(target + 2, (limit(b, 0.0, 1.0) * gain).to(kind), mask=mask)


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
    x,
    luma,
    chroma,
    flag_ptr,
    size,  # in pairs of pixels
    codes,
    gain,
    PEAK: tl.constexpr,
    STEP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK squares of 2 x 2 pixels of two rows."""
    image, pair, square, _, mask = part_of_row(size.height, size.width, 1, BLOCK)
    top = pair.to(tl.int64) * 2
    base = row_start(x, image, top)
    codes_of_row = row_start(luma, image, top) + 2 * square
    u = tl.zeros((BLOCK,), dtype=tl.float32)
    v = tl.zeros((BLOCK,), dtype=tl.float32)
    for row in tl.static_range(2):
        for column in tl.static_range(3):
            # Columns -1, 0 and 1 of the square; left of the first there is none.
            across = tl.maximum(2 * square + column - 1, 0)
            pixel = base + row * x.row_stride + across * x.pixel_stride
            r_raw = tl.load(pixel, mask=mask, other=0.0).to(tl.float32) * gain
            g_raw = tl.load(pixel + 1, mask=mask, other=0.0).to(tl.float32) * gain
            b_raw = tl.load(pixel + 2, mask=mask, other=0.0).to(tl.float32) * gain
            # Limits hide infinities: their sum with zero times all three does not.
            bad = (r_raw + g_raw + b_raw) * 0.0
            r = limit(r_raw, 0.0, 1.0)
            g = limit(g_raw, 0.0, 1.0)
            b = limit(b_raw, 0.0, 1.0)
            y = codes.red * r + (1.0 - codes.red - codes.blue) * g + codes.blue * b
            weight = 0.25 if column == 1 else 0.125
            u += weight * (b - y)
            v += weight * (r - y)
            if column > 0:
                value = (y * codes.y_scale + codes.y_shift) + bad
                place = codes_of_row + row * luma.row_stride + (column - 1)
                store_code(value, place, mask, flag_ptr, PEAK, STEP)
    target = row_start(chroma, image, pair) + 2 * square
    u_scale = codes.uv_scale * 0.5 / (1.0 - codes.blue)
    v_scale = codes.uv_scale * 0.5 / (1.0 - codes.red)
    store_code(u * u_scale + codes.uv_shift, target, mask, flag_ptr, PEAK, STEP)
    store_code(v * v_scale + codes.uv_shift, target + 1, mask, flag_ptr, PEAK, STEP)


@triton.jit
def store_code(value, out_ptrs, mask, flag_ptr, PEAK: tl.constexpr, STEP: tl.constexpr):
    """Rounds to a code in 0..PEAK and stores STEP times that; the flag as in ``store_integer``."""
    store_integer(value[None, :], out_ptrs[None, :], mask[None, :], flag_ptr, 1.0, PEAK, STEP)


def load_planes_launch(planes: Planes, out: Canvas, gain: float) -> KernelLaunch:
    """A function that runs ``load_planes_reference`` with a peak of ``gain``.

    Raises:
        ValueError: the canvas has another size or device, or pixels of a plane do not lie side by side.
    """
    _check(planes, out)
    colour = planes.colour
    (y_offset, y_range), (uv_offset, uv_range) = colour.luma, colour.chroma
    codes = Codes(
        1 / (colour.step * y_range),
        -y_offset / y_range,
        1 / (colour.step * uv_range),
        -uv_offset / uv_range,
        *LUMA_WEIGHTS[colour.matrix],
    )
    images = (strided(planes.luma), strided(planes.chroma), image_of(out))
    args = (*images, Size(out.height, out.width), codes, float(gain), BLOCK)
    grid = (out.images * out.height, -(-out.width // BLOCK))
    return KernelLaunch(load_planes_kernel, grid, *args)


def store_planes_launch(x: Canvas, planes: Planes, white: float, flag: Tensor) -> KernelLaunch:
    """A function that runs ``store_planes_reference`` on a canvas whose white is ``white``.

    Args:
        flag: [1] int32, set to 1 where a value is NaN or infinite.

    Raises:
        ValueError: as ``load_planes_launch``.
    """
    _check(planes, x)
    colour = planes.colour
    (y_offset, y_range), (uv_offset, uv_range) = colour.luma, colour.chroma
    codes = Codes(y_range, y_offset, uv_range, uv_offset, *LUMA_WEIGHTS[colour.matrix])
    images = (image_of(x), strided(planes.luma), strided(planes.chroma))
    size = Size(x.height // 2, x.width // 2)
    args = (*images, flag, size, codes, 1 / white, colour.peak, colour.step, BLOCK)
    grid = (x.images * x.height // 2, -(-x.width // (2 * BLOCK)))
    return KernelLaunch(store_planes_kernel, grid, *args)


def _check(planes: Planes, canvas: Canvas) -> None:
    given = (*planes.luma.shape[:3], 3, planes.luma.device)
    expected = (canvas.images, canvas.height, canvas.width, canvas.channels, canvas.data.device)
    if given != expected:
        raise ValueError(f"planes of {given} do not fit a canvas of {expected}")
    if planes.luma.stride(2) != 1 or planes.chroma.stride()[2:] != (2, 1):
        raise ValueError("the pixels of a plane must lie side by side, whatever its rows do")
