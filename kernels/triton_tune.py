"""Finds launch configurations on this GPU and writes them for ``SRFAST_TRITON_CONFIGS``.

    python -m srfast.kernels.triton_tune --out h100.json [--height 270 --width 480] [--seconds 150]

Candidates are compiled first, on all cores and without touching the GPU; what spills registers or needs more shared memory
than there is is never run. The others must give the right result before they are timed. Shapes come most valuable first,
and the file is whole after each, so that the command may be stopped at any time. ``--dry-run`` does all of it on a CPU, in
Triton's interpreter, on tiny images with few candidates; what it writes is used by no GPU.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from srfast.kernels import gluon
from srfast.kernels.canvas import Canvas
from srfast.kernels.conv import conv_reference
from srfast.kernels.packed_conv import PackedConv, pack_conv
from srfast.kernels.triton_config import Config, PairConfig, conv_key, pair_key

HALF = torch.float16
# Largest error allowed, of results of size 1: a few roundings to float16.
TOLERANCE = 4e-3
# One launch must beat two by this much.
WORTH = 0.98
Launch: TypeAlias = Callable[[], None]


@dataclass(frozen=True)
class Shape:
    """A convolution of a network, and how many times larger than the input image it runs."""

    channels: int
    out: int
    kernel: int
    scale: int = 1
    shuffle: int = 1

    @property
    def key(self) -> str:
        """Its name in the file."""
        return conv_key(self.channels, self.out, self.kernel)


Pair: TypeAlias = tuple[Shape, Shape]
# SRResNet first, then Compact, then the dense blocks of Real-ESRGAN and the tails of the others.
SHAPES = (
    Shape(64, 64, 3),
    Shape(64, 256, 3, scale=2),
    Shape(256, 12, 5, scale=2, shuffle=2),
    Shape(64, 256, 3, shuffle=2),
    Shape(3, 64, 9),
    Shape(64, 48, 3, shuffle=4),
    Shape(3, 64, 3),
    Shape(64, 32, 3),
    Shape(96, 32, 3),
    Shape(128, 32, 3),
    Shape(160, 32, 3),
    Shape(192, 64, 3),
    Shape(64, 3, 3, scale=4),
)
# Residual blocks and the last two convolutions of SRResNet, Compact, and RRDBNet and MSRResNet.
PAIRS: tuple[Pair, ...] = (
    (Shape(64, 64, 3), Shape(64, 64, 3)),
    (Shape(64, 256, 3, scale=2), Shape(256, 12, 5, scale=2, shuffle=2)),
    (Shape(64, 64, 3), Shape(64, 48, 3, shuffle=4)),
    (Shape(64, 64, 3, scale=4), Shape(64, 3, 3, scale=4)),
)


def candidates(out: int, hopper: bool) -> Iterator[Config]:
    """Configurations worth trying for a convolution with ``out`` output channels, the shipped one first."""
    yield Config(swap=hopper and out >= 64)
    tiles = ((8, 16), (4, 32), (2, 64), (16, 16), (8, 32), (4, 64))
    for (tile_h, tile_w), warps, stages in itertools.product(tiles, (4, 8), (3, 4)):
        for swap in (True, False) if out >= 64 and hopper else (False,):
            for block_o in (64, 128) if out >= 128 else (64,):
                config = Config(tile_h, tile_w, block_o, warps, stages, swap)
                if config != Config(swap=hopper and out >= 64):
                    yield config
    if out == 64 and hopper and gluon.unavailable_reason() is None:
        yield Config(swap=True, gluon=True)


def pair_candidates(hopper: bool) -> Iterator[PairConfig]:
    """Configurations worth trying for two convolutions in one launch."""
    regions = ((16, 32), (16, 16), (8, 32), (32, 32))
    for (region_h, region_w), chunk, warps in itertools.product(regions, (64, 128), (4, 8)):
        yield PairConfig(region_h, region_w, chunk, 64, warps, 3, hopper)


@dataclass(frozen=True)
class Task:
    """Candidates for one shape or pair, on images of ``height`` x ``width`` pixels."""

    shapes: tuple[Shape, ...]
    configs: tuple[Config | PairConfig, ...]
    height: int
    width: int

    @property
    def key(self) -> str:
        """Its name in the file."""
        first, last = self.shapes[0], self.shapes[-1]
        if len(self.shapes) == 1:
            return first.key
        return pair_key(first.channels, first.kernel, first.out, last.kernel, last.out)

    @property
    def flops(self) -> float:
        """Of one launch, without what is computed twice."""
        pixels = self.height * self.width
        return sum(2.0 * s.out * s.channels * s.kernel**2 * pixels * s.scale**2 for s in self.shapes)

    def image(self) -> Tensor:
        """[1, C, H, W] float16."""
        first = self.shapes[0]
        size = (1, first.channels, self.height * first.scale, self.width * first.scale)
        return torch.randn(size, generator=torch.Generator().manual_seed(1)).to(HALF)

    def expected(self, x: Tensor) -> Tensor:
        """The right result for ``x``, in float32 with a middle rounded to float16."""
        for shape in self.shapes:
            x = reference(x.to(HALF), *weights(shape), shape)
        return x

    def prepare(self, config: Config | PairConfig, x: Tensor | None, device: torch.device) -> tuple[Launch, Canvas]:
        """The launch of a candidate and the canvas that it fills; without ``x`` the input is zero."""
        from srfast.kernels.triton_conv_launch import conv_launch
        from srfast.kernels.triton_pair_launch import pair_launch

        first, last = self.shapes[0], self.shapes[-1]
        border = sum(shape.kernel // 2 for shape in self.shapes)
        tile = config.tile if isinstance(config, Config) else (config.region_h, config.region_w)
        size = (self.height * first.scale, self.width * first.scale)
        source = Canvas.allocate(1, first.channels, *size, border=border, tile=tile, dtype=HALF, device=device)
        if x is not None:
            source.nchw().copy_(x)
        planes, large = last.out // last.shuffle**2, (size[0] * last.shuffle, size[1] * last.shuffle)
        out = Canvas.allocate(1, planes, *large, border=1, dtype=HALF, device=device)
        packed = [pack(*weights(shape), shape, config.block_o, device) for shape in self.shapes]
        if isinstance(config, Config):
            return conv_launch(source, packed[0], out, config), out
        programs = 264
        if device.type == "cuda":
            programs = 2 * torch.cuda.get_device_properties(device).multi_processor_count
        return pair_launch(source, packed[0], packed[1], out, config, programs=programs), out


def weights(shape: Shape) -> tuple[Tensor, Tensor]:
    """[O, C, k, k] float16 and [O] float32 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape.out, shape.channels, shape.kernel, shape.kernel, generator=generator)
    weight *= (shape.channels * shape.kernel**2) ** -0.5
    return weight.to(HALF), torch.randn(shape.out, generator=generator)


