"""Prints what the endings of all compiled CUDA kernels cost, as Markdown tables, without a GPU.

    python -m srfast.kernels.tools.cycle_table [--module path/to/_cuda.so] [--before path/to/older/_cuda.so]

An ending is what follows a tile's or a row's last product: until the thread ends or the next product begins. Of each kernel and
architecture the path of the fewest issue cycles is walked that stores as many times as a thread of a whole tile does. Cells hold
half and, where it differs, bfloat16; with ``--before`` first what an older module has for the same work, where that differs.
Instructions are counted from the machine code; cycles are predictions of the model that ``sass_cycles`` states.
"""

# ruff: noqa: T201

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from srfast.kernels.tools.cuda_gate import Kernel, chosen, kernels, parser_of
from srfast.kernels.tools.sass_cycles import Walk, matches, parse, walk_past

ENDINGS = ("general", "plain", "prelu", "residual", "prelu_residual", "phases")  # enum Ending of csrc/cuda/ending.cuh
WINDOWS = ("copied", "shifted", "held", "offset")  # enum Window of csrc/cuda/hopper.h
STORE, LOAD = (
    r"STG\.E\.128",
    r"LDG\.E\.128",
)  # 16 bytes of a result; of a residual that the kernel in front may have written
VALUE = r"STG\.E\.U16"  # one value of a result
BYTES = r"STG\.E\.64"  # eight values of a result as bytes
PIXELS = (VALUE,) * 48  # what a thread stores of 48 channels that are pixels of three
Key = tuple[str, str]  # kernel with its form, ending


@dataclass(frozen=True)
class Route:
    """A way through a kernel's machine code.

    Attributes:
        start: a regular expression; the path begins at its last match.
        via, stop: see ``walk_past``.
    """

    start: str
    via: tuple[str, ...]
    stop: str


def numbers(kernel: Kernel) -> list[int]:
    """The integers, truth values and enumerators among a kernel's template arguments, in their order."""
    return [int(number) for number in re.findall(r"L(?:i|b|N\w*?E)(\d+)", kernel.name)]


