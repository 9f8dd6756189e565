"""Mean or largest value of squares; the twins are ``avg_pool2d`` and ``max_pool2d`` of ``torch.nn.functional``."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

from srfast.kernels.buffers import Canvas

BLOCK = 1024


@triton.jit
def pool_kernel(
    x_ptr,
    out_ptr,
    height,  # of the output
    width,
    x_image,
    x_row,
    o_image,
    o_row,
    X_PIXEL: tl.constexpr,
    O_PIXEL: tl.constexpr,
    CHANNELS: tl.constexpr,
    FACTOR: tl.constexpr,
    MAX: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A part of one output row."""
    image = (tl.program_id(0) // height).to(tl.int64)
    y = (tl.program_id(0) % height).to(tl.int64)
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = index // CHANNELS
    channel = index % CHANNELS
    mask = x < width
    corner = x_ptr + image * x_image + y * FACTOR * x_row + (x * FACTOR * X_PIXEL + channel)
    result = tl.load(corner, mask=mask, other=0.0).to(tl.float32)
    for tap in tl.static_range(1, FACTOR * FACTOR):
        offset = (tap // FACTOR) * x_row + (tap % FACTOR) * X_PIXEL
        value = tl.load(corner + offset, mask=mask, other=0.0).to(tl.float32)
        if MAX:
            result = tl.maximum(result, value, propagate_nan=tl.PropagateNan.ALL)
        else:
            result += value
    if not MAX:
        result = result / (FACTOR * FACTOR)
    target = out_ptr + image * o_image + y * o_row + (x * O_PIXEL + channel)
    tl.store(target, result.to(out_ptr.dtype.element_ty), mask=mask)


def pool_launch(x: Canvas, out: Canvas, factor: int, kind: str) -> Callable[[], None]:
    """A function that pools ``factor`` x ``factor`` squares; ``kind`` is 'average' or 'max'.

    Raises:
        ValueError: the output is not [N, C, H / factor, W / factor] of the same dtype and device, or an unknown kind.
    """
    given = (out.images, out.channels, out.height * factor, out.width * factor, out.data.dtype, out.data.device)
    expected = (x.images, x.channels, x.height, x.width, x.data.dtype, x.data.device)
    if given != expected or kind not in ("average", "max"):
        raise ValueError(f"pooled by {factor} ({kind}) the output comes from {given}, not {expected}")
    args = (x.at(0, 0), out.at(0, 0), out.height, out.width, x.image, x.row, out.image, out.row)
    constants: dict[str, Any] = {
        "X_PIXEL": x.pixel,
        "O_PIXEL": out.pixel,
        "CHANNELS": x.channels,
        "FACTOR": factor,
        "MAX": kind == "max",
        "BLOCK": BLOCK,
        "enable_fp_fusion": False,
    }
    grid = (out.images * out.height, -(-out.width * out.channels // BLOCK))
    bound: Any = pool_kernel
    return lambda: bound[grid](*args, **constants)
