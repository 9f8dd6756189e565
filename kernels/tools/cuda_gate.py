"""Reads the machine code of the compiled CUDA kernels, without a GPU, and fails on bad code.

    python -m srfast.kernels.tools.cuda_gate [--arch 80,90a] [--module path/to/_cuda.so]

A kernel fails if it spills registers or uses local memory, waits for each wgmma alone, or misses what it was written for:
matrix instructions (those of Hopper in Hopper's kernels), asynchronous copies and 16-byte accesses. Shared memory is checked
against each chip's limit.
Needs ``srfast._cuda`` (nvcc to build it) and Triton's wheel, which carries cuobjdump.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from srfast.kernels.cuda.conv import shared_bytes
from srfast.kernels.cuda.pack import VARIANTS, pack_conv
from srfast.kernels.cuda.tail import FORMS, tail_bytes
from srfast.kernels.tools import SHARED_LIMIT

REGISTERS = 65_536
# Kernels, and the instructions that each must have.
WANTED = {
    "conv_mma": ("HMMA", "LDSM", r"LDGSTS\S*\.128", r"STG\S*\.128"),
    "conv_few_channels": ("HMMA", r"LDGSTS\S*\.128", r"STG\S*\.128"),
    "pair_mma": ("HMMA", "LDSM", r"LDGSTS\S*\.128", r"STG\S*\.128"),
    "tail_mma": ("HMMA", "LDSM", r"LDGSTS\S*\.128"),
    "conv_wgmma": ("HGMMA", "UTMALDG", r"STG\S*\.128"),
    "conv_held": ("HGMMA", r"LDG\S*\.128", r"LDGSTS\S*\.128", r"STG\S*\.128"),
    "pair_wgmma": ("HGMMA", "STSM", r"LDG\S*\.128", r"LDGSTS\S*\.128", r"STG\S*\.128"),
    "tail_wgmma": ("HGMMA", "STSM", "UBLKCP", r"LDGSTS\S*\.128"),
    "trunk_wgmma": ("HGMMA", "STSM", "LDSM", "UBLKCP", r"LDGSTS\S*\.128", r"STG\S*\.128", "MEMBAR", "RED"),
    "conv_int8": ("IGMMA", "STSM", r"LDG\S*\.128", r"LDGSTS\S*\.128", r"STG\S*\.128", r"STG\S*\.64"),
    "quantize": (r"LDG\S*\.128", r"STG\S*\.64"),
    "packed_in": (),
    "packed_out": (),
    "yuv_in": (),
    "yuv_out": (),
    "read_again": (r"LDG\S*\.128",),
    "matrix_rate": ("HGMMA",),
    "matrix_rate_held": ("HGMMA",),
}
# What instances for one ending (enum Ending of csrc/cuda/ending.cuh, from 1) must have besides, by its number; STSM from
# compute capability 9.0 on.
ENDINGS = {1: ("STSM",), 2: ("STSM",), 3: ("STSM", "LDSM"), 4: ("STSM", "LDSM"), 5: (r"LDS\S*\.128",)}
# Those that store pixels of three channels, value by value.
SMALL_STORES = (5,)
WARPGROUPS = ("conv_wgmma", "conv_held", "conv_int8", "pair_wgmma", "tail_wgmma", "trunk_wgmma")
HOPPER = {*WARPGROUPS, "quantize", "matrix_rate", "matrix_rate_held"}
THREADS = {"pair_mma": 256, "tail_mma": 256, "quantize": 256} | dict.fromkeys(WARPGROUPS, 384)


@dataclass(frozen=True)
class Kernel:
    """One kernel's machine code for one architecture."""

    arch: str
    name: str  # mangled
    usage: dict[str, int]  # REG, STACK and LOCAL of a thread
    sass: str

    @property
    def family(self) -> str:
        """Name of the function template; empty for an unknown one."""
        return next((name for name in WANTED if re.search(rf"\d{name}[IE]", self.name)), "")

    @property
    def wanted(self) -> tuple[str, ...]:
        """Instructions that it must have, as ``count`` takes them."""
        found = re.search(r"6EndingE(\d)", self.name)
        ending = int(found[1]) if found else 0
        wanted = WANTED[self.family] + ENDINGS.get(ending, ())
        without = {*(() if int(self.arch.rstrip("a")) >= 90 else ("STSM",))}
        without |= {r"STG\S*\.128"} if ending in SMALL_STORES else set()
        return tuple(name for name in wanted if name not in without)

    def count(self, instruction: str) -> int:
        """Occurrences of an instruction; a regular expression of its name's beginning."""
        return len(re.findall(rf"\s{instruction}", self.sass))


def faults(kernel: Kernel) -> list[str]:
    """What is wrong with a kernel's machine code."""
    found = []
    if not kernel.family:
        return ["is of no known family: add it to WANTED"]
    spills = kernel.count(r"STL\b") + kernel.count(r"LDL\b")
    if spills or kernel.usage.get("STACK") or kernel.usage.get("LOCAL"):
        found.append(f"uses local memory ({spills} moves, {kernel.usage.get('STACK', 0)} bytes of stack)")
    threads = THREADS.get(kernel.family, 128)
    if kernel.usage["REG"] * threads > REGISTERS:
        found.append(f"needs {kernel.usage['REG']} registers in each of {threads} threads")
    products, waits = kernel.count("[HI]GMMA"), kernel.count(r"WARPGROUP\.DEPBAR")
    if waits * 4 > products:
        found.append(f"waits {waits} times for {products} wgmma products: the compiler has serialised them")
    found += [f"has no {wanted} instructions" for wanted in kernel.wanted if not kernel.count(wanted)]
    return found


