"""RCAN (Zhang et al. 2018, https://arxiv.org/abs/1807.02758): residual groups of blocks with squeeze-excitation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from srfast.models.bordered import Bordered
from srfast.models.residual import DIV2K_MEAN


class ChannelAttention(nn.Module):
    """Gains of channels from their means over the image."""

    def __init__(self, channels: int, middle: int) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, middle, 1), nn.ReLU(), nn.Conv2d(middle, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x * self.conv_du(x.mean((2, 3), keepdim=True))
        return result


class Residual(nn.Module):
    """``x + body(x)``."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = x + self.body(x)
        return result


class RCAN(Bordered):
    """Groups of blocks, pixel shuffles and one convolution; images in 0..1, RGB.

    Args:
        num_in_ch: colour planes in and out.
        upscale: of the pixel shuffles: 3, or a power of 2.
        num_groups, num_blocks: of residual groups, and blocks in each.
        num_feat: width.
        middle: channels of the squeezed means.
        white: what the network sees as white, 255 or 1, after the mean colour of DIV2K was taken off; 0 takes images as they are.
        unshuffle: pixel-unshuffle factor at the beginning; images are continued to multiples of it.

    Raises:
        ValueError: there are no such pixel shuffles.
    """

    mean: Tensor

    def __init__(
        self,
        num_in_ch: int = 3,
        upscale: int = 4,
        num_groups: int = 10,
        num_blocks: int = 20,
        num_feat: int = 64,
        middle: int = 4,
        white: float = 255.0,
        unshuffle: int = 1,
    ) -> None:
        super().__init__()
        steps: list[int] | None = {1: [], 2: [2], 3: [3], 4: [2, 2], 8: [2, 2, 2]}.get(upscale)
        if steps is None or upscale % unshuffle or (white and num_in_ch != 3):
            raise ValueError(f"upscale {upscale}, unshuffle {unshuffle} and {num_in_ch} channels make no RCAN")
        self.scale, self.multiple, self.white = upscale // unshuffle, unshuffle, white
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1)

        def block() -> nn.Module:
            attention = ChannelAttention(num_feat, middle)
            return Residual(conv(num_feat, num_feat), nn.ReLU(), conv(num_feat, num_feat), attention)

        first = conv(num_in_ch * unshuffle**2, num_feat)
        self.head = nn.Sequential(nn.PixelUnshuffle(unshuffle), first) if unshuffle > 1 else nn.Sequential(first)
        each = [Residual(*(block() for _ in range(num_blocks)), conv(num_feat, num_feat)) for _ in range(num_groups)]
        self.middle = nn.Sequential(*each, conv(num_feat, num_feat))
        ups = [layer for step in steps for layer in (conv(num_feat, num_feat * step**2), nn.PixelShuffle(step))]
        self.tail = nn.Sequential(nn.Sequential(*ups), conv(num_feat, num_in_ch))

    def body(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1, multiples of ``unshuffle`` -> [N, num_in_ch, scale * H, scale * W], not clamped."""
        if self.white:
            x = (x - self.mean) * self.white
        x = self.head(x)
        y: Tensor = self.tail(x + self.middle(x))
        return y / self.white + self.mean if self.white else y
