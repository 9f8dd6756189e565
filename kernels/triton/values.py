"""What Triton kernels share: activations, limits, stores as integers, and the part of a row that a program has."""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from srfast.kernels.packing import ACTS

_PRELU = tl.constexpr(ACTS["prelu"])
_TANH = tl.constexpr(ACTS["tanh"])
_SIGMOID = tl.constexpr(ACTS["sigmoid"])
_SILU = tl.constexpr(ACTS["silu"])
_GELU = tl.constexpr(ACTS["gelu"])
_MISH = tl.constexpr(ACTS["mish"])


@triton.jit
def activation(value, slope, ACT: tl.constexpr):
    """``conv.activate`` in float32."""
    if ACT == _PRELU:
        value = tl.where(value > 0, value, value * slope)
    # exp(-value) overflows to infinity for large negative values, which makes the quotients the 0 that they should be.
    if ACT == _SIGMOID:
        value = 1.0 / (1.0 + tl.exp(-value))
    if ACT == _SILU:
        value = value / (1.0 + tl.exp(-value))
    if ACT == _GELU:
        value = 0.5 * value * (1.0 + tl.erf(value * 0.7071067811865476))
    if ACT == _MISH:
        # x tanh(ln(1 + e^x)) without the logarithm: with n = e^x (e^x + 2) it is x n / (n + 2), where n cannot overflow.
        power = tl.exp(tl.minimum(value, 20.0))
        n = power * (power + 2.0)
        value = value * (n / (n + 2.0))
    if ACT == _TANH:
        # Triton has no tanh outside of libdevice. Of the absolute value, so that exp cannot overflow.
        small = tl.exp(-2.0 * tl.abs(value))
        size = (1.0 - small) / (1.0 + small)
        value = tl.where(value < 0, -size, size)
    return value


@triton.jit
def limit(acc, low, high):
    """Clamps and lets NaN through, as torch does."""
    acc = tl.maximum(acc, low, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(acc, high, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def store_integer(acc, out_ptrs, mask, flag_ptr, STEPS: tl.constexpr, PEAK: tl.constexpr, MULTIPLE: tl.constexpr = 1):
    """Stores acc * STEPS rounded to nearest (ties to even) in 0..PEAK, as so many multiples; the flag is set where acc is
    NaN or infinite."""
    bad = mask & ~(tl.abs(acc) <= 3.4028234663852886e38)
    any_bad = tl.max(bad.to(tl.int32))
    tl.atomic_max(flag_ptr, any_bad, mask=any_bad > 0)
    acc = tl.minimum(tl.maximum(acc * STEPS, 0.0), PEAK)
    # Adding 1.5 * 2^23 leaves no bits for a fraction: the addition itself rounds.
    acc = (acc + 12582912.0) - 12582912.0
    tl.store(out_ptrs, (acc.to(tl.int32) * MULTIPLE).to(out_ptrs.dtype.element_ty), mask=mask)


@triton.jit
def part_of_row(rows, width, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """A part of one row for the program (image and row, part).

    A row's pixels and channels are one line of values: neighbouring threads read neighbouring memory, however many
    channels there are.

    Returns:
        image as int64 and y; then of BLOCK values x, channel, and whether there is such a value.
    """
    index = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = index // CHANNELS
    return (tl.program_id(0) // rows).to(tl.int64), tl.program_id(0) % rows, x, index % CHANNELS, x < width


@triton.jit
def row_start(images, image, y):
    """Where row ``y`` of an image begins; ``image`` is 64-bit, since a batch may have more than 2^31 elements."""
    return images.ptr + image * images.image_stride + y.to(tl.int64) * images.row_stride
