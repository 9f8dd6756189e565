"""SPAN (Wan et al. 2023, https://arxiv.org/abs/2311.12770) and SPANF3, its successor with learned gates, ready to run.

In training each 3x3 convolution is three in a row with a shortcut; ``folded`` makes them one.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models.bordered import Bordered

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, RGB
RANGE = 255.0


def folded(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Weight [O, C, 3, 3] and bias of ``conv2(conv1(conv0(x))) + sk(x)``, of 1x1, 3x3 and 1x1 taps, computed in float64.

    The image is padded before the first of the three, so that its bias counts at the border as everywhere.
    """

    def get(part: str) -> tuple[Tensor, Tensor]:
        weight, bias = (state[f"{name}.{part}.{what}"].double() for what in ("weight", "bias"))
        return weight, bias

    (first, b0), (middle, b1), (last, b2), (skip, b3) = (get(part) for part in ("conv.0", "conv.1", "conv.2", "sk"))
    # 1x1, 3x3 and 1x1 in a row, without activations between them, are one 3x3.
    weight = torch.einsum("om,mnhw,nc->ochw", last[:, :, 0, 0], middle, first[:, :, 0, 0])
    # A bias before a convolution reaches each pixel through the sum of its taps.
    bias = last[:, :, 0, 0] @ (middle.sum((2, 3)) @ b0 + b1) + b2 + b3
    return (weight + F.pad(skip, (1, 1, 1, 1))).float(), bias.float()


def _conv(inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class _Block(nn.Module):
    """Three convolutions; their result and the input, gated by a curve of the result. Gives also the first's, activated."""

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (_conv(channels, channels) for _ in range(3))
        self.att_conv = _conv(channels, channels, 1) if learned else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        act = F.silu if self.att_conv is None else F.relu
        first = act(self.c1_r(x))
        y = self.c3_r(act(self.c2_r(first)))
        # Odd around zero, as the paper has it: what the block is unsure of, y near 0, is damped.
        gate = torch.sigmoid(y) - 0.5 if self.att_conv is None else torch.tanh(self.att_conv(y))
        return (x + y) * gate, first


class SPAN(nn.Module):
    """Blocks whose gates have no weights; images in 0..1, RGB.

    Args:
        num_in_ch, num_out_ch: colour planes.
        num_feat: width.
        num_blocks: at least 1.
        upscale: pixel-shuffle factor.
        norm: takes the mean colour of DIV2K off and multiplies by 255 first.

    Raises:
        ValueError: a mean colour for images that are not RGB.
    """

    mean: Tensor

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 48,
        num_blocks: int = 6,
        upscale: int = 4,
        norm: bool = True,
    ) -> None:
        super().__init__()
        if norm and num_in_ch != 3:
            raise ValueError(f"the mean colour has 3 channels, the image {num_in_ch}")
        self.scale, self.norm, self.num_blocks = upscale, norm, num_blocks
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)
        self.conv_1 = _conv(num_in_ch, num_feat)
        for i in range(num_blocks):
            self.add_module(f"block_{i + 1}", _Block(num_feat, learned=False))
        self.conv_2 = _conv(num_feat, num_feat)
        self.conv_cat = _conv(4 * num_feat, num_feat, 1)
        self.upsampler = nn.Sequential(_conv(num_feat, num_out_ch * upscale**2), nn.PixelShuffle(upscale))

    def forward(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1 -> [N, num_out_ch, upscale * H, upscale * W], not clamped."""
        if self.norm:
            x = (x - self.mean) * RANGE
        first = out = early = middle = self.conv_1(x)
        for i in range(self.num_blocks):
            out, middle = self.get_submodule(f"block_{i + 1}")(out)
            early = out if i == 0 else early
        result: Tensor = self.upsampler(self.conv_cat(torch.cat([first, self.conv_2(out), early, middle], 1)))
        return result


class SPANF3(Bordered):
    """Blocks with a learned 1x1 gate; images in 0..1, RGB.

    Args:
        num_in_ch, num_out_ch: colour planes.
        num_feat: width.
        num_blocks: at least 1.
        upscale: pixel-shuffle factor at the end.
        unshuffle: pixel-unshuffle factor at the beginning, which divides ``upscale``; images are continued to multiples of it.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 48,
        num_blocks: int = 6,
        upscale: int = 4,
        unshuffle: int = 1,
    ) -> None:
        super().__init__()
        if upscale % unshuffle:
            raise ValueError(f"unshuffle {unshuffle} does not divide upscale {upscale}")
        self.scale, self.multiple, self.num_blocks = upscale // unshuffle, unshuffle, num_blocks
        self.unshuffle = nn.PixelUnshuffle(unshuffle) if unshuffle > 1 else nn.Identity()
        self.conv_1 = _conv(num_in_ch * unshuffle**2, num_feat)
        for i in range(num_blocks):
            self.add_module(f"block_{i + 1}", _Block(num_feat, learned=True))
        self.conv_cat = _conv(4 * num_feat, num_feat, 1)
        self.to_pixel = _conv(num_feat, num_out_ch * upscale**2)
        self.upsampler = nn.PixelShuffle(upscale)

    def body(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1, multiples of ``unshuffle`` -> [N, num_out_ch, scale * H, scale * W], not clamped."""
        first = out = early = middle = self.conv_1(self.unshuffle(x))
        for i in range(self.num_blocks):
            out, middle = self.get_submodule(f"block_{i + 1}")(out)
            early = out if i == 0 else early
        result: Tensor = self.upsampler(self.to_pixel(self.conv_cat(torch.cat([first, out, early, middle], 1))))
        return result
