"""Mean or largest value of squares; the twins are ``avg_pool2d`` and ``max_pool2d`` of ``torch.nn.functional``."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from srfast.kernels.buffers import Canvas
from srfast.kernels.launch import KernelLaunch
from srfast.kernels.params import Size, image_of
from srfast.kernels.triton.values import part_of_row, row_start

BLOCK = 1024


@triton.jit
def pool_kernel(
    x,
    out,
    size,  # of the output
    CHANNELS: tl.constexpr,
    FACTOR: tl.constexpr,
    MAX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one output row."""
    image, y, column, channel, mask = part_of_row(size.height, size.width, CHANNELS, BLOCK)
    corner = row_start(x, image, y.to(tl.int64) * FACTOR) + (column * FACTOR * x.pixel_stride + channel)
    # The largest value begins with one of the square's own: 0 would hide negative ones.
    result = tl.load(corner, mask=mask, other=0.0).to(tl.float32)
    for tap in tl.static_range(1, FACTOR * FACTOR):
        offset = (tap // FACTOR) * x.row_stride + (tap % FACTOR) * x.pixel_stride
        value = tl.load(corner + offset, mask=mask, other=0.0).to(tl.float32)
        if MAX:
            result = tl.maximum(result, value, propagate_nan=tl.PropagateNan.ALL)
        else:
            result += value
    if not MAX:
        result = result / (FACTOR * FACTOR)
    target = row_start(out, image, y) + (column * out.pixel_stride + channel)
    tl.store(target, result.to(out.ptr.dtype.element_ty), mask=mask)


def pool_launch(x: Canvas, out: Canvas, factor: int, kind: str) -> KernelLaunch:
    """A function that pools ``factor`` x ``factor`` squares; ``kind`` is 'average' or 'max'.

    Raises:
        ValueError: the output is not [N, C, H / factor, W / factor] of the same dtype and device, or an unknown kind.
    """
    given = (out.images, out.channels, out.height * factor, out.width * factor, out.data.dtype, out.data.device)
    expected = (x.images, x.channels, x.height, x.width, x.data.dtype, x.data.device)
    if given != expected or kind not in ("average", "max"):
        raise ValueError(f"pooled by {factor} ({kind}) the output comes from {given}, not {expected}")
    args = (image_of(x), image_of(out), Size(out.height, out.width), x.channels, factor, kind == "max", BLOCK)
    grid = (out.images * out.height, -(-out.width * out.channels // BLOCK))
    return KernelLaunch(pool_kernel, grid, *args)
