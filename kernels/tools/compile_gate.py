"""Compiles every Triton kernel and shipped configuration for every architecture, without a GPU, and fails on bad code.

    python -m srfast.kernels.tools.compile_gate [--full] [--arch 80,90] [--jobs 2] [--record FILE] [--compare FILE]

A kernel fails if it spills registers, asks for more shared memory than the chip has, or misses what it was written for:
matrix instructions, asynchronous copies, and on Hopper and Blackwell those of their own kind. ``--record`` before a change
of a kernel's text and ``--compare`` after it say whether the machine code is still the same.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
import triton

from srfast.kernels import gluon
from srfast.kernels.buffers import Canvas
from srfast.kernels.configs import conv_key
from srfast.kernels.packing import PackedConv, pack_conv
from srfast.kernels.planes import PlaneColour, Planes
from srfast.kernels.targets import FrameTarget, Launch
from srfast.kernels.tools import SHARED_LIMIT
from srfast.kernels.tools.offline import Compiled, offline
from srfast.kernels.triton.config import DepthwiseConfig, PairConfig, find_config
from srfast.kernels.triton.conv import conv_launch
from srfast.kernels.triton.depthwise import depthwise_launch
from srfast.kernels.triton.frames import load_launch, store_launch
from srfast.kernels.triton.moments import gains_launch, norm_launch, pixel_moments_launch, pixel_norm_launch
from srfast.kernels.triton.pair import pair_launch
from srfast.kernels.triton.planes import load_planes_launch, store_planes_launch
from srfast.kernels.triton.pointwise import pointwise_launch
from srfast.kernels.triton.pool import pool_launch
from srfast.kernels.triton.resize import resize_launch
from srfast.kernels.triton.shuffle import shuffle_launch

# Matrix instructions of each architecture in machine code: wgmma, tcgen05 and mma.sync.
MATRIX = {90: "HGMMA", 100: r"UTC\w*MMA"}
# Architectures on which the quick set has every kernel: the others differ from sm_80 in shared memory and scheduling.
WHOLE = (80, 90, 100)
HEIGHT, WIDTH = 90, 160
HALF = torch.float16


@dataclass(frozen=True)
class Conv:
    """A convolution as networks have it; ``hot`` ones must use the architecture's own matrix instructions."""

    channels: int
    out: int
    kernel: int
    act: str = "none"
    shuffle: int = 1
    residual: int = 0  # 1: of the output's size; r: enlarged r times
    gain: float = 1.0
    buffer: int = 0  # channels of the buffer whose slice is read
    frames: bool = False
    dtype: torch.dtype = HALF
    hot: bool = False


CONVS = (
    Conv(64, 64, 3, "prelu", hot=True),
    Conv(64, 64, 3, residual=1, hot=True),
    Conv(64, 64, 3, "prelu", dtype=torch.bfloat16, hot=True),
    Conv(64, 256, 3, "prelu", shuffle=2, hot=True),
    Conv(3, 64, 9, "prelu"),
    Conv(256, 12, 5, shuffle=2, frames=True),
    Conv(64, 3, 9),
    Conv(3, 64, 3, "prelu"),
    Conv(64, 48, 3, shuffle=4, residual=4),
    Conv(64, 32, 3, "prelu", buffer=192),
    Conv(160, 32, 3, "prelu", buffer=192),
    Conv(192, 64, 3, residual=1, gain=0.2),
    Conv(48, 48, 3, "tanh"),
    Conv(48, 48, 3, "silu"),
    Conv(64, 128, 3, "mish"),
)
PAIRS = (
    (Conv(64, 64, 3, "prelu"), Conv(64, 64, 3, residual=1)),
    (Conv(64, 256, 3, "prelu"), Conv(256, 12, 5, shuffle=2)),
)


def names_of(arch: int) -> tuple[str, ...]:
    """Names under which an architecture's configurations are looked up."""
    return f"sm{arch}", f"sm{arch // 10}x", "default"


def _pack(conv: Conv, block_o: int) -> PackedConv:
    weight, slope = torch.zeros(conv.out, conv.channels, conv.kernel, conv.kernel), torch.zeros(conv.out)
    return pack_conv(
        weight,
        torch.zeros(conv.out),
        act=conv.act,
        slope=slope,
        shuffle=conv.shuffle,
        gain=conv.gain,
        block_o=block_o,
        dtype=conv.dtype,
    )


def _canvas(channels: int, tile: tuple[int, int], border: int, scale: int = 1, dtype: torch.dtype = HALF) -> Canvas:
    return Canvas.allocate(1, channels, HEIGHT * scale, WIDTH * scale, border=border, tile=tile, dtype=dtype)


def _frames(channels: int, scale: int) -> FrameTarget:
    frame = torch.zeros(1, HEIGHT * scale, WIDTH * scale, channels, dtype=torch.uint8)
    return FrameTarget(frame, 255.0, torch.zeros(1, dtype=torch.int32))


