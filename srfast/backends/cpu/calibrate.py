"""Calibration of 8-bit convolutions on given images, with the loss that it measures there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from srfast.backends.cpu.backend import CpuBackend
from srfast.backends.cpu.quantize import lowp_convs
from srfast.backends.int8 import Int8, find_roundings, psnr
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
    convs, expected = find_roundings(plan, images, lowp_convs(plan))
    # The loss of this run is what is to be found, so none can be given to it yet.
    y = CpuBackend(int8=Int8(convs, math.inf)).compile(plan, images.device, torch.float32)(images.float())
    return Int8(convs, psnr(y, expected, peak))
