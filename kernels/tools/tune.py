"""Finds launch configurations on this GPU and writes them for ``SRFAST_TRITON_CONFIGS``.

    python -m srfast.kernels.tools.tune --out h100.json [--height 270 --width 480] [--seconds 150]

Candidates are compiled first, on all cores and without touching the GPU; what spills registers or needs more shared memory
than there is is never run. The others must give the right result before they are timed. Shapes come most valuable first,
and the file is whole after each, so that the command may be stopped at any time. ``--dry-run`` does all of it on a CPU, in
Triton's interpreter, on tiny images with few candidates; what it writes is used by no GPU.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srfast.kernels.tools.candidates import Launch, Shape, Task, tasks
from srfast.kernels.triton.config import Config, PairConfig

# Largest error allowed, of results of size 1: a few roundings to float16.
TOLERANCE = 4e-3
# One launch must beat two by this much.
WORTH = 0.98


def compiles(task: Task, config: Config | PairConfig, arch: int) -> bool:
    """Compiles a candidate for an architecture, which leaves it in Triton's cache; False if it would not run well."""
    from srfast.kernels.tools import SHARED_LIMIT
    from srfast.kernels.tools.offline import offline

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
