"""Faults to plant in the special endings of tiles and pairs with mma.sync, and the checks that find them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

from srfast.kernels.cuda.pack import Variant
from tests.helpers.cuda.endings import GENERAL, check_conv, check_ending, check_pair_ending, check_phases
from tests.helpers.cuda.planting import Fault
from tests.helpers.cuda.problems import HALF, problem

SMALL, LARGE = Variant(64, 64, 3), Variant(64, 64, 3, 16, 16)


@cache
def ending(
    variant: Variant = SMALL, prelu: bool = False, residual: bool = False, shuffle: int = 1
) -> Callable[[], None]:
    """The check of a special ending with 2 x 3 tiles, the last of which are cut."""
    return lambda: check_ending(variant, (variant.tile_h + 1, 35), 1, HALF, prelu, residual, shuffle)


@cache
def general(number: int) -> Callable[[], None]:
    """The check of one of ``GENERAL``."""
    out, options = GENERAL[number]
    return lambda: check_conv(problem(64, out, 3, 5, 9), **options)


@cache
def pair(residual: bool = False) -> Callable[[], None]:
    """The check of a fused pair with 2 x 2 tiles, the last of which are cut."""
    return lambda: check_pair_ending((15, 20), 1, HALF, False, residual)


@cache
def phases(kind: torch.dtype | None = None, residual: bool = False) -> Callable[[], None]:
    """The check of 48 channels as 4x4 pixels with 2 x 2 tiles, the last of which are cut."""
    return lambda: check_phases((9, 18), 1, HALF, kind, residual)


BARRIER = "        sync_warp();\n        char* base"
COPY = """            cp_async_wait<0>();
            sync_warp();
