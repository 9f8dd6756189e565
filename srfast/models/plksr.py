"""RealPLKSR (https://github.com/dslisleedh/PLKSR, https://arxiv.org/abs/2404.11848): large kernels on a part of the channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models.dysample import DySample
from srfast.models.norms import PixelNorm2d


class _Partial(nn.Module):
    """A large kernel on the first channels; the others pass."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.channels = channels

    def forward(self, x: Tensor, width: int) -> Tensor:
        first = self.conv(x[:, : self.channels])
        return torch.cat([first, x[:, self.channels : width]], 1) if width > self.channels else first


class _Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x * self.f(x)
        return result


class _Block(nn.Module):
    def __init__(self, channels: int, partial: int, kernel: int, gate: bool, groups: int) -> None:
        super().__init__()
        self.width = channels
        self.layer_norm: nn.Module = nn.Identity() if groups else PixelNorm2d(channels)
        self.channel_mixer = nn.Sequential(
            nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.Mish(), nn.Conv2d(2 * channels, channels, 3, padding=1)
        )
        self.lk = _Partial(partial, kernel)
        self.attn: nn.Module = _Gate(channels) if gate else nn.Identity()
        self.refine = nn.Conv2d(channels, channels, 1)
        self.norm: nn.Module = nn.GroupNorm(groups, channels) if groups else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.lk(self.channel_mixer(self.layer_norm(x)), self.width)
        result: Tensor = x + self.norm(self.refine(self.attn(y)))
        return result


class RealPLKSR(nn.Module):
    """Blocks with one large kernel each, a pixel shuffle, and the image with repeated pixels; images in 0..1, RGB.

    Args:
        num_in_ch: colour planes in and out.
        upscale: pixel-shuffle factor.
        num_feat: width.
        num_blocks: at least 1.
        partial: channels that the large kernels read.
        kernel: odd side of those.
        gate: with gains of every value.
        groups: of group normalisation, whose moments are those of the whole image; 0 normalises pixels instead.
        dysample: groups of channels with sampling points of their own; 0 shuffles pixels instead.

    Raises:
        ValueError: an even kernel, or more channels of it than there are.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        upscale: int = 4,
        num_feat: int = 64,
        num_blocks: int = 28,
        partial: int = 16,
        kernel: int = 17,
        gate: bool = True,
        groups: int = 4,
        dysample: int = 0,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 or partial > num_feat or (groups and num_feat % groups):
            raise ValueError(f"kernel {kernel} on {partial} of {num_feat} channels, {groups} groups")
        self.scale = upscale
        self.feats = nn.Sequential(
            nn.Conv2d(num_in_ch, num_feat, 3, padding=1),
            *(_Block(num_feat, partial, kernel, gate, groups) for _ in range(num_blocks)),
            nn.Identity(),  # where training drops channels
            nn.Conv2d(num_feat, num_in_ch * upscale**2, 3, padding=1),
        )
        planes = num_in_ch if upscale > 1 else 0
        self.to_img = DySample(num_in_ch * upscale**2, planes, upscale, dysample) if dysample else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1 -> [N, num_in_ch, upscale * H, upscale * W], not clamped."""
        base = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        if self.to_img is not None:
            result: Tensor = self.to_img(self.feats(x) + F.pixel_unshuffle(base, self.scale))
            return result
        return F.pixel_shuffle(self.feats(x), self.scale) + base
