"""Counts the cycles that one warp needs along a path through a kernel's machine code, without a GPU.

    python -m srfast.kernels.tools.sass_cycles conv_held --module path/to/_cuda.so
    python -m srfast.kernels.tools.sass_cycles "conv_held.*Ending1" --module conv_held.cubin --take 0x3a10*3,0x2f00

The compiler writes into each instruction how long the next one must wait and which results of earlier ones it needs. The path
is walked with these numbers and one latency for each kind of instruction whose time is not known before it runs
(``LATENCIES``). What comes out is a prediction for a warp that has a scheduler to itself, as the warps of the Hopper kernels do
while their products are made; it knows no bank conflicts, no caches that miss and no other warps.

By default the path begins at the last wait for wgmma and ends at the next product: what a warpgroup does between two rows.
Branches forward are not taken, the one that leads back to the products is; ``--take`` decides others, so many times each.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heapify, heappop, heappush
from math import inf
from pathlib import Path

from srfast.kernels.tools.cuda_gate import cuobjdump

# Cycles until a result is there, on Hopper (published microbenchmarks, rounded). LDG is read from the L2 cache; of what the
# kernel cannot change (LDG.CONSTANT) the L1 cache is asked, where weights of the epilogue stay.
LATENCIES = {
    "LDG": 280,
    "LDG.CONSTANT": 40,
    "LDS": 30,
    "LDSM": 33,
    "LDC": 40,
    "STS": 20,
    "STSM": 25,
    "MUFU": 24,
    "I2F": 20,
    "F2I": 20,
    "BAR": 30,
    "SHFL": 25,
    "S2R": 25,
    "ATOM": 600,
}
OTHER_LATENCY = 30
READ_LATENCY = 12  # until an instruction has read its operands and their registers may be written
TAKEN = 12  # of a branch that is taken
LIMIT = 50_000  # instructions of a path; more is a loop that nothing ends


@dataclass(frozen=True)
class Instruction:
    """One machine instruction and the compiler's notes to the scheduler.

    Attributes:
        stall: cycles until the next instruction may start.
        sets, read: numbers of the scoreboards that its result and its reading of operands release; 7: none.
        awaits: bits of the scoreboards that it waits for.
    """

    address: int
    text: str
    stall: int
    sets: int
    read: int
    awaits: int

    @cached_property
    def name(self) -> str:
        """Of the operation, without a predicate, such as "LDG.E.128"."""
        return re.sub(r"^@!?U?P\w+\s+", "", self.text).split()[0]

    @cached_property
    def target(self) -> int | None:
        """Where a branch leads, or a call, by which the compiler also leaves loops; None of other instructions."""
        found = re.search(r"\b(?:0x([0-9a-f]+)|`\(\S+\))\s*$", self.text)
        return int(found[1], 16) if self.name.split(".")[0] in ("BRA", "CALL") and found and found[1] else None

    @property
    def conditional(self) -> bool:
        """Whether a branch, or another way out, depends on a predicate."""
        return self.text.startswith("@") or "P" in self.text.split(None, 1)[-1].split(",")[0]


@dataclass(frozen=True)
class Walk:
    """What a path costs.

    Attributes:
        waits: (cycles, instruction) for each wait for a result of more than a cycle, the longest first.
        branches: address of each conditional branch that was met, and how often it was taken and not taken.
    """

    cycles: int
    counts: Counter[str]
    waits: list[tuple[int, Instruction]]
    branches: dict[int, tuple[int, int]]

    @property
    def instructions(self) -> int:
        """Return how many instructions were walked."""
        return sum(self.counts.values())


def parse(sass: str) -> list[Instruction]:
    """The instructions of one function, from the text of ``cuobjdump -sass`` for compute capability 7.0 and later."""
    found = re.findall(
        r"/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;\s*/\* 0x[0-9a-f]{16} \*/\s*/\* 0x([0-9a-f]{16}) \*/", sass, re.DOTALL
    )
    result = []
    for address, text, word in found:
        notes = int(word, 16) >> 41
        result.append(Instruction(int(address, 16), text, notes & 15, notes >> 5 & 7, notes >> 8 & 7, notes >> 11 & 63))
    return result


def latency(instruction: Instruction, latencies: Mapping[str, int] = LATENCIES) -> int:
    """Cycles until an instruction's result is there."""
    kind = instruction.name.split(".")[0]
    if kind == "LDG" and "CONSTANT" in instruction.name:
        kind = "LDG.CONSTANT"
    return latencies.get(kind, OTHER_LATENCY)