def pack(weight: Tensor, bias: Tensor, shape: Shape, block_o: int, device: torch.device | str = "cuda") -> PackedConv:
    """With a PReLU of slope 0.2."""
    slope = torch.tensor([0.2])
    return pack_conv(
        weight, bias, act="prelu", slope=slope, shuffle=shape.shuffle, block_o=block_o, dtype=HALF, device=device
    )


def reference(x: Tensor, weight: Tensor, bias: Tensor, shape: Shape) -> Tensor:
    """The right result in float32, on the device of ``x``."""
    slope = torch.tensor([0.2], device=x.device)
    weight, bias = weight.to(x.device).float(), bias.to(x.device)
    with torch.backends.cudnn.flags(allow_tf32=False):
        return conv_reference(x.float(), weight, bias, act="prelu", slope=slope, shuffle=shape.shuffle)


def compiles(task: Task, config: Config | PairConfig, arch: int) -> bool:
    """Compiles a candidate for an architecture, which leaves it in Triton's cache; False if it would not run well."""
    from srfast.kernels.offline import SHARED_LIMIT, offline

    try:
        with offline(arch) as kernels:
            task.prepare(config, None, torch.device("cpu"))[0]()
    except Exception:  # whatever the compiler stumbles over, others are left
        return False
    limit = SHARED_LIMIT.get(arch, max(SHARED_LIMIT.values()))
    return all(not kernel.spills and kernel.shared <= limit for kernel in kernels)


