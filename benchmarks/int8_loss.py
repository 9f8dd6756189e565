"""What 8-bit convolutions on Hopper GPUs cost in PSNR: ``python -m benchmarks.int8_loss --data FOLDER [MODEL ...]``.

In the arithmetic of the kernels' references, which the emulated kernels have bit for bit: sums of integers, float16 between
layers; so it needs no GPU. Ranges are found on crops of Set14, the loss is measured on Set5 by the protocol of ``quality``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from srfast.backends.cuda.convs import kernel_plan
from srfast.backends.cuda.int8 import int8_convs
from srfast.backends.gpu.layout import epilogue_of
from srfast.backends.int8 import find_roundings, psnr
from srfast.backends.reference import run_node
from srfast.capture import capture
from srfast.checkpoint import load_model
from srfast.kernels.int8 import LowPrecision, int8_reference, quantize_reference
from srfast.plan import Conv, Plan
from srfast.plan.passes import in_units, optimise
from srfast.training.data import find_images, read_rgb
from srfast.training.imresize import imresize
from srfast.training.metrics import modcrop, psnr_y

CROP = 60  # pixels; the smallest image of Set14 has 62


def run_rounded(plan: Plan, roundings: Mapping[str, LowPrecision], x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The plan node by node, convolutions with a rounding in 8 bits.

    Args:
        roundings: of convolutions' inputs, by the names of their outputs.
        dtype: of what lies between layers; None for float32.
    """
    values = {plan.input: x}
    for node in plan.nodes:
        if isinstance(node, Conv) and node.output in roundings:
            rounding, options = roundings[node.output], epilogue_of(node)
            del options["clamp"]  # none of them has one
            residual = None if node.residual is None else values[node.residual]
            given = quantize_reference(values[node.input], rounding)
            y = int8_reference(given, rounding, node.weight, node.bias, residual=residual, **options)
        else:
            y = run_node(node, values)
        last = dtype is None or node.output == plan.output
        values[node.output] = y if last else y.to(dtype).float()
    return values[plan.output]


def measure(name: str, data: Path) -> None:
    """Prints a line for each way to compute."""
    loaded = load_model(name)
    scale = loaded.scale
    plan = kernel_plan(in_units(optimise(capture(loaded.module)), 1.0, 255.0))
    crops = []
    for path in find_images([data / "eval" / "Set14" / "HR"]):
        low = imresize(modcrop(read_rgb(path), scale), 1 / scale)
        y, x = (low.shape[0] - CROP) // 2, (low.shape[1] - CROP) // 2
        crops.append(_tensor(low[y : y + CROP, x : x + CROP]))
    wanted = int8_convs(plan)
    roundings, _ = find_roundings(plan, torch.cat(crops), wanted)
    ways = {"float32": ({}, None), "float16 between layers": ({}, torch.float16), "8 bits": (roundings, torch.float16)}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for path in find_images([data / "eval" / "Set5" / "HR"]):
        high = modcrop(read_rgb(path), scale)
        x = _tensor(imresize(high, 1 / scale))
        exact = run_rounded(plan, {}, x, None)
        for way, (chosen, dtype) in ways.items():
            result = exact if dtype is None else run_rounded(plan, chosen, x, dtype)
            image = result[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
            found[way].append((psnr_y(image, high, scale), psnr(result, exact, 255.0)))
    print(f"{name}: {len(wanted)} convolutions of {sum(isinstance(n, Conv) for n in plan.nodes)} in 8 bits", flush=True)
    for way, values in found.items():
        of_set, from_exact = (float(np.mean([value[i] for value in values])) for i in (0, 1))
        print(f"{name:16} Set5 {way:24} {of_set:7.3f} dB; to float32 {from_exact:6.2f} dB", flush=True)


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models", nargs="*", default=["srresnet_x4", "compact_x4"], help="checkpoints or shipped models"
    )
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SRFAST_DATA"), help="has eval/SET/HR; or SRFAST_DATA"
    )
    options = parser.parse_args()
    if options.data is None or not Path(options.data).is_dir():
        parser.error("give the folder of the data with --data or SRFAST_DATA")
    with torch.inference_mode():
        for name in options.models:
            measure(name, Path(options.data))


if __name__ == "__main__":
    main()
