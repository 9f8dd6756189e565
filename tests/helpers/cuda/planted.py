"""Faults to plant in the sources of the kernels' special endings, and a module that has the kernels once with each.

What changes is a piece of the source that must be there once, so a fault cannot outlive the code that it was in.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from srfast.kernels.cuda.pack import Variant
from tests.helpers.cuda import emulation
from tests.helpers.cuda.endings import GENERAL, check_conv, check_ending, check_pair_ending
from tests.helpers.cuda.problems import HALF, problem

NAME = "srfast_cuda_planted"
SOURCES = ("ending.cuh", "pixels_end.cuh", "tile_end.cuh", "conv_mma.cuh", "pair_mma.cuh")
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


@dataclass(frozen=True)
class Fault:
    """A wrong piece of source and the check that finds it.

    Attributes:
        kind: what is wrong, in words.
        old, new: text that occurs once in ``SOURCES``, and what takes its place.
    """

    kind: str
    old: str
    new: str
    check: Callable[[], None]

    @property
    def of_pair(self) -> bool:
        """Whether the kernel that it is in is that of fused pairs."""
        return self.old in (emulation.REPOSITORY / "csrc" / "cuda" / "pair_mma.cuh").read_text()


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
)


def header() -> str:
    """The text of ``planted.h``, see csrc/emulation/planted.cpp; number 0 is the code as it is."""
    folder = emulation.REPOSITORY / "csrc" / "cuda"
    lines = [line for name in SOURCES for line in (folder / name).read_text().splitlines(keepends=True)]
    text = "".join(line for line in lines if not line.startswith(("#include", "#pragma once")))
    # A fault may leave a variable without use.
    parts = ['#pragma GCC diagnostic ignored "-Wunused-but-set-variable"\n#include "../cuda/kernels.h"\n']
    runs = []
    for number, fault in enumerate((None, *FAULTS)):
        changed = text
        if fault:
            assert text.count(fault.old) == 1, f"{fault.kind}: {fault.old!r} is {text.count(fault.old)} times there"
            changed = text.replace(fault.old, fault.new)
        space = f"planted_{number}"
        changed = changed.replace("namespace srfast {", f"namespace srfast::{space} {{")
        parts.append(f'{changed}\nnamespace srfast::{space} {{\n#include "planted_run.h"\n}}\n')
        # A kernel that a fault is not in is taken from number 0.
        has_pair = fault is None or fault.of_pair
        has_conv = not has_pair or fault is None
        runs.append(
            f"    {{srfast::planted_{number * has_conv}::run_planted_conv, "
            f"srfast::planted_{number * has_pair}::run_pair<srfast::Half>}},\n"
        )
    parts.append(
        "static const struct {\n    int (*conv)(const srfast::Variant&, const srfast::ConvParams&, const srfast::Stream&);\n"
        "    int (*pair)(const srfast::PairParams&, const srfast::Stream&);\n} RUNS[] = {\n" + "".join(runs) + "};\n"
    )
    return "".join(parts)


def build() -> Path:
    """The compiled module."""
    folder = emulation.REPOSITORY / "build" / "planted"
    return emulation.build(folder, ("planted.cpp", "fiber_switch.cpp"), NAME, header=("planted.h", header()))


def plant(module: Path, number: int) -> None:
    """From now on the module's kernels have this one of ``FAULTS``, counted from 1, or none."""
    ctypes.CDLL(str(module)).srfast_plant(number)