def _compiled_in_worker(arguments: tuple[Task, Config | PairConfig, int]) -> bool:
    torch.set_num_threads(1)
    return compiles(*arguments)


def _compile_for_real() -> None:
    """In a process that compiles nothing may be interpreted."""
    os.environ.pop("TRITON_INTERPRET", None)


@dataclass
class Found:
    """The fastest right candidate of a task: its milliseconds, and how many candidates were refused and why."""

    config: Config | PairConfig | None = None
    milliseconds: float = float("inf")
    uncompiled: int = 0
    wrong: int = 0


class Tuner:
    """Tries candidates on one device.

    Args:
        device: where they run.
        arch: compute capability to compile for, as 90.
        timer: milliseconds of a launch; by default the median of ``triton.testing.do_bench``.
        jobs: processes that compile.
    """

    def __init__(
        self,
        device: torch.device,
        arch: int,
        timer: Callable[[Launch], float] | None = None,
        jobs: int | None = None,
    ) -> None:
        self.device, self.arch = device, arch
        self._timer = timer or _median
        self._pool = ProcessPoolExecutor(jobs or os.cpu_count(), get_context("spawn"), _compile_for_real)

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(cancel_futures=True)

    def best(self, task: Task, deadline: float = float("inf")) -> Found:
        """Compiles all candidates, then checks and times those that compiled until ``deadline`` (``time.monotonic``)."""
        arguments = [(task, config, self.arch) for config in task.configs]
        fits = self._pool.map(_compiled_in_worker, arguments)
        x = task.image().to(self.device)
        expected, found = task.expected(x), Found()
        for config, good in zip(task.configs, fits, strict=True):
            if not good:
                found.uncompiled += 1
                continue
            if found.config is not None and time.monotonic() > deadline:
                break
            milliseconds = self._time(task, config, x, expected)
            found.wrong += milliseconds == float("inf")
            if milliseconds < found.milliseconds:
                found.config, found.milliseconds = config, milliseconds
        return found

    def _time(self, task: Task, config: Config | PairConfig, x: Tensor, expected: Tensor) -> float:
        """Milliseconds, or infinity where it fails or is wrong."""
        try:
            launch, out = task.prepare(config, x, self.device)
            launch()
            error = float((out.nchw().float() - expected).abs().max() / expected.abs().max())
        except (RuntimeError, ValueError) as problem:
            print(f"  {config} fails: {str(problem).splitlines()[0]}", flush=True)
            return float("inf")
        if not error <= TOLERANCE:
            print(f"  {config} is wrong by {error:.2g}", flush=True)
            return float("inf")
        return self._timer(launch)


def _median(launch: Launch) -> float:
    import triton

    milliseconds: Any = triton.testing.do_bench(launch, warmup=5, rep=30, quantiles=[0.5])
    return float(milliseconds)


def tasks(height: int, width: int, hopper: bool, most: int | None = None) -> list[Task]:
    """Everything worth tuning, most valuable first; at most ``most`` candidates each."""
    found: list[Task] = []
    for shape in SHAPES:
        found.append(Task((shape,), tuple(itertools.islice(candidates(shape.out, hopper), most)), height, width))
    for position, pair in zip((1, 4, 8, 17), PAIRS, strict=True):
        found.insert(position, Task(pair, tuple(itertools.islice(pair_candidates(hopper), most)), height, width))
    return found