def walk(
    code: list[Instruction],
    start: int,
    stop: str,
    take: Mapping[int, int] | None = None,
    latencies: Mapping[str, int] = LATENCIES,
) -> Walk:
    """Follows the path from an address to the next instruction whose name matches.

    Args:
        stop: a regular expression; the instruction that it matches is not counted.
        take: how often to take conditional branches, by address; -1 always. Others are taken if they lead back and no
            further than to where the path may still end, that is, at the loop around it.

    Raises:
        ValueError: the path leaves the function or does not end.
    """
    left = dict(take or {})

    def taken(now: Instruction, to: int) -> bool:
        rest = left.get(now.address)
        if rest is None:
            leads_back = any(re.match(stop, i.name) for i in code if to <= i.address <= now.address)
            return to <= now.address and leads_back
        if rest > 0:
            left[now.address] = rest - 1
        return rest != 0

    return _follow(code, start, lambda now: re.match(stop, now.name) is not None, taken, latencies)


def walk_past(
    code: list[Instruction],
    start: int,
    via: Sequence[str],
    stop: str,
    latencies: Mapping[str, int] = LATENCIES,
) -> Walk:
    """Follows the path of the fewest issue cycles past instructions in the order given.

    Args:
        via, stop: regular expressions of whole names. The path goes past an instruction of each of ``via`` and ends before one of
            ``stop``, or at an EXIT without a predicate where that matches.

    Raises:
        ValueError: there is no such path.
    """
    costs = _costs(code, via, stop)
    places = {instruction.address: i for i, instruction in enumerate(code)}
    stage = 0

    def ended(now: Instruction) -> bool:
        nonlocal stage
        if stage == len(via):
            return _ends(now, stop)
        stage += re.fullmatch(via[stage], now.name) is not None
        return False

    def taken(now: Instruction, to: int) -> bool:
        return costs[stage][places[to]] + TAKEN < costs[stage][places[now.address] + 1]

    if start not in places:
        raise ValueError(f"no instruction is at {start:#x}")
    if costs[0][places[start]] == inf:
        raise ValueError(f"no path from {start:#x} leads past {', '.join(via)} to {stop}")
    return _follow(code, start, ended, taken, latencies)


def _ends(now: Instruction, stop: str) -> bool:
    return re.fullmatch(stop, now.name) is not None and not (now.name == "EXIT" and now.text.startswith("@"))


def _costs(code: list[Instruction], via: Sequence[str], stop: str) -> list[list[float]]:
    """Of each instruction, the issue cycles to the end when the first 0, 1 and on of ``via`` are behind; Dijkstra's algorithm."""
    places = {instruction.address: i for i, instruction in enumerate(code)}
    before: list[list[tuple[int, int]]] = [[] for _ in code]  # (instruction, cost of coming from it)
    for i, now in enumerate(code):
        cost = max(1, now.stall)
        if now.target is not None and now.target in places:
            before[places[now.target]].append((i, cost + TAKEN))
        leaves = now.target is not None or now.name.split(".")[0] in ("EXIT", "RET")
        goes_on = now.conditional if leaves else True
        if goes_on and i + 1 < len(code):
            before[i + 1].append((i, cost))
    costs = [[inf] * (len(code) + 1) for _ in range(len(via) + 1)]
    matching = {name: [re.fullmatch(name, now.name) is not None for now in code] for name in set(via)}
    for stage in range(len(via), -1, -1):
        here, last = costs[stage], stage == len(via)
        passes = [False] * len(code) if last else matching[via[stage]]
        for i, now in enumerate(code):
            if last and _ends(now, stop):
                here[i] = 0
            for j, step in before[i]:
                if passes[j]:  # from there on the next stage counts
                    here[j] = min(here[j], costs[stage + 1][i] + step)
        queue = [(cost, i) for i, cost in enumerate(here) if cost < inf]
        heapify(queue)
        while queue:
            least, i = heappop(queue)
            if least > here[i]:
                continue
            for j, step in before[i]:
                if not passes[j] and least + step < here[j]:
                    here[j] = least + step
                    heappush(queue, (here[j], j))
    return costs


