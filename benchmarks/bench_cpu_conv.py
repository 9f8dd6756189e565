"""CPU: the compiled float32 kernels against oneDNN and eager PyTorch, layers and whole networks, interleaved in one run.

    python benchmarks/bench_cpu_conv.py [--size 135x240] [--rounds 7] [--openvino] [--only NAME]

Prints the median time of every contender, its effective rate (operations of the direct convolution over time) and how many
times as fast as eager PyTorch (float32, NCHW) it was. Contenders take turns, so that a busy machine slows all of them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from srfast.backends.cpu import CpuBackend
from srfast.capture import capture
from srfast.kernels import cpu
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.passes import optimise

Run = Callable[[], object]
CPU = torch.device("cpu")


def subjects() -> dict[str, tuple[nn.Module, int, int]]:
    """Name -> module, input channels, and its input's pixels per pixel of ``--size``."""
    return {
        "3x3 64-64": (nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.PReLU()), 64, 1),
        "3x3 64-256 shuffle": (nn.Sequential(nn.Conv2d(64, 256, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()), 64, 2),
        "5x5 256-12 shuffle": (nn.Sequential(nn.Conv2d(256, 12, 5, padding=2), nn.PixelShuffle(2)), 256, 2),
        "9x9 3-64": (nn.Sequential(nn.Conv2d(3, 64, 9, padding=4), nn.PReLU()), 3, 1),
        "SRResNet x4": (SRResNet(4), 3, 1),
        "Compact x4": (SRVGGNetCompact(), 3, 1),
    }


def contenders(module: nn.Module, x: Tensor, openvino: bool) -> dict[str, Run]:
    """Every way to run the module on x."""
    plan = optimise(capture(module, x.shape[1]))
    last = x.contiguous(memory_format=torch.channels_last)
    runs: dict[str, Run] = {"eager": lambda: module(x)}
    backends = {"onednn": CpuBackend(compiled=False)}
    if cpu.unavailable_reason() is None:
        backends |= {"direct": CpuBackend(winograd=False), "winograd": CpuBackend()}
    for name, backend in backends.items():
        run = backend.compile(plan, CPU, torch.float32)
        runs[name] = lambda run=run: run(last)  # type: ignore[misc]
    if openvino:
        runs["openvino"] = openvino_run(module, x)
    return runs


def openvino_run(module: nn.Module, x: Tensor) -> Run:
    """OpenVINO in float32 with the latency hint."""
    import openvino as ov

    threads = torch.get_num_threads()
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = ov.convert_model(module, example_input=x, input=[tuple(x.shape)])
    compiled = ov.Core().compile_model(model, "CPU", options)
    image = x.numpy()
    return lambda: compiled(image)


def measure(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of every contender in turn; the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if i:
                times[name].append(time.perf_counter() - start)
    return times


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="135x240", help="height x width")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--openvino", action="store_true", help="also OpenVINO, if it is installed")
    parser.add_argument("--only", help="one subject by name")
    args = parser.parse_args()
    height, width = (int(n) for n in args.size.split("x"))
    kernels = cpu.default_instruction_set() if cpu.unavailable_reason() is None else "none"
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, kernels {kernels}, input {height}x{width}")
    for name, (module, channels, scale) in subjects().items():
        if args.only not in (None, name):
            continue
        torch.manual_seed(0)
        x = torch.rand(1, channels, height * scale, width * scale)
        operations = optimise(capture(module, channels)).flops(height * scale, width * scale)
        times = measure(contenders(module.eval(), x, args.openvino), args.rounds)
        eager = statistics.median(times["eager"])
        for contender, seconds in times.items():
            t = statistics.median(seconds)
            print(
                f"{name:20} {contender:9} {t * 1e3:8.1f} ms (min {min(seconds) * 1e3:.1f})  "
                f"{operations / t / 1e9:6.0f} GFLOP/s  {eager / t:5.2f}x eager"
            )


if __name__ == "__main__":
    main()
