"""MoSR (https://github.com/umzi2/MoSR): gated blocks with a depthwise convolution on a part of the channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models.dysample import DySample
from srfast.models.norms import PixelNorm2d


class _Block(nn.Module):
    """Gains, channels that pass and channels that are convolved, by one convolution; then another brings them together."""

    def __init__(self, channels: int, hidden: int, convolved: int, kernel: int) -> None:
        super().__init__()
        self.hidden, self.passing = hidden, hidden - convolved
        self.norm = PixelNorm2d(channels)
        self.fc1 = nn.Conv2d(channels, 2 * hidden, 3, padding=1)
        self.conv = nn.Conv2d(convolved, convolved, kernel, padding=kernel // 2, groups=convolved)
        self.fc2 = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc1(self.norm(x))
        first, second = self.hidden, self.hidden + self.passing
        values = self.conv(y[:, second : 2 * self.hidden])
        if self.passing:
            values = torch.cat([y[:, first:second], values], 1)
        # Less 0.5 here and once more around all blocks: so its program has it, and its weights are trained to it.
        result: Tensor = F.mish(self.fc2(F.mish(y[:, :first]) * values)) + (x - 0.5)
        return result


class _Shortcut(nn.Module):
    def __init__(self, planes: int, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(planes, channels, 3, padding=1), nn.Mish(), nn.Conv2d(channels, channels, 3, padding=1), nn.Mish()
        )
        self.conv11 = nn.Conv2d(planes, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.block(x) + self.conv11(x)
        return result


class MoSR(nn.Module):
    """Gated blocks, a shortcut of two convolutions, and a pixel shuffle or DySample; images in 0..1, RGB.

    Args:
        num_in_ch, num_out_ch: colour planes.
        upscale, num_feat, num_blocks, dysample: as those of ``RealPLKSR``.
        hidden: channels inside of a block.
        convolved: how many of those a block's depthwise convolution reads, with the odd side ``kernel``.

    Raises:
        ValueError: an even kernel, or more channels of it than there are.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        upscale: int = 4,
        num_feat: int = 64,
        num_blocks: int = 24,
        hidden: int = 96,
        convolved: int = 64,
        kernel: int = 7,
        dysample: int = 0,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 or not 0 < convolved <= hidden:
            raise ValueError(f"kernel {kernel} on {convolved} of {hidden} channels")
        self.scale = upscale
        self.gblocks = nn.Sequential(
            nn.Conv2d(num_in_ch, num_feat, 3, padding=1),
            *(_Block(num_feat, hidden, convolved, kernel) for _ in range(num_blocks)),
            nn.Conv2d(num_feat, 2 * num_feat, 3, padding=1),
            nn.Mish(),
            nn.Conv2d(2 * num_feat, num_feat, 3, padding=1),
            nn.Mish(),
            nn.Conv2d(num_feat, num_feat, 1),
        )
        self.shortcut = _Shortcut(num_in_ch, num_feat)
        self.upsampler: nn.Module = (
            DySample(num_feat, num_out_ch, upscale, dysample)
            if dysample
            else nn.Sequential(nn.Conv2d(num_feat, num_out_ch * upscale**2, 3, padding=1), nn.PixelShuffle(upscale))
        )

    def forward(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1 -> [N, num_out_ch, upscale * H, upscale * W], not clamped."""
        result: Tensor = self.upsampler(self.gblocks(x) + (self.shortcut(x) - 0.5))
        return result