def _follow(
    code: list[Instruction],
    start: int,
    ended: Callable[[Instruction], bool],
    decide: Callable[[Instruction, int], bool],
    latencies: Mapping[str, int],
) -> Walk:
    """Counts along the path from ``start`` on; ``decide`` says whether a conditional branch to an address is taken."""
    places = {instruction.address: i for i, instruction in enumerate(code)}
    if start not in places:
        raise ValueError(f"no instruction is at {start:#x}")
    time, here = 0, places[start]
    sets, reads = [0] * 6, [0] * 6
    counts: Counter[str] = Counter()
    waits: list[tuple[int, Instruction]] = []
    branches: dict[int, tuple[int, int]] = {}
    for _ in range(LIMIT):
        now = code[here]
        if ended(now) and counts:
            return Walk(time, counts, sorted(waits, key=lambda wait: -wait[0]), branches)
        counts[now.name.split(".")[0]] += 1
        ready = max((max(sets[i], reads[i]) for i in range(6) if now.awaits >> i & 1), default=0)
        if ready > time:
            waits.append((ready - time, now))
            time = ready
        if now.sets != 7:
            sets[now.sets] = max(sets[now.sets], time + latency(now, latencies))
        if now.read != 7:
            reads[now.read] = max(reads[now.read], time + READ_LATENCY)
        time += max(1, now.stall)
        here += 1
        if now.target is not None:
            if now.target not in places:
                raise ValueError(
                    f"the branch at {now.address:#x} leads to {now.target:#x}, which is not in the function"
                )
            taken = not now.conditional
            if now.conditional:
                taken = decide(now, now.target)
                yes, no = branches.get(now.address, (0, 0))
                branches[now.address] = (yes + taken, no + (not taken))
            if taken:
                time += TAKEN
                here = places[now.target]
        if here >= len(code) or (now.name == "EXIT" and not now.text.startswith("@")):
            raise ValueError(f"the path from {start:#x} leaves the function at {now.address:#x} before its end")
    raise ValueError(f"the path from {start:#x} does not end within {LIMIT} instructions; branches: {branches}")


def functions(module: Path, pattern: str) -> dict[str, list[Instruction]]:
    """The functions of a cubin or a compiled module whose mangled names contain a match of the pattern."""
    command = [str(cuobjdump()), "-sass", str(module)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parts = re.split(r"Function : (\S+)", text)
    return {name: parse(sass) for name, sass in zip(parts[1::2], parts[2::2], strict=True) if re.search(pattern, name)}


def matches(code: list[Instruction], pattern: str) -> list[int]:
    """Addresses of the instructions whose text, predicate included, contains a match."""
    return [instruction.address for instruction in code if re.search(pattern, instruction.text)]


def decisions(text: str) -> dict[int, int]:
    """ "0x3a10*3,0x2f00" as {0x3a10: 3, 0x2f00: -1}."""
    pairs = (part.partition("*") for part in text.split(",") if part)
    return {int(address, 16): int(times) if times else -1 for address, _, times in pairs}


def main(arguments: list[str] | None = None) -> int:
    """Prints a line for each function that matches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("function", help="a regular expression of the mangled name")
    parser.add_argument("--module", type=Path, required=True, help="a cubin, or the compiled module")
    parser.add_argument("--start", default=r"WARPGROUP\.DEPBAR", help="where the path begins: an address, or a match")
    parser.add_argument("--which", type=int, default=-1, help="of the matches, from 0; by default the last")
    parser.add_argument("--stop", default="HGMMA", help="name of the instruction where it ends")
    parser.add_argument("--take", type=decisions, default={}, help="branches to take, such as 0x3a10*3,0x2f00")
    parser.add_argument("--verbose", action="store_true", help="also instructions, waits and branches")
    options = parser.parse_args(arguments)
    found = functions(options.module, options.function)
    if not found:
        print(f"no function of {options.module} matches {options.function}")
        return 1
    for name, code in found.items():
        places = matches(code, options.start)
        start = int(options.start, 16) if options.start.startswith("0x") else places[options.which] if places else -1
        try:
            result = walk(code, start, options.stop, options.take)
        except (ValueError, IndexError) as error:
            print(f"{name}: {error}")
            continue
        print(f"{name}: {result.cycles} cycles, {result.instructions} instructions from {start:#x}")
        if options.verbose:
            print("  " + ", ".join(f"{count} {kind}" for kind, count in result.counts.most_common()))
            for cycles, waiting in result.waits[:12]:
                print(f"  waits {cycles:4d} at {waiting.address:#06x} {waiting.text}")
            for address, (yes, no) in result.branches.items():
                print(f"  branch at {address:#06x}: taken {yes}, not taken {no}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
