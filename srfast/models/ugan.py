"""SR-UGAN: a U-Net with squeeze-excitation and spatial attention at the bottom, dense blocks on its way up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models.rrdbnet import SLOPE, DenseBlock


class SqueezeExcitation(nn.Module):
    """A gain for each channel from the means of all (Hu et al. 2018, https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        middle = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, middle, 1)
        self.expand = nn.Conv2d(middle, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gains = torch.sigmoid(self.expand(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return x * gains


class SpatialAttention(nn.Module):
    """A gain for each pixel from the mean and the maximum of its channels (Woo et al. 2018,
    https://arxiv.org/abs/1807.06521)."""

    def __init__(self, kernel: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        moments = torch.cat((torch.mean(x, dim=1, keepdim=True), torch.amax(x, dim=1, keepdim=True)), 1)
        return x * torch.sigmoid(self.conv(moments))


class AttentiveBlock(nn.Module):
    """Two convolutions with batch normalisation, squeeze-excitation, spatial attention."""

    def __init__(self, in_channels: int, channels: int, gate: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.channel_gate: nn.Module = SqueezeExcitation(channels) if gate else nn.Identity()
        self.pixel_gate = SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        out = F.leaky_relu(self.norm1(self.conv1(x)), SLOPE)
        out = F.leaky_relu(self.norm2(self.conv2(out)), SLOPE)
        result: Tensor = self.pixel_gate(self.channel_gate(out))
        return result


class SubPixelUp(nn.Module):
    """Doubles the size: conv, pixel shuffle, LeakyReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(F.pixel_shuffle(self.conv(x), 2), SLOPE)


class SRUGAN(nn.Module):
    """U-Net generator for native x2 and x4; images in 0..1, RGB.

    Going down, two attentive blocks, each followed by 2x2 max pooling; at the bottom ``blocks`` dense blocks at the wider
    width; going up, pixel-shuffle steps whose results join the skips; then ``blocks`` dense blocks at the default width and
    a sub-pixel output. The sides of an image have to be multiples of 4. With ``channel_attention`` the receptive field is the
    whole image.

    Args:
        scale: 2 or 4.
        in_channels, out_channels: colour planes.
        channels: the default width; the wider one is four times that.
        growth: of the dense blocks.
        blocks: dense blocks at each width.
        channel_attention: with squeeze-excitation; without it the network can be tiled exactly.

    Raises:
        ValueError: another scale.
    """

    def __init__(
        self,
        scale: int = 4,
        in_channels: int = 3,
        out_channels: int = 3,
        channels: int = 32,
        growth: int = 16,
        blocks: int = 8,
        channel_attention: bool = True,
    ) -> None:
        super().__init__()
        if scale not in (2, 4):
            raise ValueError(f"SRUGAN enlarges by 2 or 4, not {scale}")
        self.scale, self.multiple = scale, 4
        wide = 4 * channels
        self.down1 = AttentiveBlock(in_channels, channels, channel_attention)
        self.down2 = AttentiveBlock(channels, 2 * channels, channel_attention)
        self.bottom = AttentiveBlock(2 * channels, wide, channel_attention)
        self.wide_blocks = nn.Sequential(*(DenseBlock(wide, growth) for _ in range(blocks)))
        self.up2 = SubPixelUp(wide, 2 * channels)
        self.join2 = AttentiveBlock(4 * channels, 2 * channels, channel_attention)
        self.up1 = SubPixelUp(2 * channels, channels)
        self.join1 = AttentiveBlock(2 * channels, channels, channel_attention)
        self.blocks = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(blocks)))
        self.enlarge = nn.Sequential(*(SubPixelUp(channels, channels) for _ in range(scale // 2 - 1)))
        self.tail = nn.Conv2d(channels, out_channels * 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] in 0..1 -> [N, out_channels, scale*H, scale*W], not clamped."""
        fine = self.down1(x)
        coarse = self.down2(F.max_pool2d(fine, 2))
        out = self.wide_blocks(self.bottom(F.max_pool2d(coarse, 2)))
        out = self.join2(torch.cat((self.up2(out), coarse), 1))
        out = self.join1(torch.cat((self.up1(out), fine), 1))
        out = self.blocks(out)
        # What interpolation gives comes for nothing; the network adds what it lacks.
        return F.pixel_shuffle(self.tail(self.enlarge(out)), 2) + F.interpolate(
            x, scale_factor=self.scale, mode="bilinear", align_corners=False
        )
