"""CPU: time and memory by frame size and threads, against eager PyTorch (float32, NCHW) where that is affordable.

    python -m benchmarks.sizes [--only "SRResNet x4"] [--sizes 64x64,240x135] [--seconds 6]

The contenders of a row take turns; every figure is the best of as many turns as fit into ``--seconds``, at least one. Memory is
what the kernels lay out for activations; weights, the image and the result come on top.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.subjects import by_name
from srfast.backends.cpu import CpuBackend
from srfast.backends.cpu.network import CompiledNetwork
from srfast.plan.passes import optimise

SUBJECTS = ("SRResNet x4", "Compact x4", "Compact x2")
SIZES = "64x64,240x135,480x270,960x540,1920x1080"
EAGER_FLOP = 7e11  # above this, eager PyTorch would take most of the time
CPU = torch.device("cpu")


def row(name: str, width: int, height: int, seconds: float) -> str:
    """One line of the table."""
    subject, threads = by_name(name), torch.get_num_threads()
    module, x = subject.module(), subject.image(width, height)
    plan = optimise(subject.plan())
    compiled = CpuBackend().compile(plan, CPU, torch.float32)
    last = x.contiguous(memory_format=torch.channels_last)
    runs: dict[str, tuple[int, Callable[[], object]]] = {
        "all": (threads, lambda: compiled(last)),
        "one": (1, lambda: compiled(last)),
    }
    if subject.flop(width, height) <= EAGER_FLOP:
        runs["eager"] = (threads, lambda: module(x))
    best = dict.fromkeys(runs, float("inf"))
    begun = time.perf_counter()
    while best["one"] == float("inf") or time.perf_counter() - begun < seconds:
        for key, (count, run) in runs.items():
            torch.set_num_threads(count)
            start = time.perf_counter()
            run()
            best[key] = min(best[key], time.perf_counter() - start)
    torch.set_num_threads(threads)
    memory = CompiledNetwork(plan, winograd=True).working_bytes(height, width) / 2**20
    ratio = f"{best['eager'] / best['all']:.1f}" if "eager" in best else "-"
    return (
        f"| {name} | {width}x{height} | {best['all'] * 1e3:.1f} | {1 / best['all']:.2f} | "
        f"{best['one'] / best['all']:.2f} | {ratio} | {memory:.0f} |"
    )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SUBJECTS)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--seconds", type=float, default=6)
    args = parser.parse_args()
    print(f"| network | frame | ms, {torch.get_num_threads()} threads | fps | times one thread | times eager | MiB |")
    print("|---|---|---|---|---|---|---|")
    for name in [args.only] if args.only else SUBJECTS:
        for size in args.sizes.split(","):
            width, height = map(int, size.split("x"))
            print(row(name, width, height, args.seconds), flush=True)


if __name__ == "__main__":
    main()
