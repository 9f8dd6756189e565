"""SRVGGNetCompact, the plain VGG-style network of Real-ESRGAN's video models (https://github.com/xinntao/Real-ESRGAN)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Activation = Literal["prelu", "relu", "leakyrelu"]


def _activation(kind: Activation, channels: int) -> nn.Module:
    if kind == "prelu":
        return nn.PReLU(num_parameters=channels)
    if kind == "relu":
        return nn.ReLU()
    if kind == "leakyrelu":
        return nn.LeakyReLU(0.1)
    raise ValueError(f"act_type must be 'prelu', 'relu' or 'leakyrelu', not {kind!r}")


class SRVGGNetCompact(nn.Module):
    """A chain of 3x3 convolutions at the input's size, one pixel shuffle, plus the input by nearest neighbour.

    Args and key names are upstream's, so its checkpoints load unchanged; images in 0..1, RGB.

    Args:
        num_in_ch, num_out_ch: colour planes.
        num_feat: width of the chain.
        num_conv: convolutions between the first and the last.
        upscale: pixel-shuffle factor of the last convolution.
        act_type: 'prelu' (per channel), 'relu' or 'leakyrelu' (slope 0.1).
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_conv: int = 16,
        upscale: int = 4,
        act_type: Activation = "prelu",
    ) -> None:
        super().__init__()
        self.scale = upscale
        layers: list[nn.Module] = [nn.Conv2d(num_in_ch, num_feat, 3, padding=1), _activation(act_type, num_feat)]
        for _ in range(num_conv):
            layers += [nn.Conv2d(num_feat, num_feat, 3, padding=1), _activation(act_type, num_feat)]
        layers.append(nn.Conv2d(num_feat, num_out_ch * upscale * upscale, 3, padding=1))
        self.body = nn.ModuleList(layers)
        self.upsampler = nn.PixelShuffle(upscale)

    def forward(self, x: Tensor) -> Tensor:
        """[N, num_in_ch, H, W] in 0..1 -> [N, num_out_ch, upscale*H, upscale*W], not clamped."""
        out = x
        for layer in self.body:
            out = layer(out)
        base = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        result: Tensor = self.upsampler(out) + base
        return result
