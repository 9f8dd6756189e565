"""The experiments that decide between CUDA kernels, in one call on a GPU; prints a decision table.

    python -m benchmarks.experiments [--out experiments.json] [--height 540 --width 960] [--dry-run]

E1: does wgmma read a window that begins inside a tile swizzled by 128 bytes as intended (the shifted Hopper kernel's result),
    and one inside planes without a swizzle (the one that holds its weights)?
E2: wgmma's rate for the instruction sizes in use on random data, weights in shared memory and in registers.
E3: baselines: cuDNN with and without its fused epilogues, PyTorch eager and compiled.
E4: how fast the L2 cache is read at 16, 33 and 50 MB.
E5: what a launch costs in a CUDA graph, with and without programmatic dependent launch.
Then every convolution of the networks in every CUDA kernel and in Triton, and every fused form of two convolutions against
the fastest two launches: beside ``--out`` goes ``cuda_configs.json``, for
``SRFAST_CUDA_CONFIGS`` or to be shipped. Times are medians in milliseconds; the L2 cache is not flushed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.kernel_times import SHAPES, TOLERANCE, Problem, decisions, kernels, milliseconds, table
from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_launch

LAUNCHES = 33


def e1(hot: Problem) -> dict[str, Any]:
    errors = {name: hot.error(launch) for name, launch in hot.launches().items()}
    return {"errors": errors, "right": sorted(name for name, error in errors.items() if error <= TOLERANCE)}


def e2() -> dict[str, Any]:
    """TFLOP/s of wgmma m64nNk16 with both operands in shared memory, and with weights in registers."""
    if torch.cuda.get_device_capability()[0] != 9 or "90a" not in cuda.architectures():
        return {"skipped": "needs a Hopper GPU and srfast._cuda with sm_90a"}
    device, rounds = torch.device("cuda"), 512
    blocks = torch.cuda.get_device_properties(device).multi_processor_count
    source = torch.randn(1 << 15, device=device).half()
    rates = {}
    for columns, held in ((64, False), (120, False), (64, True)):
        arguments = (columns, held, source.data_ptr(), rounds, blocks, cuda.queue(device, False))
        time = milliseconds(partial(cuda.module().matrix_rate, *arguments))
        # Two warpgroups a block, 36 instructions a round.
        rates[f"m64n{columns}k16{', weights held' if held else ''}"] = (
            2.0 * 64 * columns * 16 * 36 * rounds * 2 * blocks / time / 1e9
        )
    return rates


def e3(hot: Problem) -> dict[str, Any]:
    x = hot.x.contiguous(memory_format=torch.channels_last)
    weight = hot.weight.half().cuda().contiguous(memory_format=torch.channels_last)
    bias, slope = hot.bias.half().cuda(), hot.slope.half().cuda()
    pair = ((1, 1), (1, 1), (1, 1), 1)  # stride, padding, dilation, groups

    def eager(x: Tensor) -> Tensor:
        return F.prelu(F.conv2d(x, weight, bias, padding=1), slope)

    compiled = torch.compile(eager)
    runs: dict[str, Callable[[], Any]] = {
        "cudnn convolution": lambda: F.conv2d(x, weight, padding=1),
        "cudnn convolution + bias + relu": lambda: torch.cudnn_convolution_relu(x, weight, bias, *pair),
        "cudnn convolution + add + relu": lambda: torch.cudnn_convolution_add_relu(x, weight, x, 1.0, bias, *pair),
        "eager with bias and prelu": lambda: eager(x),
        "compiled with bias and prelu": lambda: compiled(x),
    }
    torch.backends.cudnn.benchmark = True
    return {name: {"ms": (time := milliseconds(run)), "tflops": hot.flops / time / 1e9} for name, run in runs.items()}


def e4() -> dict[str, Any]:
    """TB/s."""
    device, rates = torch.device("cuda"), {}
    for megabytes in (16, 33, 50):
        data = torch.zeros(megabytes << 18, dtype=torch.int32, device=device)
        sink, rounds = torch.zeros(1, dtype=torch.int32, device=device), 20
        arguments = (data.data_ptr(), data.numel() * 4, rounds, sink.data_ptr(), cuda.queue(device, False))
        time = milliseconds(partial(cuda.module().read_rate, *arguments))
        rates[f"{megabytes} MB"] = megabytes * 2**20 * rounds / time / 1e9
    return rates


def e5(hot: Problem) -> dict[str, Any]:
    """Microseconds of a launch in a graph of 33, the convolution itself included; one image small, one as given."""
    results: dict[str, Any] = {}
    small = Problem(64, 64, 3, 1, 8, 16)
    for label, problem in (("one tile", small), ("whole image", hot)):
        other = Canvas.allocate(1, 64, problem.out.height, problem.out.width, device="cuda")
        for early in (False, True):
            if early and torch.cuda.get_device_capability()[0] < 9:
                continue
            packed = problem.packed()
            there = conv_launch(problem.canvas, packed, other, early=early)
            back = conv_launch(other, packed, problem.canvas, early=early)
            there()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for i in range(LAUNCHES):
                    (back if i % 2 else there)()
            name = f"{label}, {'dependent' if early else 'plain'} launches"
            results[name] = milliseconds(graph.replay) / LAUNCHES * 1e3
    return results


def main(arguments: list[str] | None = None) -> int:
    """0, also where there is no GPU or no compiled module, which it says; 1 if a kernel that must be right is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--height", type=int, default=540)
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--dry-run", action="store_true", help="say what would run")
    options = parser.parse_args(arguments)
    reason = cuda.unavailable_reason() or (None if torch.cuda.is_available() else "there is no GPU here")
    if options.dry_run or reason:
        print(
            f"E1 to E5 and {len(SHAPES)} shapes at {options.width}x{options.height}; {reason or 'everything is there'}"
        )
        return 0
    with torch.inference_mode():
        hot = Problem(64, 64, 3, 1, options.height, options.width)
        results: dict[str, Any] = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
        steps: dict[str, Callable[[], Any]] = {
            "E1": lambda: e1(hot),
            "E2": e2,
            "E3": lambda: e3(hot),
            "E4": e4,
            "E5": lambda: e5(hot),
        }
        for name, step in steps.items():
            results[name] = step()
            print(name, json.dumps(results[name], indent=1), flush=True)
        results["kernels"] = kernels(options.height, options.width)
    times = results["E5"]
    early = times.get("whole image, dependent launches", 1e9) < times["whole image, plain launches"]
    chosen = decisions(results["kernels"], early)
    print(table(results["kernels"], chosen))
    if options.out:
        options.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
        configs = options.out.with_name("cuda_configs.json")
        configs.write_text(json.dumps({results["gpu"]: chosen}, indent=1), encoding="utf-8")
    return 0 if {"mma", "mma_large"} <= set(results["E1"]["right"]) else 1


if __name__ == "__main__":
    sys.exit(main())
