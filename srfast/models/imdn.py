"""IMDN (Hui et al. 2019, https://arxiv.org/abs/1909.11856): blocks that keep a part of the channels at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.05


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class _ContrastGate(nn.Module):
    """``x`` times a gain for each channel, from the sum of its standard deviation and its mean over the image."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, middle, 1), nn.ReLU(), nn.Conv2d(middle, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        result: Tensor = x * self.conv_du(torch.sqrt(variance) + mean)
        return result


class _Block(nn.Module):
    """Four convolutions; of the first three a quarter of the channels is kept and the rest goes on."""

    def __init__(self, channels: int, kept: int, middle: int) -> None:
        super().__init__()
        self.channels, self.kept = channels, kept
        self.c1 = _conv(channels, channels)
        self.c2, self.c3 = (_conv(channels - kept, channels) for _ in range(2))
        self.c4 = _conv(channels - kept, kept)
        self.c5 = _conv(4 * kept, channels, 1)
        self.cca = _ContrastGate(4 * kept, middle)

    def forward(self, x: Tensor) -> Tensor:
        kept, y = [], x
        for conv in (self.c1, self.c2, self.c3):
            y = F.leaky_relu(conv(y), SLOPE)
            kept.append(y[:, : self.kept])
            y = y[:, self.kept : self.channels]
        result: Tensor = self.c5(self.cca(torch.cat([*kept, self.c4(y)], 1))) + x
        return result


class IMDN(nn.Module):
    """Blocks, whose results one convolution joins, and a pixel shuffle; images in 0..1, RGB.

    Args:
        num_in_ch, num_out_ch: colour planes.
        num_feat: width.
        num_blocks: at least 1.
        kept: channels that a block keeps of each of its convolutions.
        middle: channels inside of a gate.
        upscale: enlargement.

    Raises:
        ValueError: a block keeps all channels, or none.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_blocks: int = 6,
        kept: int = 16,
        middle: int = 4,
        upscale: int = 4,
    ) -> None:
        super().__init__()
        if not 0 < kept < num_feat:
            raise ValueError(f"a block keeps {kept} of {num_feat} channels")
        self.scale, self.num_blocks = upscale, num_blocks
        self.fea_conv = _conv(num_in_ch, num_feat)
        for i in range(num_blocks):
            self.add_module(f"IMDB{i + 1}", _Block(num_feat, kept, middle))
        self.c = nn.Sequential(_conv(num_blocks * num_feat, num_feat, 1), nn.LeakyReLU(SLOPE))
        self.LR_conv = _conv(num_feat, num_feat)
        self.upsampler = nn.Sequential(_conv(num_feat, num_out_ch * upscale**2), nn.PixelShuffle(upscale))

    def forward(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1 -> [N, num_out_ch, upscale * H, upscale * W], not clamped."""
        first = y = self.fea_conv(x)
        found = []
        for i in range(self.num_blocks):
            y = self.get_submodule(f"IMDB{i + 1}")(y)
            found.append(y)
        result: Tensor = self.upsampler(self.LR_conv(self.c(torch.cat(found, 1))) + first)
        return result
