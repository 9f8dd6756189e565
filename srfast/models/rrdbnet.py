"""RRDBNet, the generator of ESRGAN (Wang et al. 2018, https://arxiv.org/abs/1809.00219) and Real-ESRGAN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.2
RESIDUAL_GAIN = 0.2


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads the block's input and everything written before it.

    Args:
        num_feat: channels of input and output.
        num_grow_ch: channels that each of the first four convolutions adds.
        plus: with the 1x1 convolution and the inner sums of ESRGAN+ (Rakotonirina and Rasoanaivo 2020,
            https://arxiv.org/abs/2001.08073); its noise is for training only.
    """

    def __init__(self, num_feat: int, num_grow_ch: int, plus: bool = False) -> None:
        super().__init__()
        widths = [num_feat + i * num_grow_ch for i in range(5)]
        self.conv1 = nn.Conv2d(widths[0], num_grow_ch, 3, padding=1)
        self.conv2 = nn.Conv2d(widths[1], num_grow_ch, 3, padding=1)
        self.conv3 = nn.Conv2d(widths[2], num_grow_ch, 3, padding=1)
        self.conv4 = nn.Conv2d(widths[3], num_grow_ch, 3, padding=1)
        self.conv5 = nn.Conv2d(widths[4], num_feat, 3, padding=1)
        self.conv1x1 = nn.Conv2d(num_feat, num_grow_ch, 1, bias=False) if plus else None

    def forward(self, x: Tensor) -> Tensor:
        x1 = F.leaky_relu(self.conv1(x), SLOPE)
        x2 = F.leaky_relu(self.conv2(torch.cat((x, x1), 1)), SLOPE)
        if self.conv1x1 is not None:
            x2 = x2 + self.conv1x1(x)
        x3 = F.leaky_relu(self.conv3(torch.cat((x, x1, x2), 1)), SLOPE)
        x4 = F.leaky_relu(self.conv4(torch.cat((x, x1, x2, x3), 1)), SLOPE)
        if self.conv1x1 is not None:
            x4 = x4 + x2
        x5: Tensor = self.conv5(torch.cat((x, x1, x2, x3, x4), 1))
        # ESRGAN scales residuals down so that deep stacks of them train without normalisation.
        return x5 * RESIDUAL_GAIN + x


class RRDB(nn.Module):
    """Three dense blocks and the identity."""

    def __init__(self, num_feat: int, num_grow_ch: int, plus: bool = False) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(num_feat, num_grow_ch, plus)
        self.rdb2 = DenseBlock(num_feat, num_grow_ch, plus)
        self.rdb3 = DenseBlock(num_feat, num_grow_ch, plus)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rdb3(self.rdb2(self.rdb1(x)))
        return out * RESIDUAL_GAIN + x


class RRDBNet(nn.Module):
    """Residual-in-residual dense blocks, upsampled by repeated pixels; images in 0..1, RGB.

    The keys of its state_dict are those of BasicSR and Real-ESRGAN (``conv_first``, ``body.N.rdbM.convK``, ``conv_body``,
    ``conv_upN``, ``conv_hr``, ``conv_last``).

    Args:
        num_in_ch, num_out_ch: colour planes.
        scale: 1 and 2 first fold 4x4 or 2x2 pixels into channels (``unshuffle``) and then enlarge four times; the sides of
            an image have to be multiples of 4 or 2.
        num_feat: width.
        num_block: residual-in-residual blocks.
        num_grow_ch: growth of the dense blocks.
        unshuffle: pixels folded on each side; by default 4 for scale 1, 2 for scale 2, else 1. Networks of scale 2 from
            before Real-ESRGAN have 1 and enlarge once.
        plus: dense blocks of ESRGAN+.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        scale: int = 4,
        num_feat: int = 64,
        num_block: int = 23,
        num_grow_ch: int = 32,
        unshuffle: int | None = None,
        plus: bool = False,
    ) -> None:
        super().__init__()
        self.scale = scale
        # Real-ESRGAN keeps the trunk of its x4 network for x2 and x1 and gives it smaller images with more channels.
        self.unshuffle = {1: 4, 2: 2}.get(scale, 1) if unshuffle is None else unshuffle
        self.multiple = self.unshuffle
        enlarge = scale * self.unshuffle
        if enlarge == 3:
            self.factors: tuple[int, ...] = (3,)
        elif enlarge >= 1 and enlarge & (enlarge - 1) == 0:
            self.factors = (2,) * (enlarge.bit_length() - 1)
        else:
            raise ValueError(f"RRDBNet enlarges by 1, 2, 3, 4, 8 or 16, not {enlarge}")
        self.conv_first = nn.Conv2d(num_in_ch * self.unshuffle**2, num_feat, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(num_feat, num_grow_ch, plus) for _ in range(num_block)))
        self.conv_body = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        for index in range(len(self.factors)):
            self.add_module(f"conv_up{index + 1}", nn.Conv2d(num_feat, num_feat, 3, padding=1))
        self.conv_hr = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.conv_last = nn.Conv2d(num_feat, num_out_ch, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1 -> [N, num_out_ch, scale*H, scale*W], not clamped."""
        if self.unshuffle > 1:
            x = F.pixel_unshuffle(x, self.unshuffle)
        first = self.conv_first(x)
        out = first + self.conv_body(self.body(first))
        for index, factor in enumerate(self.factors):
            out = F.interpolate(out, scale_factor=factor, mode="nearest")
            out = F.leaky_relu(getattr(self, f"conv_up{index + 1}")(out), SLOPE)
        result: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(out), SLOPE))
        return result
