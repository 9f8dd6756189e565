"""Calibration of 8-bit convolutions for Hopper GPUs on given images, with the loss that it measures there."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from srfast.backends.cuda.backend import CudaBackend
from srfast.backends.cuda.convs import kernel_plan
from srfast.backends.cuda.int8 import int8_convs
from srfast.backends.int8 import Int8, find_roundings, psnr
from srfast.plan import Plan


@torch.inference_mode()
def calibrate(plan: Plan, images: Tensor, peak: float, dtype: torch.dtype = torch.float16) -> Int8:
    """Find the range of every activation that an 8-bit convolution reads, and what 8 bits change in the results.

    Args:
        plan: an optimised plan in float32, on the images' device.
        images: [N, C, H, W] like those that the plan will see, in its units, on the GPU.
        peak: white of the results.
        dtype: of what stays in 16 bits.

    Raises:
        ValueError: the images are none, the device cannot run it, or the results are not finite.
    """
    convs, expected = find_roundings(plan, images, int8_convs(kernel_plan(plan)))
    # The loss of this run is what is to be found, so none can be given to it yet.
    backend = CudaBackend(int8=Int8(convs, math.inf))
    if reasons := backend.not_supported_reasons(plan, images.device, dtype):
        raise ValueError(f"8-bit convolutions cannot be calibrated here: {reasons[0]}")
    return Int8(convs, psnr(backend.compile(plan, images.device, dtype)(images.to(dtype)), expected, peak))