def _conv_launch(conv: Conv, arch: int) -> Launch:
    config = find_config(names_of(arch), conv_key(conv.channels, conv.out, conv.kernel))
    packed = _pack(conv, config.block_o)
    x = _canvas(conv.buffer or conv.channels, config.tile, 4, dtype=conv.dtype)
    out: Canvas | FrameTarget = _canvas(packed.planes, (1, 1), 1, conv.shuffle, conv.dtype)
    if conv.frames:
        out = _frames(packed.planes, conv.shuffle)
    residual = _canvas(packed.planes, (1, 1), 1, conv.shuffle // conv.residual, conv.dtype) if conv.residual else None
    return conv_launch(x.channel_slice(0, conv.channels), packed, out, config, residual)


def _pair_launch(first: Conv, second: Conv, arch: int) -> Launch:
    config = PairConfig(swap=arch in (90, 100))
    x = _canvas(first.channels, (config.region_h, config.region_w), 4)
    packed = _pack(first, config.block_o), _pack(second, config.block_o)
    out = _canvas(packed[1].planes, (1, 1), 1, second.shuffle)
    return pair_launch(x, *packed, out, config, x if second.residual else None)


def _gluon_launch(conv: Conv, arch: int) -> Launch:
    from srfast.kernels.gluon.conv import row_launch

    x, y = _canvas(64, (1, 1), 1), _canvas(64, (1, 1), 1)
    return row_launch(x, _pack(conv, 64), y, x if conv.residual else None)


def _small_launches() -> Iterator[tuple[str, Launch]]:
    x, y, target = _canvas(64, (1, 1), 1), _canvas(64, (1, 1), 1), _frames(3, 1)
    image, larger = _canvas(3, (1, 1), 1), _canvas(3, (1, 1), 1, 2)
    ones = torch.ones(64)
    yield "pointwise", pointwise_launch(x, y, scale=ones, act="prelu", slope=ones[:1], other=y, clamp=(0, 1))
    yield "pointwise mish", pointwise_launch(x, y, act="mish")
    yield "pointwise gelu", pointwise_launch(x, y, act="gelu", other=_canvas(1, (1, 1), 1), multiply=True)
    yield "shuffle", shuffle_launch(_canvas(12, (1, 1), 1), larger, 2)
    yield "resize bicubic", resize_launch(image, larger, 2, "bicubic")
    yield "pool", pool_launch(larger, image, 2, "max")
    yield "gains", gains_launch(x, torch.ones(8, 64), torch.ones(8), torch.ones(64, 8), ones, torch.ones(1))[0]
    weights = (torch.ones(8, 64), torch.ones(8), torch.ones(64, 8), ones, torch.ones(1))
    yield "gains of contrast", gains_launch(x, *weights, contrast=True, hard=True)[0]
    for kernel in (5, 7):
        weight = torch.ones(64, 1, kernel, kernel)
        launch = depthwise_launch(x, y, weight, ones, DepthwiseConfig(), act="prelu", slope=ones)
        yield f"depthwise {kernel}x{kernel}", launch
    yield "norm", norm_launch(x, ones, ones, 1e-5)[0]
    yield "norm groups", norm_launch(x, ones, ones, 1e-5, 4)[0]
    yield "norm pixels", pixel_norm_launch(x, y, ones, ones, 1e-5)
    yield "norm root mean square", pixel_norm_launch(x, y, ones, ones, 1e-5, False)
    yield "pixel moments", pixel_moments_launch(x, _canvas(2, (1, 1), 1))
    planes = Planes.empty(1, HEIGHT, WIDTH, PlaneColour(), "cpu")
    yield "planes in", load_planes_launch(planes, image, 1.0)
    yield "planes out", store_planes_launch(image, planes, 1.0, target.flag)
    yield "frames in", load_launch(target.frame, image, 1 / 255)
    yield "frames out", store_launch(image.nchw().permute(0, 2, 3, 1), target.frame, 1.0, target.flag)


def _small(name: str, arch: int) -> Launch:
    return dict(_small_launches())[name]


@dataclass(frozen=True)
class Case:
    """One kernel to compile.

    Attributes:
        make: gives the launch for an architecture.
        copies: a convolution whose loop must have asynchronous copies.
        hot: must use the architecture's own matrix instructions.
        quick: part of the quick set on every architecture.
    """

    name: str
    make: Callable[[int], Launch]
    copies: bool = False
    hot: bool = False
    quick: bool = False


def cases(arch: int) -> list[Case]:
    """Everything that an architecture has to compile."""
    found = []
    for conv in CONVS:
        given = {k: v for k, v in vars(conv).items() if k not in ("channels", "out", "kernel")}
        details = {k: v for k, v in given.items() if v != getattr(Conv, k)}
        extras = " ".join(f"{k}={v}" for k, v in details.items())
        name = f"{conv_key(conv.channels, conv.out, conv.kernel)} {extras}"
        found.append(Case(name, partial(_conv_launch, conv), True, conv.hot, conv.hot))
    for first, second in PAIRS:
        name = f"pair {first.channels}->{first.out}->{second.out}"
        found.append(Case(name, partial(_pair_launch, first, second), True))
    if arch == 90 and gluon.unavailable_reason() is None:
        found += [
            Case(f"gluon residual={c.residual}", partial(_gluon_launch, c), hot=True, quick=True) for c in CONVS[:2]
        ]
    return found + [Case(name, partial(_small, name)) for name, _ in _small_launches()]


def selected(archs: list[int], full: bool) -> list[tuple[int, int]]:
    """Architecture and index of each case; the quick set has all cases on one of each generation, the hot ones on all."""
    return [
        (arch, index) for arch in archs for index, case in enumerate(cases(arch)) if full or case.quick or arch in WHOLE
    ]


def faults(compiled: Compiled, copies: bool, hot: bool) -> list[str]:
    """What is wrong with a kernel's machine code."""
    found = []
    if compiled.spills:
        found.append(f"spills registers ({compiled.spills} moves)")
    if compiled.shared > SHARED_LIMIT[compiled.arch]:
        found.append(f"needs {compiled.shared} bytes of shared memory of {SHARED_LIMIT[compiled.arch]}")
    if copies and not compiled.count("LDGSTS"):
        found.append("has no asynchronous copies: its loop is not pipelined")
    matrix = MATRIX.get(compiled.arch, "HMMA") if hot else r"(HMMA|HGMMA|UTC\w*MMA)"
    if (copies or hot) and not compiled.count(matrix):
        found.append(f"has no {matrix} instructions")
    if copies and hot and compiled.arch == 90 and compiled.count("LDSM"):
        found.append("moves operands through registers")
    return found


@dataclass(frozen=True)
class Checked:
    """What a case came to: a line for each kernel, the faults, and the digests of the machine code by kernel."""

    lines: list[str]
    faults: list[str]
    digests: dict[str, str]


def check(chosen: tuple[int, int]) -> Checked:
    """Compile the kernels of a case and look for faults."""
    arch, index = chosen
    case = cases(arch)[index]
    lines, bad, digests = [], [], {}
    start = time.monotonic()
    launch = case.make(arch)
    with offline(arch) as compiled:
        launch()
    seconds = time.monotonic() - start
    if not compiled:
        bad.append(f"sm_{arch} {case.name}: compiled nothing")
    for kernel in compiled:
        usage = f"{kernel.usage['REG']:3d} registers {kernel.shared:6d} B shared"
        digests[f"sm_{arch} {case.name} {kernel.name}"] = kernel.digest
        lines.append(f"sm_{arch:<4d}{case.name:60s}{usage} {seconds:5.1f} s")
        bad += [f"sm_{arch} {case.name}: {fault}" for fault in faults(kernel, case.copies, case.hot)]
    return Checked(lines, bad, digests)


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return a line for each kernel of ``after`` that ``before`` had with other machine code, and a line that counts."""
    common = before.keys() & after.keys()
    other = sorted(name for name in common if before[name] != after[name])
    return [*(f"{name}: other machine code" for name in other), f"{len(common) - len(other)} of {len(common)} the same"]


def main(arguments: list[str] | None = None) -> int:
    """Prints a table; 1 if a kernel has a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default=",".join(map(str, SHARED_LIMIT)), help="compute capabilities, by comma")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--full", action="store_true", help="every kernel on every architecture")
    parser.add_argument("--record", type=Path, help="write the digests of the machine code to this JSON file")
    parser.add_argument("--compare", type=Path, help="say which kernels differ from those of such a file")
    options = parser.parse_args(arguments)
    before = json.loads(options.compare.read_text(encoding="utf-8")) if options.compare else {}
    archs = [int(arch) for arch in options.arch.split(",")]
    unknown = [arch for arch in archs if arch not in SHARED_LIMIT]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(map(str, SHARED_LIMIT))}")
    if 90 in archs and gluon.unavailable_reason():
        print(f"without the Gluon kernels: {gluon.unavailable_reason()}")
    chosen, count, every = selected(archs, options.full), 0, []
    digests: dict[str, str] = {}
    with get_context("spawn").Pool(options.jobs) as pool:
        for checked in pool.imap(check, chosen, chunksize=1):
            print("\n".join(checked.lines), flush=True)
            count += len(checked.lines)
            every += checked.faults
            digests |= checked.digests
    if options.record:
        options.record.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    if options.compare:
        print("\n".join(changes(before, digests)))
    print("\n".join(every) or f"all {count} kernels pass (Triton {triton.__version__})")
    return 1 if every else 0


if __name__ == "__main__":
    sys.exit(main())
