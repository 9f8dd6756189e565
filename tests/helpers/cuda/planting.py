"""Kernels once with each of some faults in their sources, as one module for the host.

What changes is a piece of the source that must be there once, so a fault cannot outlive the code that it was in.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.helpers.cuda import emulation

NAME = "srfast_cuda_planted"
# Of each kernel the sources in which faults are planted. A kernel needs those of the kernels before it as well. "tail_rows": the
# network's tail on Hopper, whose sources are among those of "rows".
SOURCES = {
    "conv": ("ending.cuh", "pixels_end.cuh", "tile_end.cuh", "conv_mma.cuh"),
    "pair": ("pair_mma.cuh",),
    "tail": ("tail_end.cuh", "tail_mma.cuh"),
    "rows": (
        "row_end.cuh",
        "strips.cuh",
        "conv_held.cuh",
        "conv_wgmma.cuh",
        "pair_wgmma.cuh",
        "tail_wgmma.cuh",
        "hopper.cuh",
    ),
    "tail_rows": (),
    "int8": ("bytes.cuh", "conv_int8.cuh"),
}
# The functions that run each, in a namespace; and where they are in a file of csrc/emulation, that one.
RUN = {
    "conv": (("run_planted_conv",), "planted_run.h"),
    "pair": (("run_pair<srfast::Half>",), ""),
    "tail": (("launch_tail<srfast::Half, {space}::TailShape<16>>",), ""),
    "rows": (("run_any_row<>",), "planted_rows.h"),
    "tail_rows": (("run_tail_hopper<srfast::Half>",), ""),
    "int8": (("run_conv_int8<srfast::Half>", "run_quantize<srfast::Half>"), ""),
}
TYPES = """    int (*conv)(const srfast::Variant&, const srfast::ConvParams&, const srfast::Stream&);
    int (*pair)(const srfast::PairParams&, const srfast::Stream&);
    int (*tail)(srfast::TailParams, const srfast::Stream&);
    int (*rows)(const srfast::ConvParams&, srfast::Window, int, int, const srfast::Stream&);
    int (*tail_rows)(const srfast::TailParams&, const srfast::Stream&);
    int (*int8)(const srfast::Int8Params&, int, const srfast::Stream&);
    int (*quantize)(const srfast::QuantizeParams&, const srfast::Stream&);
"""


@dataclass(frozen=True)
class Fault:
    """A wrong piece of source and the check that finds it.

    Attributes:
        kind: what is wrong, in words.
        old, new: text that occurs once in ``SOURCES``, and what takes its place.
        check: fails where the fault is.
        run: how the kernel is run that has the fault, by default as ``RUN`` says; in its namespace.
        through: the kernel that is run with the fault, where that is another one which shares the sources.
    """

    kind: str
    old: str
    new: str
    check: Callable[[], None]
    run: str = ""
    through: str = ""

    @property
    def kernel(self) -> str:
        """The kernel that is run with it."""
        owner = next((kernel for kernel in SOURCES if self.old in _text(kernel)), None)
        kernel = self.through or owner
        count = "".join(map(_text, _needed(kernel))).count(self.old) if kernel else 0
        assert kernel and count == 1, f"{self.kind}: {self.old!r} is {count} times there"
        return kernel


@cache
def _text(kernel: str) -> str:
    folder = emulation.REPOSITORY / "csrc" / "cuda"
    lines = [line for name in SOURCES[kernel] for line in (folder / name).read_text().splitlines(keepends=True)]
    return "".join(line for line in lines if not line.startswith(("#include", "#pragma once")))


def _needed(*kernels: str) -> list[str]:
    """The kernels up to the last of these."""
    every = list(SOURCES)
    return every[: max(map(every.index, kernels)) + 1]


def _space(number: int, kernels: Sequence[str], fault: Fault | None) -> str:
    """The namespace of a fault with ``kernels``, the last of which has it; number 0 is the code as it is."""
    text = "".join(map(_text, _needed(*kernels)))
    if fault:
        text = text.replace(fault.old, fault.new)
    space = f"srfast::planted_{number}"
    includes = "".join(f'#include "{RUN[kernel][1]}"\n' for kernel in kernels if RUN[kernel][1])
    return f"{text.replace('namespace srfast {', f'namespace {space} {{')}\nnamespace {space} {{\n{includes}}}\n"


def header(faults: Sequence[Fault]) -> str:
    """The text of ``planted.h``, see csrc/emulation/planted.cpp."""
    # A fault may leave a variable without use.
    parts = [
        '#pragma GCC diagnostic ignored "-Wunused-but-set-variable"\n#pragma GCC diagnostic ignored "-Wunused-variable"\n'
        '#include "../cuda/hopper.h"\n#include "../cuda/hopper_ptx.cuh"\n',
        _space(0, list(SOURCES), None),
    ]
    runs = []
    for number, fault in enumerate((None, *faults)):
        if fault:
            parts.append(_space(number, [fault.kernel], fault))
        named = []
        for kernel, (names, _) in RUN.items():
            # A kernel that a fault is not in is taken from number 0.
            here = fault is not None and fault.kernel == kernel
            space = f"srfast::planted_{number if here else 0}"
            if fault is not None and here and fault.run:
                names = (fault.run,)
            named += [f"{space}::{name.replace('{space}', space)}" for name in names]
        runs.append(f"    {{{', '.join(named)}}},\n")
    return "".join([*parts, f"static const struct {{\n{TYPES}}} RUNS[] = {{\n", *runs, "};\n"])


def build(faults: Sequence[Fault]) -> Path:
    """The compiled module."""
    folder = emulation.REPOSITORY / "build" / "planted"
    return emulation.build(folder, ("planted.cpp", "fiber_switch.cpp"), NAME, header=("planted.h", header(faults)))


def plant(module: Path, number: int) -> None:
    """From now on the module's kernels have this one of the faults, counted from 1, or none."""
    ctypes.CDLL(str(module)).srfast_plant(number)
