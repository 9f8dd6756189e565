"""The experiments that decide between CUDA kernels, in one call on a GPU; prints a decision table.

    python -m benchmarks.experiments [--out experiments.json] [--height 540 --width 960] [--dry-run]

E1: does wgmma read a window that begins inside a tile swizzled by 128 bytes as intended? (the shifted Hopper kernel's result)
E2: wgmma's rate from shared memory for the instruction sizes in use, on random data.
E3: baselines: cuDNN with and without its fused epilogues, PyTorch eager and compiled.
E4: how fast the L2 cache is read at 16, 33 and 50 MB.
E5: what a launch costs in a CUDA graph, with and without programmatic dependent launch.
Then every convolution of the networks in every CUDA kernel and in Triton: beside ``--out`` goes ``cuda_configs.json``, for
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

from srfast.kernels import cuda
from srfast.kernels.canvas import Canvas
from srfast.kernels.conv import conv_reference
from srfast.kernels.cuda_conv import conv_launch
from srfast.kernels.cuda_hopper import hopper_fits, hopper_launch
from srfast.kernels.cuda_pack import CudaConv, Variant, choose_variant, pack_conv
from srfast.kernels.cuda_pair import pair_launch
from srfast.kernels.cuda_tail import pack_tail, tail_launch
from srfast.kernels.triton_config import conv_key, device_names, pair_key

# Channels, outputs, kernel, shuffle, pixels per input pixel along a side.
SHAPES = (
    (3, 64, 9, 1, 1),
    (64, 64, 3, 1, 1),
    (64, 256, 3, 2, 1),
    (256, 12, 5, 2, 2),
    (3, 64, 3, 1, 1),
    (64, 48, 3, 4, 1),
)
HALF = torch.float16
TOLERANCE = 4e-3
LAUNCHES = 33


def milliseconds(run: Callable[[], Any], repeats: int = 30) -> float:
    """Median of ``repeats`` runs after a warm-up, by CUDA events."""
    for _ in range(3):
        run()
    times: list[float] = []
    for _ in range(repeats):
        event: Any = torch.cuda.Event
        start, end = event(enable_timing=True), event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


class Problem:
    """A convolution with random weights on a random image of [height, width] pixels."""

    def __init__(self, channels: int, out: int, kernel: int, shuffle: int, height: int, width: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.shape, self.shuffle = (channels, out, kernel), shuffle
        self.flops = 2.0 * channels * out * kernel**2 * height * width
        self.weight = torch.randn(out, channels, kernel, kernel, generator=generator) * (channels * kernel**2) ** -0.5
        self.bias, self.slope = torch.randn(out, generator=generator), torch.rand(out, generator=generator)
        self.x = torch.randn(1, channels, height, width, generator=generator).half().cuda()
        self.canvas = Canvas.allocate(1, channels, height, width, device="cuda")
        self.canvas.nchw().copy_(self.x)
        self.out = Canvas.allocate(1, out // shuffle**2, height * shuffle, width * shuffle, device="cuda")

    def packed(self, variant: Variant | None = None) -> CudaConv:
        return pack_conv(
            self.weight, self.bias, act="prelu", slope=self.slope, shuffle=self.shuffle, variant=variant, device="cuda"
        )

    def expected(self) -> Tensor:
        weight, bias = self.weight.half().float().cuda(), self.bias.cuda()
        with torch.backends.cudnn.flags(allow_tf32=False):
            return conv_reference(
                self.x.float(), weight, bias, act="prelu", slope=self.slope.cuda(), shuffle=self.shuffle
            )

    def error(self, launch: cuda.Launch) -> float:
        """Largest error as a fraction of the largest value; also where nothing was written."""
        self.out.data.fill_(float("nan"))
        launch()
        expected = self.expected()
        return float(((self.out.nchw().float() - expected).abs().max() / expected.abs().max()).nan_to_num(nan=1e9))

    def launches(self) -> dict[str, cuda.Launch]:
        """Every CUDA kernel that runs it."""
        found = {"mma": conv_launch(self.canvas, self.packed(), self.out)}
        if choose_variant(*self.shape) == Variant(64, 64, 3):
            large = Variant(64, 64, 3, 16, 16)
            found["mma_large"] = conv_launch(self.canvas, self.packed(large), self.out)
            if hopper_fits(self.canvas, self.packed()) is None:
                for name, shifted in (("wgmma", False), ("wgmma_shifted", True)):
                    found[name] = hopper_launch(self.canvas, self.packed(), self.out, shifted=shifted)
        return found

    def triton(self) -> cuda.Launch | None:
        """The Triton kernel in its shipped configuration, if Triton is there."""
        try:
            from srfast.kernels import triton_conv_launch
            from srfast.kernels.packed_conv import pack_conv as pack
            from srfast.kernels.triton_config import find_config
        except ImportError:
            return None
        config = find_config(device_names(self.x.device), conv_key(*self.shape))
        packed = pack(
            self.weight,
            self.bias,
            act="prelu",
            slope=self.slope,
            shuffle=self.shuffle,
            block_o=config.block_o,
            device="cuda",
        )
        height, width = self.x.shape[2:]
        half = self.shape[2] // 2
        source = Canvas.allocate(1, self.shape[0], height, width, border=half, tile=config.tile, device="cuda")
        source.nchw().copy_(self.x)
        return triton_conv_launch.conv_launch(source, packed, self.out, config)


def e1(hot: Problem) -> dict[str, Any]:
    errors = {name: hot.error(launch) for name, launch in hot.launches().items()}
    return {"errors": errors, "right": sorted(name for name, error in errors.items() if error <= TOLERANCE)}


def e2() -> dict[str, Any]:
    """TFLOP/s of wgmma m64nNk16 with both operands in shared memory."""
    if torch.cuda.get_device_capability()[0] != 9 or "90a" not in cuda.architectures():
        return {"skipped": "needs a Hopper GPU and srfast._cuda with sm_90a"}
    device, rounds = torch.device("cuda"), 512
    blocks = torch.cuda.get_device_properties(device).multi_processor_count
    source = torch.randn(1 << 15, device=device).half()
    rates = {}
    for columns in (64, 120):
        arguments = (columns, source.data_ptr(), rounds, blocks, cuda.queue(device, False))
        time = milliseconds(partial(cuda.module().matrix_rate, *arguments))
        # Two warpgroups a block, 36 instructions a round.
        rates[f"m64n{columns}k16"] = 2.0 * 64 * columns * 16 * 36 * rounds * 2 * blocks / time / 1e9
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


def kernels(height: int, width: int) -> list[dict[str, Any]]:
    """Every shape in every kernel that is right; the fused pair against two launches."""
    rows = []
    for channels, out, kernel, shuffle, scale in SHAPES:
        problem = Problem(channels, out, kernel, shuffle, height * scale, width * scale)
        launches = {n: launch for n, launch in problem.launches().items() if problem.error(launch) <= TOLERANCE}
        triton = problem.triton()
        if triton is not None:
            launches["triton"] = triton
        times = {name: milliseconds(launch) for name, launch in launches.items()}
        key = conv_key(channels, out, kernel)
        rows.append({"key": key, "flops": problem.flops, "ms": times})
    return [*rows, _pair(height, width), _tail(2 * height, 2 * width)]


def _pair(height: int, width: int) -> dict[str, Any]:
    problem = Problem(64, 64, 3, 1, height, width)
    packed = problem.packed()
    middle = Canvas.allocate(1, 64, height, width, device="cuda")
    first, second = (
        conv_launch(problem.canvas, packed, middle),
        conv_launch(middle, packed, problem.out, problem.canvas),
    )
    fused = pair_launch(problem.canvas, packed, packed, problem.out, problem.canvas)
    times = {"two launches": milliseconds(lambda: (first(), second())), "pair": milliseconds(fused)}
    return {"key": pair_key(64, 3, 64, 3, 64), "flops": 2 * problem.flops, "ms": times}


def _tail(height: int, width: int) -> dict[str, Any]:
    """The tail of the networks that enlarge fourfold, at the size where its last convolution runs."""
    problem, few = Problem(64, 256, 3, 1, height, width), Problem(256, 12, 5, 2, height, width)
    first, second = problem.packed(), pack_conv(few.weight, few.bias, shuffle=2, device="cuda")
    launches = conv_launch(problem.canvas, first, problem.out), conv_launch(problem.out, second, few.out)
    times = {"two launches": milliseconds(lambda: [launch() for launch in launches])}
    apart, tail = few.out.nchw().float(), pack_tail(first, second, few.weight)
    for name, wide in (("tail", False), ("tail_wide", True)):
        few.out.data.fill_(float("nan"))
        try:
            fused = tail_launch(problem.canvas, tail, few.out, wide=wide)
        except ValueError as error:
            print(f"{name}: {error}")
            continue
        fused()
        if float((few.out.nchw().float() - apart).abs().max().nan_to_num(nan=1e9)) <= TOLERANCE * float(
            apart.abs().max()
        ):
            times[name] = milliseconds(fused)
    return {"key": pair_key(64, 3, 256, 5, 12), "flops": problem.flops + few.flops, "ms": times}


def decisions(rows: list[dict[str, Any]], early: bool) -> dict[str, dict[str, Any]]:
    """The fastest right CUDA kernel of each shape, as ``cuda_configs.json`` has it."""
    chosen = {}
    for row in rows:
        times = dict(row["ms"])
        apart = times.pop("two launches", None)
        if apart is not None:
            if times:
                best = min(times, key=times.__getitem__)
                chosen[row["key"]] = {"kernel": best, "early": early, "speedup": round(apart / times[best], 3)}
            continue
        triton = times.pop("triton", None)
        if times:
            best = min(times, key=times.__getitem__)
            speedup = round(triton / times[best], 3) if triton else 0.0
            chosen[row["key"]] = {"kernel": best, "early": early, "speedup": speedup}
    return chosen


def table(rows: list[dict[str, Any]], chosen: dict[str, dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        lines.append(f"{row['key']}: {chosen.get(row['key'], 'no right kernel')}")
        lines += [f"    {n:14s} {t:8.4f} ms {row['flops'] / t / 1e9:7.1f} TFLOP/s" for n, t in row["ms"].items()]
    return "\n".join(lines)


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
