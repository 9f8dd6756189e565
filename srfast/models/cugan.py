"""Real-CUGAN (https://github.com/bilibili/ailab/tree/main/Real-CUGAN): two U-Nets in a row without padding.

The image comes with a mirrored border that the convolutions use up. With squeeze-excitation every pixel depends on means over
the whole image, so that there are no exact tiles; the variant without is exact in tiles.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models.bordered import Bordered

SLOPE = 0.1
# What "pro" models see and give instead of 0..1.
GAIN, SHIFT = 0.7, 0.15


class SqueezeExcitation(nn.Module):
    """Gains of channels from their means over the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, channels // 8, 1), nn.Conv2d(channels // 8, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.conv2(F.relu(self.conv1(means))))


class TwoConvs(nn.Module):
    """Two 3x3 convolutions, with or without gains."""

    def __init__(self, inputs: int, middle: int, outputs: int, se: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, middle, 3), nn.LeakyReLU(SLOPE), nn.Conv2d(middle, outputs, 3), nn.LeakyReLU(SLOPE)
        )
        self.seblock: nn.Module = SqueezeExcitation(outputs) if se else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.seblock(self.conv(x))
        return y


def _crop(x: Tensor, pixels: int) -> Tensor:
    return x[:, :, pixels:-pixels, pixels:-pixels]


def _act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


class UNet1(nn.Module):
    """One level down; enlarges by ``factor``, 2 or 3."""

    def __init__(self, inputs: int, outputs: int, factor: int, se: bool) -> None:
        super().__init__()
        self.conv1 = TwoConvs(inputs, 32, 64, se=False)
        self.conv1_down, self.conv2 = nn.Conv2d(64, 64, 2, 2), TwoConvs(64, 128, 64, se)
        self.conv2_up, self.conv3 = nn.ConvTranspose2d(64, 64, 2, 2), nn.Conv2d(64, 64, 3)
        self.conv_bottom = nn.ConvTranspose2d(64, outputs, factor + 2, factor, 5 - factor)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = _act(self.conv2_up(self.conv2(_act(self.conv1_down(x)))))
        result: Tensor = self.conv_bottom(_act(self.conv3(_crop(x, 4) + y)))
        return result


class UNet2(nn.Module):
    """Two levels down, at one size."""

    def __init__(self, inputs: int, outputs: int, se: bool) -> None:
        super().__init__()
        self.conv1 = TwoConvs(inputs, 32, 64, se=False)
        self.conv1_down, self.conv2 = nn.Conv2d(64, 64, 2, 2), TwoConvs(64, 64, 128, se)
        self.conv2_down, self.conv3 = nn.Conv2d(128, 128, 2, 2), TwoConvs(128, 256, 128, se)
        self.conv3_up, self.conv4 = nn.ConvTranspose2d(128, 128, 2, 2), TwoConvs(128, 64, 64, se)
        self.conv4_up, self.conv5 = nn.ConvTranspose2d(64, 64, 2, 2), nn.Conv2d(64, 64, 3)
        self.conv_bottom = nn.Conv2d(64, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        y = self.conv2(_act(self.conv1_down(x)))
        z = _act(self.conv3_up(self.conv3(_act(self.conv2_down(y)))))
        z = _act(self.conv4_up(self.conv4(_crop(y, 4) + z)))
        result: Tensor = self.conv_bottom(_act(self.conv5(_crop(x, 16) + z)))
        return result


class RealCUGAN(Bordered):
    """Both U-Nets; images in 0..1, RGB.

    Args:
        num_in_ch, num_out_ch: colour planes.
        upscale: 2, 3 or 4.
        se: with squeeze-excitation; the models called "nose" have none.
        pro: of the models called so, which see and give 0.15..0.85.
        fast: the variant of scale 2 that works at half the size.

    Raises:
        ValueError: another scale, or a fast one other than 2.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        upscale: int = 2,
        se: bool = True,
        pro: bool = False,
        fast: bool = False,
    ) -> None:
        super().__init__()
        if upscale not in (2, 3, 4) or (fast and upscale != 2):
            raise ValueError(f"Real-CUGAN enlarges by 2, 3 or 4, its fast variant by 2, not by {upscale}")
        self.scale, self.pro = upscale, pro
        # What the unpadded convolutions of both U-Nets use up, in pixels of the image, and how often they halve it.
        self.border, self.multiple = (38, 4) if fast else {2: (18, 2), 3: (14, 4), 4: (19, 2)}[upscale]
        shuffled = fast or upscale == 4
        middle = 64 if shuffled else num_out_ch
        self.unshuffle: nn.Module = nn.PixelUnshuffle(2) if fast else nn.Identity()
        self.unet1 = UNet1(num_in_ch * (4 if fast else 1), middle, 3 if upscale == 3 else 2, se)
        self.unet2 = UNet2(middle, middle, se)
        self.conv_final = nn.Conv2d(64, 4 * num_out_ch, 3) if shuffled else None

    def body(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H + 2 * border, W + 2 * border] in 0..1 -> [N, num_out_ch, upscale * H, upscale * W]."""
        if self.pro:
            x = x * GAIN + SHIFT
        y = self.unet1(self.unshuffle(x))
        # 20 and, in the U-Nets, 4 and 16: so many pixels the branch beside the skip has lost by then on each side.
        y = self.unet2(y) + _crop(y, 20)
        if self.conv_final is not None:
            y = F.pixel_shuffle(_crop(self.conv_final(y), 1), 2)
            y = y + F.interpolate(_crop(x, self.border), scale_factor=self.scale, mode="nearest")
        if self.pro:
            y = (y - SHIFT) / GAIN
        result: Tensor = y
        return result
