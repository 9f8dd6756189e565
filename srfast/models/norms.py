"""Normalisation of each pixel over its channels, which PyTorch has for the last dimension only."""

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
