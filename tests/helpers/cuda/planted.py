"""Faults to plant in the sources of the kernels' special endings and of the convolution in 8 bits, and a module with each.

What changes is a piece of the source that must be there once, so a fault cannot outlive the code that it was in.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from srfast.kernels.cuda.pack import Variant
from tests.helpers.cuda import emulation
from tests.helpers.cuda.endings import GENERAL, check_conv, check_ending, check_pair_ending
from tests.helpers.cuda.int8 import check_int8
from tests.helpers.cuda.problems import HALF, problem

NAME = "srfast_cuda_planted"
SOURCES = ("ending.cuh", "tile_end.cuh", "conv_mma.cuh", "pair_mma.cuh")
INT8_SOURCES = ("ending.cuh", "row_end.cuh", "strips.cuh", "conv_held.cuh", "bytes.cuh", "conv_int8.cuh")
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
def int8(**options: Any) -> Callable[[], None]:
    """The check of a convolution in 8 bits with strips that are cut on the right and below."""
    return lambda: check_int8((5, 67), **options)


@dataclass(frozen=True)
class Fault:
    """A wrong piece of source and the check that finds it.

    Attributes:
        kind: what is wrong, in words.
        old, new: text that occurs once in ``SOURCES``, or in ``INT8_SOURCES``, and what takes its place.
        int8: the fault is in the convolution in 8 bits.
    """

    kind: str
    old: str
    new: str
    check: Callable[[], None]
    int8: bool = False

    @property
    def of_pair(self) -> bool:
        """Whether the kernel that it is in is that of fused pairs."""
        return self.old in (emulation.REPOSITORY / "csrc" / "cuda" / "pair_mma.cuh").read_text()


RUN = '#include "planted_run.h"\n'
BARRIER = "        sync_warp();\n        char* base"
COPY = """            cp_async_wait<0>();
            sync_warp();
