"""What the backends with 8-bit convolutions share: a calibrated network, and the ranges and the loss that calibration finds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from srfast.backends.reference import run_node
from srfast.kernels.int8 import LowPrecision
from srfast.plan import Conv, Plan


@dataclass(frozen=True)
class Int8:
    """A calibrated network.

    Attributes:
        convs: the 8-bit convolutions by the name of their output, and how their inputs are rounded.
        psnr: dB between the results in 8 bits and in float32 on the calibration images, of the plan's own peak; infinite
            where they are equal.
    """

    convs: Mapping[str, LowPrecision]
    psnr: float


@torch.inference_mode()
def find_roundings(plan: Plan, images: Tensor, wanted: Sequence[Conv]) -> tuple[dict[str, LowPrecision], Tensor]:
    """Find how the inputs of convolutions are rounded, from their ranges on images.

    Args:
        plan: in float32.
        images: [N, C, H, W] like those that the plan will see, in its units.
        wanted: convolutions of the plan.

    Returns:
        The rounding of each one's inputs, by the name of its output; and the plan's result for the images.

    Raises:
        ValueError: the images are none.
    """
    if images.ndim != 4 or not images.numel():
        raise ValueError(f"calibration needs images [N, C, H, W], not {list(images.shape)}")
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
    return {node.output: _rounding([ranges[name] for name in node.sources]) for node in wanted}, values[plan.output]


def psnr(y: Tensor, expected: Tensor, peak: float) -> float:
    """Say in dB how far results are from the expected ones; infinite where they are equal.

    Raises:
        ValueError: they are not finite.
    """
    error = float((y.float() - expected).square().mean())
    if not math.isfinite(error):
        raise ValueError("the network gives NaN or infinite values for the calibration images")
    return 10 * math.log10(peak**2 / error) if error else math.inf


def _rounding(ranges: list[tuple[float, float]]) -> LowPrecision:
    """One rounding for inputs of these ranges; 0.0, which surrounds every image, is exact."""
    low, high = min(0.0, *(low for low, _ in ranges)), max(0.0, *(high for _, high in ranges))
    # A range of nothing, as behind a dead channel, must not divide by zero; any scale rounds its zeros exactly.
    scale = (high - low) / 255 or 1.0
    return LowPrecision(scale, min(255, max(0, round(-low / scale))))
