"""Times whole networks on this GPU: the Triton backend against eager PyTorch and torch.compile; one JSON object a line.

    python benchmarks/bench_triton_network.py [--height 270 --width 480] [--compile]

Baselines in float16, channels last, cudnn.benchmark: ``eager``, and with --compile ``torch.compile`` max-autotune with
freezing and CUDA graphs; ``eager32`` is float32. Ours: ``tensor`` (NCHW in and out, with the copy of the result) and
``frames`` (uint8 on the GPU in, uint8 on the GPU out). Times are milliseconds, 20th, 50th and 80th percentile; error is
the largest against float32, of outputs in 0..1.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import torch
from torch import nn

from srfast.backends.triton import TritonBackend
from srfast.capture import capture
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.passes import in_units, optimise


def networks() -> dict[str, nn.Module]:
    """Standard sizes with random weights: speed does not depend on them."""
    torch.manual_seed(0)
    return {"SRResNet x4": SRResNet(scale=4), "Compact x4": SRVGGNetCompact(upscale=4)}


def measure(module: nn.Module, height: int, width: int, compiled: bool) -> dict[str, Any]:
    """All timings of one network at one size."""
    from bench_triton_conv import milliseconds

    device = torch.device("cuda")
    module = module.eval().to(device)
    x = torch.rand(1, 3, height, width, device=device)
    frames = (x.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).contiguous()
    expected = module(x)
    plan = optimise(capture(module))
    result: dict[str, Any] = {"gflop": plan.flops(height, width) / 1e9}

    run: Any = TritonBackend().compile(plan, device, torch.float16)
    half = x.half().contiguous(memory_format=torch.channels_last)
    result["error"] = float((run(half).float() - expected).abs().max())
    result["tensor"] = milliseconds(lambda: run(half))
    run_frames: Any = TritonBackend().compile(in_units(plan, 1.0, 255.0), device, torch.float16)
    result["frames"] = milliseconds(lambda: run_frames.run_frames(frames, 1 / 255, 255.0))

    torch.backends.cudnn.benchmark = True
    result["eager32"] = milliseconds(lambda: module(x))
    module = module.half().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    result["eager_error"] = float((module(half).float() - expected).abs().max())
    result["eager"] = milliseconds(lambda: module(half))
    if compiled:
        torch._inductor.config.freezing = True
        best = torch.compile(module, mode="max-autotune")
        result["compile"] = milliseconds(lambda: best(half))
    result["tflops"] = round(result["gflop"] / result["frames"][1], 1)
    return result


def main() -> int:
    """0, also without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=270, help="of the input image")
    parser.add_argument("--width", type=int, default=480, help="of the input image")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing to measure")
        return 0
    import triton

    print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "triton": triton.__version__}))
    with torch.inference_mode():
        for name, module in networks().items():
            line = measure(module, options.height, options.width, options.compile)
            print(json.dumps({"network": name, "height": options.height, "width": options.width, **line}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