def cuobjdump() -> Path:
    """The disassembler.

    Raises:
        FileNotFoundError: Triton's wheel, which carries it, is not installed.
    """
    spec = importlib.util.find_spec("triton")
    tool = Path(spec.origin if spec and spec.origin else ".").parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        raise FileNotFoundError(f"no {tool}: the gate needs the cuobjdump of Triton's wheel (pip install triton)")
    return tool


def architectures(module: Path) -> list[str]:
    """Those that a compiled module has kernels for, such as '90a'."""
    found = sorted(set(re.findall(r"\.sm_(\w+)\.", _dump(module, "-lelf"))))
    return [arch for arch in found if "Function" in _dump(module, "-res-usage", arch)]  # linking leaves an empty one


def _dump(module: Path, option: str, arch: str | None = None) -> str:
    command = [str(cuobjdump()), option, *(["-arch", f"sm_{arch}"] if arch else []), str(module)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def kernels(module: Path, arch: str) -> list[Kernel]:
    """Every kernel of a compiled module for one architecture."""
    usage = {}
    for name, numbers in re.findall(r"Function (\S+?):\s*\n\s*(REG:\d+.*)", _dump(module, "-res-usage", arch)):
        usage[name] = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", numbers)}
    parts = re.split(r"Function : (\S+)", _dump(module, "-sass", arch))
    return [Kernel(arch, name, usage[name], sass) for name, sass in zip(parts[1::2], parts[2::2], strict=True)]


def shared_faults(arch: str) -> Iterator[str]:
    """Convolutions that networks have and that do not fit into a chip's shared memory."""
    limit = SHARED_LIMIT[int(arch.rstrip("a"))]
    for channels, out, kernel in (
        (64, 64, 3),
        (64, 256, 3),
        (256, 12, 5),
        (3, 64, 9),
        (8, 64, 3),
        (192, 64, 3),
        (64, 64, 9),
    ):
        for variant in VARIANTS:
            if (
                bool(variant.pixel_stride) != (channels <= 8)
                or variant.kernel not in (0, kernel)
                or 0 < variant.pixel_stride < channels
            ):
                continue
            weight = torch.zeros(out, channels, kernel, kernel)
            conv = pack_conv(weight, torch.zeros(out), variant=variant)
            need = shared_bytes(conv)
            common = (variant.tile_h, variant.block_c) == (8, 64) or variant.pixel_stride == 4
            if need > limit and common and kernel < 9:
                yield f"sm_{arch} {variant} for {kernel}x{kernel} {channels}->{out} needs {need} bytes of shared memory"
    for form, (columns, _) in FORMS.items():
        # 256 channels between the two, then 5x5: the tail of the networks that enlarge fourfold. Wide strips are for chips
        # with more memory.
        if (form == "tail_wide" and limit < 150_000) or (form == "tail_wgmma" and arch != "90a"):
            continue
        need = tail_bytes(pack_conv(torch.zeros(12, 256, 5, 5), torch.zeros(12)), form)
        if need > limit:
            yield f"sm_{arch} fused tail in strips of {columns} columns needs {need} bytes of shared memory"


def check(module: Path, arch: str) -> tuple[list[str], list[str]]:
    """A line for each kernel, and the faults."""
    found = kernels(module, arch)
    lines, bad = [], list(shared_faults(arch))
    for kernel in found:
        name = f"sm_{arch:<4s}{kernel.family or kernel.name}"
        shape = ", ".join(re.findall(r"L(?:i|b|N\w*?E)(\d+)", kernel.name))
        kind = "half" if "4Half" in kernel.name else "bfloat16"
        lines.append(f"{name:20s} {kind:9s} {shape:28s} {kernel.usage['REG']:3d} registers")
        bad += [f"{name} <{shape}>: {fault}" for fault in faults(kernel)]
    wanted = set(WANTED) - (HOPPER if arch != "90a" else set())
    bad += [f"sm_{arch} has no {family}" for family in sorted(wanted - {kernel.family for kernel in found})]
    return lines, bad


def parser_of(text: str) -> argparse.ArgumentParser:
    """A parser with the options by which ``chosen`` chooses."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", help="architectures, by comma; by default all that the module was built for")
    parser.add_argument("--module", type=Path, help="the compiled module; by default srfast._cuda")
    return parser


def chosen(options: argparse.Namespace) -> tuple[Path, list[str]] | None:
    """The module and the architectures to look at, in order; None where there is no module, which it says."""
    from srfast.kernels import cuda

    reason = cuda.unavailable_reason()
    if reason and not options.module:
        print(f"nothing to look at: {reason}")
        return None
    module = options.module or Path(cuda.compiled.__file__)
    archs = options.arch.split(",") if options.arch else architectures(module)
    return module, sorted(archs, key=lambda arch: int(arch.rstrip("a")))


def main(arguments: list[str] | None = None) -> int:
    """Prints a table; 1 if a kernel has a fault, 0 where there is no module to look at, which it says."""
    found = chosen(parser_of(__doc__).parse_args(arguments))
    if found is None:
        return 0
    module, archs = found
    every: list[str] = []
    for arch in archs:
        lines, bad = check(module, arch)
        print("\n".join(lines), flush=True)
        every += bad
    print("\n".join(every) or "all kernels pass")
    return 1 if every else 0


if __name__ == "__main__":
    sys.exit(main())
