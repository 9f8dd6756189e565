"""Normalisations of each pixel over its channels, which PyTorch has for the last dimension only."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PixelNorm2d(nn.Module):
    """``weight * (x - mean) / sqrt(variance + eps) + bias``, the moments over the channels of each pixel.

    Args:
        channels: of the input.
        eps: added to the variance.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        y = (x - mean) / torch.sqrt(variance + self.eps)
        return y * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


class RootMeanSquare2d(nn.Module):
    """``scale * x / (sqrt(mean of x * x) + eps) + offset``, the mean over the channels of each pixel.

    Args:
        channels: of the input.
        eps: added to the root.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.scale, self.offset = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        size = torch.sqrt(x.square().mean(1, keepdim=True)) + self.eps
        return self.scale.view(-1, 1, 1) * (x / size) + self.offset.view(-1, 1, 1)
