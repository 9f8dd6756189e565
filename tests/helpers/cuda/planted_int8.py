"""Faults to plant in the convolution in 8 bits and in what it shares with other kernels, and the checks that find them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from tests.helpers.cuda.int8 import check_int8
from tests.helpers.cuda.planting import Fault


@cache
def int8(**options: Any) -> Callable[[], None]:
    """The check of a convolution in 8 bits with strips that are cut on the right and below."""
    return lambda: check_int8((5, 67), **options)


_fault = partial(Fault, through="int8")

FAULTS = (
    _fault("zeros outside of bytes", "p.zero * 0x01010101u", "0", int8()),
    _fault("byte outside once", "p.zero * 0x01010101u", "static_cast<uint32_t>(p.zero)", int8()),
    _fault("sums that begin at zero", "sums[i] = start[i / 2 % 2]", "sums[i] = 0", int8()),
    _fault("start of the other row", "sums[i] = start[i / 2 % 2]", "sums[i] = start[1 - i / 2 % 2]", int8()),
    _fault(
        "scale of the other row",
        "fused(sum, scale_[half], bias_[half])",
        "fused(sum, scale_[1 - half], bias_[half])",
        int8(),
    ),
    _fault(
        "starts of one warp",
        "block_o * 64 + t / 32 * 16 + t % 32 / 4, group",
        "block_o * 64 + t % 32 / 4, group",
        int8(),
    ),
    _fault(
        "starts of one block",
        "channel = block_o * 64 + t / 32 * 16 + t % 32 / 4, group",
        "channel = t / 32 * 16 + t % 32 / 4, group",
        int8(shuffle=2),
    ),
    _fault(
        "planes in another order",
        "step % TAP * 2 * H::PLANE_BYTES",
        "(TAP - 1 - step % TAP) * 2 * H::PLANE_BYTES",
        int8(),
    ),
    _fault(
        "columns of the kernel exchanged",
        "pixels + step / TAP * 16",
        "pixels + (2 - step / TAP) * 16",
        int8(),
    ),
    _fault(
        "planes too far apart",
        "static_cast<uint64_t>(PITCH) << 16",
        "static_cast<uint64_t>(PITCH + 1) << 16",
        int8(),
    ),
    _fault("chunks of eight bytes", "CHUNK = 16 / sizeof(Element), ", "CHUNK = 8, ", int8()),
    _fault("rows read before they are there", "if (--missing == 0) cp_async_wait<0>();", "--missing;", int8()),
    _fault(
        "rows without a fence",
        "        copies_see_writes();\n        sync_warp();",
        "        sync_warp();",
        int8(),
    ),
    _fault(
        "bytes in another order",
        "byte(a.lo), byte(a.hi), byte(b.lo), byte(b.hi)",
        "byte(a.hi), byte(a.lo), byte(b.lo), byte(b.hi)",
        int8(),
    ),
    _fault(
        "bytes cut off",
        "fused_share(value, gain, offset)",
        "fused(value, gain, offset)",
        int8(residual=True),
    ),
    _fault("bytes without their zero", "offset(v.offset)", "offset(0.f)", int8()),
    _fault(
        "bytes of the wrong phase",
        "x0 * e_.shuffle + this->x_, this->channel_",
        "x0 * e_.shuffle, this->channel_",
        int8(shuffle=2),
    ),
    _fault("bytes of one row", "        bytes_ += row_;\n", "", int8()),
    _fault(
        "bytes beside the image",
        "bytes_left = b_.view.data ? this->left_ : 0",
        "bytes_left = b_.view.data ? N : 0",
        int8(),
    ),
    _fault(
        "16-bit values nobody wants",
        "halves_left = e_.out.data ? this->left_ : 0",
        "halves_left = this->left_ - (e_.out.data ? 16 : 0)",
        int8(),
    ),
    _fault(
        "8-bit residual left out",
        "rounded_sum(rounded_product(v[i], gain_), i ? r.hi : r.lo)",
        "rounded_product(v[i], gain_)",
        int8(residual=True),
    ),
)
