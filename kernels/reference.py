"""The fused convolutions: bias, activation, pixel shuffle, gain, residual and clamp in one operation; depthwise ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def activate(x: Tensor, act: str, slope: Tensor | None) -> Tensor:
    """``x`` through 'none', 'prelu' (``slope`` [1] or [C]), 'tanh', 'sigmoid', 'silu', 'gelu' or 'mish'."""
    if act == "prelu":
        assert slope is not None
        return F.prelu(x, slope.to(x.dtype))
    if act == "tanh":
        return torch.tanh(x)
    if act == "sigmoid":
        return torch.sigmoid(x)
    if act == "silu":
        return F.silu(x)
    if act == "mish":
        return F.mish(x)
    return F.gelu(x) if act == "gelu" else x


def conv_reference(
    x: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [O, C, k, k]
    bias: Tensor,  # [O]
    *,
    act: str = "none",
    slope: Tensor | None = None,  # [1] or [O]
    shuffle: int = 1,
    gain: float = 1.0,
    residual: Tensor | None = None,  # [N, O/r^2, H*r, W*r]
    clamp: tuple[float, float] | None = None,
) -> Tensor:  # [N, O/r^2, H*r, W*r]
    """``clamp(shuffle(act(conv(x) + bias)) * gain + residual)`` in plain torch: what every conv kernel must give."""
    y = F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=weight.shape[-1] // 2)
    y = activate(y, act, slope)
    if shuffle > 1:
        y = F.pixel_shuffle(y, shuffle)
    if gain != 1.0:
        y = y * gain
    if residual is not None:
        y = y + residual
    return y if clamp is None else y.clamp(*clamp)


def depthwise_reference(
    x: Tensor,  # [N, C, H, W]
    weight: Tensor,  # [C, 1, k, k]
    bias: Tensor,  # [C]
    *,
    act: str = "none",
    slope: Tensor | None = None,  # [1] or [C]
) -> Tensor:  # [N, C, H, W]
    """``act(conv(x) + bias)``, each channel with its own kernel, in plain torch."""
    half = weight.shape[-1] // 2
    return activate(F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=half, groups=len(bias)), act, slope)
