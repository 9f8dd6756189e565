"""Calibration of 8-bit convolutions on given images, with the loss that it measures there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from srfast.backends.cpu.backend import CpuBackend
from srfast.backends.cpu.quantize import Int8, lowp_convs
from srfast.backends.reference import run_node
from srfast.kernels.cpu import LowPrecision
from srfast.plan import Plan


@torch.inference_mode()
def calibrate(plan: Plan, images: Tensor, peak: float) -> Int8:
    """Find the range of every activation that an 8-bit convolution reads, and what 8 bits change in the results.

    Args:
        plan: an optimised plan in float32.
        images: [N, C, H, W] like those that the plan will see, in its units.
        peak: white of the results.

    Raises:
        ValueError: the images are none, or the results are not finite.
    """
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"calibration needs images [N, C, H, W], not {list(images.shape)}")
    wanted = lowp_convs(plan)
    names = {name for node in wanted for name in node.sources}
    values: dict[str, Tensor] = {plan.input: images.float()}
    ranges: dict[str, tuple[float, float]] = {}
    for index, node in enumerate(plan.nodes):
        y = values[node.output] = run_node(node, values)
        if node.output in names:
            ranges[node.output] = (float(y.min()), float(y.max()))
        # The images are real ones and the reference keeps everything: without this all activations would be in memory at
        # once.
        later = {name for other in plan.nodes[index + 1 :] for name in other.inputs} | {plan.output}
        values = {name: value for name, value in values.items() if name in later}
    expected = values[plan.output]
    convs = {node.output: _lowp([ranges[name] for name in node.sources]) for node in wanted}
    # The loss of this run is what is to be found, so none can be given to it yet.
    y = CpuBackend(int8=Int8(convs, math.inf)).compile(plan, images.device, torch.float32)(images.float())
    error = float((y - expected).square().mean())
    if not math.isfinite(error):
        raise ValueError("the network gives NaN or infinite values for the calibration images")
    return Int8(convs, 10 * math.log10(peak**2 / error) if error else math.inf)


def _lowp(ranges: list[tuple[float, float]]) -> LowPrecision:
    """One rounding for inputs of these ranges; 0.0, which surrounds every image, is exact."""
    low, high = min(0.0, *(low for low, _ in ranges)), max(0.0, *(high for _, high in ranges))
    # A range of nothing, as behind a dead channel, must not divide by zero; any scale rounds its zeros exactly.
    scale = (high - low) / 255 or 1.0
    return LowPrecision(scale, min(255, max(0, round(-low / scale))))
