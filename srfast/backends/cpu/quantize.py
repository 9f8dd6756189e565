"""8-bit convolutions on CPUs with AMX-INT8 or AVX512-VNNI: calibration on given images, with the loss that it measures there.

Weights are rounded to 8 bits with a scale for every output channel, inputs with a scale and a zero point for every
activation. The first and the last convolution, everything that is added and everything between layers stay float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from srfast.backends.reference import run_node
from srfast.kernels.cpu import Narrow, narrow_fits
from srfast.plan import Conv, Plan


@dataclass(frozen=True)
class Int8:
    """A calibrated network.

    Attributes:
        convs: the 8-bit convolutions by the name of their output, and how their inputs are rounded.
        psnr: dB between the results in 8 bits and in float32 on the calibration images, of the plan's own peak; infinite
            where they are equal.
    """

    convs: Mapping[str, Narrow]
    psnr: float


def narrow_convs(plan: Plan) -> list[Conv]:
    """The convolutions that may become 8-bit ones: all that the kernels cover but the first and the last."""
    shapes = plan.shapes()
    convs = [node for node in plan.nodes if isinstance(node, Conv)]
    return [
        node
        for node in convs[1:-1]
        if node.act in ("none", "prelu")
        and narrow_fits(node.kernel, node.weight.shape[1])
        and all(shapes[name].channels % 16 == 0 for name in node.sources)
    ]


@torch.inference_mode()
def calibrate(plan: Plan, images: Tensor, peak: float) -> Int8:
    """Finds the range of every activation that an 8-bit convolution reads, and what 8 bits change in the results.

    Args:
        plan: an optimised plan in float32.
        images: [N, C, H, W] like those that the plan will see, in its units.
        peak: white of the results.

    Raises:
        ValueError: the images are none, or the results are not finite.
    """
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"calibration needs images [N, C, H, W], not {list(images.shape)}")
    wanted = narrow_convs(plan)
    names = {name for node in wanted for name in node.sources}
    values: dict[str, Tensor] = {plan.input: images.float()}
    ranges: dict[str, tuple[float, float]] = {}
    for index, node in enumerate(plan.nodes):
        y = values[node.output] = run_node(node, values)
        if node.output in names:
            ranges[node.output] = (float(y.min()), float(y.max()))
        later = {name for other in plan.nodes[index + 1 :] for name in other.inputs} | {plan.output}
        values = {name: value for name, value in values.items() if name in later}
    expected = values[plan.output]
    convs = {node.output: _narrow([ranges[name] for name in node.sources]) for node in wanted}
    from srfast.backends.cpu import CpuBackend  # here: the backend takes what this module makes

    y = CpuBackend(int8=Int8(convs, math.inf)).compile(plan, images.device, torch.float32)(images.float())
    error = float((y - expected).square().mean())
    if not math.isfinite(error):
        raise ValueError("the network gives NaN or infinite values for the calibration images")
    return Int8(convs, 10 * math.log10(peak**2 / error) if error else math.inf)


def _narrow(ranges: list[tuple[float, float]]) -> Narrow:
    """One rounding for inputs of these ranges; 0.0, which surrounds every image, is exact."""
    low, high = min(0.0, *(low for low, _ in ranges)), max(0.0, *(high for _, high in ranges))
    scale = (high - low) / 255 or 1.0
    return Narrow(scale, min(255, max(0, round(-low / scale))))