def tune(
    tuner: Tuner, todo: Sequence[Task], seconds: float, save: Callable[[dict[str, Any]], None]
) -> dict[str, dict[str, Any]]:
    """Entries for this GPU: each shape's fastest configuration, and pairs where one launch beats two.

    ``save`` is called with the entries after every task.
    """
    deadline = time.monotonic() + seconds
    entries: dict[str, dict[str, Any]] = {}
    times: dict[Shape, float] = {}
    for index, task in enumerate(todo):
        if time.monotonic() > deadline:
            print(f"time is up; not tuned: {', '.join(left.key for left in todo[index:])}")
            break
        found = tuner.best(task, deadline)
        rate = task.flops / found.milliseconds / 1e9
        refused = f"{found.uncompiled} refused by the compiler's result, {found.wrong} wrong"
        print(f"{task.key}: {found.milliseconds:.4f} ms, {rate:.0f} TFLOP/s, {found.config}; {refused}", flush=True)
        if found.config is None:
            continue
        if isinstance(found.config, PairConfig):
            apart = _in_two_launches(tuner, task, entries, times)
            print(f"  in two launches: {apart:.4f} ms", flush=True)
            if not found.milliseconds < WORTH * apart:
                continue
        else:
            times[task.shapes[0]] = found.milliseconds
        entries[task.key] = asdict(found.config)
        save(entries)
    return entries


def _in_two_launches(tuner: Tuner, task: Task, entries: dict[str, Any], times: dict[Shape, float]) -> float:
    """Milliseconds of a pair's convolutions apart; one of a size that was not tuned runs as found at another size."""
    for shape in task.shapes:
        if shape not in times:
            config = Config(**entries.get(shape.key, {}))
            times[shape] = tuner.best(Task((shape,), (config,), task.height, task.width)).milliseconds
    return sum(times[shape] for shape in task.shapes)


def write_entries(path: Path, gpu: str, entries: dict[str, Any]) -> None:
    """Adds the entries of a GPU to a file, which is whole at any time."""
    table = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    table[gpu] = {**table.get(gpu, {}), **entries}
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def rehearse(out: Path) -> None:
    """The whole course on a CPU: two candidates of three tasks on tiny images."""
    os.environ["TRITON_INTERPRET"] = "1"
    todo = [task for task in tasks(4, 8, True, 2) if task.shapes[-1].out <= 64 and task.shapes[0].scale == 1][:3]
    tuner = Tuner(torch.device("cpu"), 90, _wall, 2)
    try:
        tune(tuner, todo, 300, lambda entries: write_entries(out, "dry run", entries))
    finally:
        tuner.close()


def _wall(launch: Launch) -> float:
    start = time.perf_counter()
    launch()
    return 1e3 * (time.perf_counter() - start)


def main(arguments: list[str] | None = None) -> int:
    """Tunes and writes; 1 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file to write or to add this GPU to")
    parser.add_argument("--height", type=int, default=270, help="of the input image")
    parser.add_argument("--width", type=int, default=480, help="of the input image")
    parser.add_argument("--seconds", type=float, default=150, help="after which no further shape is begun")
    parser.add_argument("--dry-run", action="store_true", help="everything on a CPU, on tiny images, for no GPU")
    options = parser.parse_args(arguments)
    if options.dry_run:
        rehearse(options.out)
        return 0
    if not torch.cuda.is_available():
        print("there is no GPU here to tune for (--dry-run needs none)", file=sys.stderr)
        return 1
    major, minor = torch.cuda.get_device_capability()
    tuner, gpu = Tuner(torch.device("cuda"), 10 * major + minor), torch.cuda.get_device_name()
    todo = tasks(options.height, options.width, major == 9)
    try:
        tune(tuner, todo, options.seconds, lambda entries: write_entries(options.out, gpu, entries))
    finally:
        tuner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