def paths(kernel: Kernel) -> Iterator[tuple[Key, Route]]:
    """What to walk of a kernel, by name; nothing of those without an ending."""
    given, family = numbers(kernel), kernel.family
    if family in ("conv_mma", "conv_few_channels"):
        shape = given[-8:-1] if "6Ending" in kernel.name else given[-7:]
        block_c, block_o, side, height, width, warps_p, warps_o = shape
        turns = height * width * block_o // 8 // (warps_p * warps_o * 32)
        if family == "conv_few_channels":
            name = f"{family} pixels of {given[0]}"
        else:
            name = f"{family} {f'{side}x{side}' if side else 'any'}, {block_c} to {block_o}, {height}x{width}"
        yield from _tiled(kernel, name, "HMMA", turns, "EXIT")
    elif family == "pair_mma":
        special = "6Ending" in kernel.name and given[-1]
        yield from _tiled(kernel, family, "HMMA", 8 if special else 14 * 16 * 8 // 256, "EXIT")
    elif family in ("conv_held", "pair_wgmma"):
        yield from _tiled(kernel, family, r"WARPGROUP\.DEPBAR", 4, "HGMMA.*")
    elif family == "conv_int8":
        yield (family, ENDINGS[given[-1]]), Route(r"WARPGROUP\.DEPBAR", (STORE, BYTES) * 4, "IGMMA.*")
    elif family == "conv_wgmma":
        yield from _tiled(
            kernel, f"{family} {WINDOWS[given[0]]}", r"WARPGROUP\.DEPBAR", 8 if given[0] in (1, 3) else 4, "HGMMA.*"
        )
    elif family == "tail_mma":
        columns, few = given[0], given[1:] == [1]
        turns = -(-4 * (columns - 4) * 12 // 256)
        via = (VALUE,) * 6 if few else ((r"LDS",) * 5 + (VALUE,)) * turns
        yield (f"{family} {columns} columns", "few" if few else "general"), Route("HMMA", via * 2, "(HMMA.*|EXIT)")
    elif family == "tail_wgmma":
        few = bool(given and given[-1])
        via = (VALUE,) * 6 if few else ((r"LDS",) * 5 + (VALUE,)) * 5
        yield (family, "few" if few else "general"), Route(r"WARPGROUP\.DEPBAR", via * 2, "EXIT")


def _tiled(kernel: Kernel, name: str, start: str, stores: int, stop: str) -> Iterator[tuple[Key, Route]]:
    """Of the general ending also with a residual, which it loads where it needs it."""
    ending = ENDINGS[numbers(kernel)[-1]] if "6Ending" in kernel.name else "general"
    yield (name, ending), Route(start, PIXELS if ending == "phases" else (STORE,) * stores, stop)
    if ending == "general":
        yield (name, "general, residual"), Route(start, (LOAD, STORE) * stores, stop)
    if ending == "general" and name == "conv_mma 3x3, 64 to 64, 8x16":
        yield (name, "general, phases"), Route(start, PIXELS, stop)


def walks(module: Path, arch: str, lenient: bool = False) -> dict[tuple[Key, str], Walk]:
    """The cheapest way through every ending of a module, by kernel, ending and type.

    Raises:
        ValueError: a kernel has no such way, as its code is not what ``paths`` says; ``lenient`` leaves it out.
    """
    found = {}
    for kernel in kernels(module, arch):
        kind = "half" if "4Half" in kernel.name else "bfloat16"
        code = parse(kernel.sass)
        for key, path in paths(kernel):
            places = matches(code, path.start)
            try:
                if not places:
                    raise ValueError(f"there is no {path.start}")
                found[key, kind] = walk_past(code, places[-1], path.via, path.stop)
            except ValueError as error:
                if lenient:
                    continue
                raise ValueError(f"sm_{arch} {key} {kind}: {error}") from error
    return found


def older(key: Key, known: dict[tuple[Key, str], Walk]) -> Key | None:
    """What did the work of an ending in an older module: the same, or the general ending."""
    name, ending = key
    return next((k for k in ((name, ending), (name, general_of(ending))) if (k, "half") in known), None)


def general_of(ending: str) -> str:
    """The way through the general ending that does the work of a special one."""
    return "general, residual" if "residual" in ending else "general, phases" if ending == "phases" else "general"


def table(
    now: dict[str, dict[tuple[Key, str], Walk]], before: dict[str, dict[tuple[Key, str], Walk]], kind: str
) -> str:
    """Markdown: a row for each kernel and ending, a column for each architecture; ``kind``: "cycles" or "instructions"."""
    keys = sorted({key for walked in now.values() for key, _ in walked})
    lines = [f"| kernel | ending | {' | '.join(f'sm_{arch}' for arch in now)} |", "|---|---|" + "---|" * len(now)]
    for key in keys:
        cells = []
        for arch, walked in now.items():
            cell = _cell(walked, key, kind)
            known = before.get(arch, {})
            source = older(key, known) if cell else None
            old = _cell(known, source, kind) if source else cell
            cells.append(f"{old} → {cell}" if old != cell else cell or "-")
        lines.append(f"| {key[0]} | {key[1]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(walked: dict[tuple[Key, str], Walk], key: Key, kind: str) -> str:
    """Half and, where it differs, bfloat16; empty if there is no such kernel."""
    values = [f"{getattr(walked[key, t], kind):,}" for t in ("half", "bfloat16") if (key, t) in walked]
    return " / ".join(dict.fromkeys(values))


def main(arguments: list[str] | None = None) -> int:
    """Prints the tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--before", type=Path, help="an older one, to compare with")
    options = parser.parse_args(arguments)
    found = chosen(options)
    if found is None:
        return 0
    module, archs = found
    now = {arch: walks(module, arch) for arch in archs}
    before = {arch: walks(options.before, arch, lenient=True) for arch in archs} if options.before else {}
    print(f"Cycles (predicted):\n\n{table(now, before, 'cycles')}\n")
    print(f"Instructions on the same paths (counted):\n\n{table(now, before, 'instructions')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
