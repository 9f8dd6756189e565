"""SRResNet, the generator of SRGAN (Ledig et al. 2017, https://arxiv.org/abs/1609.04802, figure 4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """conv-BN-PReLU-conv-BN plus the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rcb = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rcb(x)
        return out + x


class UpsampleBlock(nn.Module):
    """Doubles height and width: conv to four times the channels, pixel shuffle, PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.upsample_block = nn.Sequential(
            nn.Conv2d(channels, 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.upsample_block(x)
        return out


class SRResNet(nn.Module):
    """Residual network with sub-pixel upsampling; images in 0..1, RGB.

    The keys of its state_dict are those of the widely used SRGAN-PyTorch layout
    (``conv1.0.weight``, ``trunk.N.rcb.M.*``, ``conv2.*``, ``upsampling.N.upsample_block.*``, ``conv3.*``),
    so its checkpoints and that project's are interchangeable.

    Args:
        scale: 2 or 4 (any power of two works).
        in_channels, out_channels: colour planes, 3 for RGB.
        channels: width of the trunk (64 in the paper).
        num_blocks: residual blocks (16 in the paper).
    """

    def __init__(
        self, scale: int = 4, in_channels: int = 3, out_channels: int = 3, channels: int = 64, num_blocks: int = 16
    ) -> None:
        super().__init__()
        if scale < 2 or scale & (scale - 1):
            raise ValueError(f"SRResNet upsamples by doublings: scale must be 2, 4, 8, ..., not {scale}")
        self.scale = scale
        self.conv1 = nn.Sequential(nn.Conv2d(in_channels, channels, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*(ResidualBlock(channels) for _ in range(num_blocks)))
        self.conv2 = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.upsampling = nn.Sequential(*(UpsampleBlock(channels) for _ in range(scale.bit_length() - 1)))
        self.conv3 = nn.Conv2d(channels, out_channels, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] in 0..1 -> [N, out_channels, scale*H, scale*W], clamped to 0..1 in eval mode only.

        Training sees the raw output: a clamp would stop the gradient of every saturated pixel.
        """
        shallow = self.conv1(x)
        out = torch.add(self.conv2(self.trunk(shallow)), shallow)
        out = self.conv3(self.upsampling(out))
        return out if self.training else torch.clamp(out, 0.0, 1.0)


def digit_srgan(scale: int = 4, channels: int = 1) -> SRResNet:
    """The generator for 28x28 digits: SRResNet with 4 residual blocks.

    Args:
        scale: 2 or 4.
        channels: colour planes of the digits, 1 or 3.
    """
    return SRResNet(scale=scale, in_channels=channels, out_channels=channels, num_blocks=4)