"""
FAULTS = (
    Fault(
        "bias of the next column",
        "e_.bias + first_channel_ + j * 8 + i",
        "e_.bias + first_channel_ + j * 8 + 1 - i",
        ending(),
    ),
    Fault("bias of the other warp", "+ warp % S::WARPS_O * 32 + lane % 4 * 2;", "+ lane % 4 * 2;", ending()),
    Fault(
        "slope of the next column",
        "e_.slope + first_channel_ + j * 8 + i",
        "e_.slope + first_channel_ + j * 8",
        ending(prelu=True),
    ),
    Fault(
        "no residual",
        "rounded_sum(rounded_product(v[i], e_.gain), i ? r.hi : r.lo)",
        "rounded_product(v[i], e_.gain)",
        ending(residual=True),
    ),
    Fault("no gain", "rounded_sum(rounded_product(v[i], e_.gain),", "rounded_sum(v[i],", ending(residual=True)),
    Fault("residual's halves exchanged", "i ? r.hi : r.lo", "i ? r.lo : r.hi", ending(residual=True)),
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
    Fault("zeros outside of bytes", "p.zero * 0x01010101u", "0", int8(), int8=True),
    Fault("byte outside once", "p.zero * 0x01010101u", "static_cast<uint32_t>(p.zero)", int8(), int8=True),
    Fault("sums that begin at zero", "sums[i] = start[i / 2 % 2]", "sums[i] = 0", int8(), int8=True),
    Fault("start of the other row", "sums[i] = start[i / 2 % 2]", "sums[i] = start[1 - i / 2 % 2]", int8(), int8=True),
    Fault(
        "scale of the other row",
        "fused(sum, scale_[half], bias_[half])",
        "fused(sum, scale_[1 - half], bias_[half])",
        int8(),
        int8=True,
    ),
    Fault(
        "starts of one warp",
        "block_o * 64 + t / 32 * 16 + t % 32 / 4, group",
        "block_o * 64 + t % 32 / 4, group",
        int8(),
        int8=True,
    ),
    Fault(
        "starts of one block",
        "channel = block_o * 64 + t / 32 * 16 + t % 32 / 4, group",
        "channel = t / 32 * 16 + t % 32 / 4, group",
        int8(shuffle=2),
        int8=True,
    ),
    Fault(
        "planes in another order",
        "step % TAP * 2 * H::PLANE_BYTES",
        "(TAP - 1 - step % TAP) * 2 * H::PLANE_BYTES",
        int8(),
        int8=True,
    ),
    Fault(
        "columns of the kernel exchanged",
        "pixels + step / TAP * 16",
        "pixels + (2 - step / TAP) * 16",
        int8(),
        int8=True,
    ),
    Fault(
        "planes too far apart",
        "static_cast<uint64_t>(PITCH) << 16",
        "static_cast<uint64_t>(PITCH + 1) << 16",
        int8(),
        int8=True,
    ),
    Fault("chunks of eight bytes", "CHUNK = 16 / sizeof(Element), ", "CHUNK = 8, ", int8(), int8=True),
    Fault(
        "rows read before they are there", "if (--missing == 0) cp_async_wait<0>();", "--missing;", int8(), int8=True
    ),
    Fault(
        "rows without a fence",
        "        copies_see_writes();\n        sync_warp();",
        "        sync_warp();",
        int8(),
        int8=True,
    ),
    Fault(
        "bytes in another order",
        "byte(a.lo), byte(a.hi), byte(b.lo), byte(b.hi)",
        "byte(a.hi), byte(a.lo), byte(b.lo), byte(b.hi)",
        int8(),
        int8=True,
    ),
    Fault(
        "bytes cut off",
        "fused_share(value, gain, offset)",
        "fused(value, gain, offset)",
        int8(residual=True),
        int8=True,
    ),
    Fault("bytes without their zero", "offset(v.offset)", "offset(0.f)", int8(), int8=True),
    Fault(
        "bytes of the wrong phase",
        "x0 * e_.shuffle + this->x_, this->channel_",
        "x0 * e_.shuffle, this->channel_",
        int8(shuffle=2),
        int8=True,
    ),
    Fault("bytes of one row", "        bytes_ += row_;\n", "", int8(), int8=True),
    Fault(
        "bytes beside the image",
        "bytes_left = b_.view.data ? this->left_ : 0",
        "bytes_left = b_.view.data ? N : 0",
        int8(),
        int8=True,
    ),
    Fault(
        "16-bit values nobody wants",
        "halves_left = e_.out.data ? this->left_ : 0",
        "halves_left = this->left_ - (e_.out.data ? 16 : 0)",
        int8(),
        int8=True,
    ),
    Fault(
        "8-bit residual left out",
        "rounded_sum(rounded_product(v[i], gain_), i ? r.hi : r.lo)",
        "rounded_product(v[i], gain_)",
        int8(residual=True),
        int8=True,
    ),
)


def header() -> str:
    """The text of ``planted.h``, see csrc/emulation/planted.cpp; number 0 is the code as it is."""
    # A fault may leave a variable without use.
    parts = ['#pragma GCC diagnostic ignored "-Wunused-but-set-variable"\n#include "../cuda/hopper.h"\n']
    parts += [_space("whole_int8", _text(INT8_SOURCES), ""), _space("whole", _text(SOURCES), RUN)]
    runs = [("whole", "whole", "whole_int8")]
    for number, fault in enumerate(FAULTS):
        text = _text(INT8_SOURCES if fault.int8 else SOURCES)
        assert text.count(fault.old) == 1, f"{fault.kind}: {fault.old!r} is {text.count(fault.old)} times there"
        space = f"planted_{number}"
        parts.append(_space(space, text.replace(fault.old, fault.new), "" if fault.int8 else RUN))
        # A kernel that a fault is not in is taken whole.
        conv, pair = not fault.int8 and not fault.of_pair, not fault.int8 and fault.of_pair
        runs.append((space if conv else "whole", space if pair else "whole", space if fault.int8 else "whole_int8"))
    rows = [
        f"    {{srfast::{conv}::run_planted_conv, srfast::{pair}::run_pair<srfast::Half>, "
        f"srfast::{int8}::run_conv_int8<srfast::Half>, srfast::{int8}::run_quantize<srfast::Half>}},\n"
        for conv, pair, int8 in runs
    ]
    parts.append(
        "static const struct {\n    int (*conv)(const srfast::Variant&, const srfast::ConvParams&, const srfast::Stream&);\n"
        "    int (*pair)(const srfast::PairParams&, const srfast::Stream&);\n"
        "    int (*int8)(const srfast::Int8Params&, int, const srfast::Stream&);\n"
        "    int (*quantize)(const srfast::QuantizeParams&, const srfast::Stream&);\n} RUNS[] = {\n"
        + "".join(rows)
        + "};\n"
    )
    return "".join(parts)


def _text(sources: tuple[str, ...]) -> str:
    folder = emulation.REPOSITORY / "csrc" / "cuda"
    lines = [line for name in sources for line in (folder / name).read_text().splitlines(keepends=True)]
    return "".join(line for line in lines if not line.startswith(("#include", "#pragma once")))


def _space(name: str, text: str, run: str) -> str:
    """The sources in a namespace of their own, with what runs them."""
    inside = text.replace("namespace srfast {", f"namespace srfast::{name} {{")
    return f"{inside}\nnamespace srfast::{name} {{\n{run}}}\n"


def build() -> Path:
    """The compiled module."""
    folder = emulation.REPOSITORY / "build" / "planted"
    return emulation.build(folder, ("planted.cpp", "fiber_switch.cpp"), NAME, header=("planted.h", header()))


def plant(module: Path, number: int) -> None:
    """From now on the module's kernels have this one of ``FAULTS``, counted from 1, or none."""
    ctypes.CDLL(str(module)).srfast_plant(number)