"""
FAULTS = (
    Fault(
        "bias of the next column",
        "e.bias + first_channel_ + j * 8 + i",
        "e.bias + first_channel_ + j * 8 + 1 - i",
        ending(),
    ),
    Fault("bias of the other warp", "+ warp % S::WARPS_O * 32 + lane % 4 * 2;", "+ lane % 4 * 2;", ending()),
    Fault(
        "slope of the next column",
        "e.slope + first_channel_ + j * 8 + i",
        "e.slope + first_channel_ + j * 8",
        ending(prelu=True),
    ),
    Fault(
        "no residual",
        "rounded_sum(rounded_product(v[i], e_.gain), i ? r.hi : r.lo)",
        "rounded_product(v[i], e_.gain)",
        ending(residual=True),
    ),
    Fault("no gain", "rounded_sum(rounded_product(v[i], e_.gain),", "rounded_sum(v[i],", ending(residual=True)),
    Fault(
        "residual's halves exchanged", "e_.gain), i ? r.hi : r.lo", "e_.gain), i ? r.lo : r.hi", ending(residual=True)
    ),
    Fault(
        "residual's row for its column",
        "residual_ + j / 2 * row + j % 2 * half",
        "residual_ + j % 2 * row + j / 2 * half",
        ending(residual=True),
    ),
    Fault(
        "residual without its phase",
        "e.residual, t.image, y, x, channel)",
        "e.residual, t.image, y, t.x0 + column, channel)",
        ending(residual=True, shuffle=2),
    ),
    Fault(
        "fragment's halves exchanged",
        "ended(sums[m % 2 * 2], sums[m % 2 * 2 + 1],",
        "ended(sums[m % 2 * 2 + 1], sums[m % 2 * 2],",
        ending(),
    ),
    Fault(
        "fragment's pixels exchanged",
        "ended(sums[m % 2 * 2], sums[m % 2 * 2 + 1],",
        "ended(sums[2 - m % 2 * 2], sums[3 - m % 2 * 2],",
        ending(),
    ),
    Fault("fragments exchanged", "sums)[4] = acc[i][j];", "sums)[4] = acc[i][j ^ 1];", ending()),
    Fault(
        "lanes' places not swizzled",
        "swizzled<8>(lane / 4, first_o)",
        "lane / 4 * 128 + swizzled<8>(0, first_o)",
        ending(),
    ),
    Fault(
        "matrices' rows not swizzled",
        "swizzled<8>(lane % 16, first_o + lane / 16)",
        "lane % 16 * 128 + swizzled<8>(0, first_o + lane / 16)",
        ending(),
    ),
    Fault(
        "matrices in another order",
        "swizzled<8>(lane % 16, first_o + lane / 16)",
        "swizzled<8>(lane / 2, first_o + lane % 2)",
        ending(),
    ),
    Fault("chunks not swizzled", "swizzled<8>(column_of_lane(),", "column_of_lane() * 128 + swizzled<8>(0,", ending()),
    Fault(
        "places of the lower pixels above", "+ i * 2048 + m % 2 * 1024;", "+ i * 2048 + (1 - m % 2) * 1024;", ending()
    ),
    Fault("stored without a barrier", BARRIER, BARRIER.replace("        sync_warp();\n", ""), ending()),
    Fault(
        "residual read without a barrier", COPY, COPY.replace("            sync_warp();\n", ""), ending(residual=True)
    ),
    Fault(
        "residual read before it is there",
        COPY,
        COPY.replace("            cp_async_wait<0>();\n", ""),
        ending(residual=True),
    ),
    Fault(
        "shuffled to the wrong column",
        "e.shuffle + phase - phase_y * e.shuffle;",
        "e.shuffle + phase_y;",
        ending(shuffle=2),
    ),
    Fault("shuffled to the wrong row", "* e.shuffle + phase_y,", "* e.shuffle,", ending(shuffle=2)),
    Fault(
        "shuffled without distance",
        "2LL * e_.shuffle * e_.out.row_stride",
        "2LL * e_.out.row_stride",
        ending(shuffle=2),
    ),
    Fault("a column too many", "column + half * 8 < wide ?", "column + half * 8 <= wide ?", ending()),
    Fault("a row too many", "< wide ? high - first_y : 0", "< wide ? high - first_y + 1 : 0", ending()),
    Fault("activation left out", "(prelu || e.act == Act::none)", "true", general(0)),
    Fault("gain left out", "(residual || e.gain == 1.f)", "true", general(1)),
    Fault("clamp left out", "!e.clamp && ", "", general(2)),
    Fault("clamp left out after a residual", "!e.clamp && ", "(residual || !e.clamp) && ", general(3)),
    Fault("narrow phases as wide ones", "% 64 == 0 &&", "% 16 == 0 &&", general(4)),
    Fault("enlarged residual as a whole one", "e.residual_factor == 1 && ", "", general(5)),
    Fault("PReLU for none", "E == Ending::prelu || E == Ending::prelu_residual", "E != Ending::general", ending()),
    Fault("result over weights in use", "(part < 2 ? part : part + 1)", "(part + 1)", ending()),
    Fault("residual over weights in use", "steps - (part == 1 ? 1 : 2)", "steps - 2", ending(residual=True)),
    Fault("two warps' results in one place", "(part < 2 ? part : part + 1)", "(part % 2)", ending(LARGE)),
    Fault("pair's residual over the halo", "s == P::STEPS - 2", "s == P::STEPS / 2 - 1", pair(residual=True)),
    Fault("pair's residual left out", "s == P::STEPS - 2", "s == P::STEPS", pair(residual=True)),
    Fault("pair's result over the middle", "P::TILE, P::TILE, halo + warp", "P::TILE, P::TILE, middle + warp", pair()),
    Fault("pair's rows beyond its own", "P::TILE, P::TILE, halo + warp", "16, P::TILE, halo + warp", pair()),
    Fault("pair's columns beyond its own", "P::TILE, P::TILE, halo + warp", "P::TILE, 16, halo + warp", pair()),
    Fault("48 channels: bias of the first row", "ldg128(e.bias + at)", "ldg128(e.bias + at % 12)", phases()),
    Fault("48 channels: no gain", "as_float(bias.w[j]), e.gain)", "as_float(bias.w[j]), 1.f)", phases()),
    Fault(
        "48 channels: no residual", "if (e.residual.data) v[i + j] =", "if (false) v[i + j] =", phases(residual=True)
    ),
    Fault("48 channels: residual of red", "added[(i + j) % 3]", "added[0]", phases(residual=True)),
    Fault("48 channels: all rows in one", "y * 4 + row, x * 4, 0)", "y * 4, x * 4, 0)", phases()),
    Fault(
        "48 channels: sums of a chunk's first half",
        "sums_at<BO>(pixel, at / 8) + at % 8 * 4)",
        "sums_at<BO>(pixel, at / 8))",
        phases(),
    ),
    Fault(
        "48 channels: last row left out",
        "if (y >= t.height || x >= t.width) return;\n    float",
        "if (y + 1 >= t.height || x >= t.width) return;\n    float",
        phases(),
    ),
    Fault(
        "48 channels: last column left out",
        "if (y >= t.height || x >= t.width) return;\n    float",
        "if (y >= t.height || x + 1 >= t.width) return;\n    float",
        phases(),
    ),
    Fault("48 channels: activation left out", "e.act == Act::none && (!e.residual", "(!e.residual", general(6)),
    Fault("48 channels: whole residual as an enlarged one", "|| e.residual_factor == 4)", "|| true)", general(7)),
    Fault(
        "pixels: clamp left out",
        "    if (e.clamp)\n#pragma unroll\n        for (int i = 0; i < COUNT",
        "    if (false)\n#pragma unroll\n        for (int i = 0; i < COUNT",
        phases(),
    ),
    Fault(
        "pixels: two in one",
        "out[i / 3 * e.out.pixel_stride + i % 3] = static_cast<uint16_t>(pack2",
        "out[i % 3] = static_cast<uint16_t>(pack2",
        phases(),
    ),
    Fault(
        "pixels: bytes without their steps",
        "round_int(limit(v[i] * e.steps, 0.f, 255.f))",
        "round_int(limit(v[i], 0.f, 255.f))",
        phases(torch.uint8),
    ),
    Fault(
        "pixels: bytes without a limit",
        "limit(v[i] * e.steps, 0.f, 255.f)",
        "limit(v[i] * e.steps, 0.f, 510.f)",
        phases(torch.uint8),
    ),
    Fault(
        "pixels: words with the limit of bytes",
        "v[i] * e.steps, 0.f, 65535.f",
        "v[i] * e.steps, 0.f, 255.f",
        phases(torch.uint16),
    ),
    Fault("pixels: what is not finite is not told", "if (!whole) raise_flag(e.flag);", "", phases(torch.uint8)),
)
