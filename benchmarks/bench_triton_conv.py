"""Times the Triton convolutions, alone and two in one launch, against PyTorch's on this GPU; one JSON object a line.

    python benchmarks/bench_triton_conv.py [--height 270 --width 480]

Baselines: ``cudnn`` is F.conv2d without bias, channels last, cudnn.benchmark; ``eager`` adds bias, PReLU and pixel
shuffle. Times are milliseconds, 20th, 50th and 80th percentile of ``triton.testing.do_bench`` (which flushes the L2
cache between runs); error is the largest against float32, as a fraction of the largest value.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def milliseconds(run: Callable[[], Any]) -> list[float]:
    """20th, 50th and 80th percentile."""
    import triton

    return [round(float(t), 5) for t in triton.testing.do_bench(run, quantiles=[0.2, 0.5, 0.8])]


def convolutions(height: int, width: int) -> None:
    """Every shape of the tuner with the configuration in force."""
    from srfast.kernels.triton_config import conv_key, device_names, find_config
    from srfast.kernels.triton_conv_launch import conv_launch
    from srfast.kernels.triton_tune import SHAPES, Tuner, canvas_of, pack, reference, result_of, weights

    tuner = Tuner(height, width)
    for shape in SHAPES:
        weight, bias = weights(shape)
        x = tuner.image(shape)
        config = find_config(device_names(x.device), conv_key(shape.channels, shape.out, shape.kernel))
        expected = reference(x, weight, bias, shape)
        out = result_of(expected)
        source = canvas_of(x, shape.kernel // 2, config.tile)
        launch = conv_launch(source, pack(weight, bias, shape, config.block_o), out, config)
        launch()
        error = float((out.nchw().float() - expected).abs().max() / expected.abs().max())
        ours = milliseconds(launch)
        cudnn, eager = _baselines(x, weight, bias, shape.shuffle)
        flops = 2 * weight.numel() * x.shape[2] * x.shape[3]
        line = {
            "shape": str(shape),
            "config": str(config),
            "error": error,
            "ours": ours,
            "cudnn": cudnn,
            "eager": eager,
        }
        print(json.dumps({**line, "tflops": round(flops / ours[1] / 1e9, 1)}), flush=True)


def pairs(height: int, width: int) -> None:
    """Two convolutions in one launch; compare with the sum of the two above."""
    from srfast.kernels.triton_tune import PAIRS, Tuner

    tuner = Tuner(height, width)
    for first, second in PAIRS:
        config, median = tuner.pair(first, second)
        print(json.dumps({"pair": [str(first), str(second)], "config": str(config), "median": median}), flush=True)


def _baselines(x: Tensor, weight: Tensor, bias: Tensor, shuffle: int) -> tuple[list[float], list[float]]:
    torch.backends.cudnn.benchmark = True
    x = x.contiguous(memory_format=torch.channels_last)
    weight = weight.cuda().contiguous(memory_format=torch.channels_last)
    bias, slope = bias.cuda().half(), torch.tensor([0.2], device="cuda", dtype=torch.float16)
    padding = weight.shape[-1] // 2

    def eager() -> Tensor:
        y = F.prelu(F.conv2d(x, weight, bias, padding=padding), slope)
        return F.pixel_shuffle(y, shuffle) if shuffle > 1 else y

    return milliseconds(lambda: F.conv2d(x, weight, padding=padding)), milliseconds(eager)


def main() -> int:
    """0, also without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=270, help="of the input image")
    parser.add_argument("--width", type=int, default=480, help="of the input image")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing to measure")
        return 0
    import triton

    versions = {"torch": torch.__version__, "triton": triton.__version__, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    print(json.dumps({"gpu": torch.cuda.get_device_name(), **versions}))
    with torch.inference_mode():
        convolutions(options.height, options.width)
        pairs(options.height, options.width)
    return 0


if __name__ == "__main__":
    sys.exit(main())
