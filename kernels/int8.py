"""Convolutions in 8 bits in plain torch: how values become bytes, and what every kernel in 8 bits must give."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.kernels.reference import activate


@dataclass(frozen=True)
class LowPrecision:
    """A convolution in the low-precision type of its instruction set. For int8: input x is stored as ``round(x / scale) + zero``.

    Attributes:
        scale: positive; not used for bfloat16.
        zero: 0..255, what stands for 0.0.
    """

    scale: float = 1.0
    zero: int = 0


def quantize_reference(x: Tensor, rounding: LowPrecision) -> Tensor:
    """Values as bytes: their share of the range in float32, from 0 to 1, then 255 of it, half to even; NaN is 0."""
    gain, offset = (
        torch.tensor(value, dtype=torch.float32, device=x.device)
        for value in (1 / (255 * rounding.scale), rounding.zero / 255)
    )
    # As a fused multiply-add: in float64 the product is exact.
    share = (x.double() * gain.double() + offset.double()).float().clamp(0, 1).nan_to_num(0.0)
    return (share.double() * 255).round().to(torch.uint8)


def round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """[O, C, k, k] as int8, and the float32 scale of each output channel: its largest weight is 127 times that."""
    weight = weight.detach().float()
    largest = weight.flatten(1).abs().amax(1)
    scale = torch.where(largest > 0, largest / 127, torch.ones_like(largest))
    return (weight / scale[:, None, None, None]).round().to(torch.int8), scale


def int8_reference(
    x: Tensor,  # [N, C, H, W] uint8
    rounding: LowPrecision,
    weight: Tensor,  # [O, C, k, k]
    bias: Tensor,  # [O]
    *,
    act: str = "none",
    slope: Tensor | None = None,  # [1] or [O]
    shuffle: int = 1,
    gain: float = 1.0,
    residual: Tensor | None = None,  # [N, O/r^2, H*r, W*r]
) -> Tensor:  # [N, O/r^2, H*r, W*r] float32
    """``kernels.reference.conv_reference`` of bytes and weights in 8 bits: exact sums of integers, then float32.

    Args:
        x: values that were rounded by ``rounding``; outside the image they are 0.0.
        weight: rounded by ``round_weight``.
    """
    rounded, scale = round_weight(weight)
    # Below 2^53 float64 holds integers exactly.
    sums = F.conv2d(x.double() - rounding.zero, rounded.double(), padding=weight.shape[-1] // 2)
    factor = (scale.double() * rounding.scale).float()
    # As a fused multiply-add: in float64 the product is exact.
    y = (sums.float().double() * factor.double()[:, None, None] + bias.float().double()[:, None, None]).float()
    y = activate(y, act, slope)
    if shuffle > 1:
        y = F.pixel_shuffle(y, shuffle)
    if residual is not None:
        y = y * gain + residual.float()
    elif gain != 1.0:
        y = y * gain
    return y
