"""Small networks whose convolutions are not padded, as those of waifu2x and Real-CUGAN, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models import Bordered


class UNet(nn.Module):
    """One or two levels down and up again, with crops where the levels meet."""

    def __init__(self, gate: bool, deep: bool, channels: int = 8) -> None:
        super().__init__()
        c = channels
        self.first = nn.Sequential(nn.Conv2d(3, c, 3), nn.LeakyReLU(0.1), nn.Conv2d(c, c, 3), nn.LeakyReLU(0.1))
        self.down, self.up = nn.Conv2d(c, c, 2, 2), nn.ConvTranspose2d(c, c, 2, 2)
        self.middle = nn.Sequential(nn.Conv2d(c, c, 3), nn.LeakyReLU(0.1), nn.Conv2d(c, c, 3))
        self.gate = nn.Sequential(nn.Conv2d(c, 4, 1), nn.ReLU(), nn.Conv2d(4, c, 1), nn.Sigmoid()) if gate else None
        if deep:
            self.lower = nn.Sequential(
                nn.Conv2d(c, c, 2, 2), nn.ReLU(), nn.Conv2d(c, c, 3), nn.Conv2d(c, c, 3), nn.ConvTranspose2d(c, c, 2, 2)
            )
            self.after = nn.Sequential(nn.Conv2d(c, c, 3), nn.ReLU(), nn.Conv2d(c, c, 3))
        self.deep = deep
        self.last = nn.Conv2d(c, c, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        y = self.middle(F.leaky_relu(self.down(x), 0.1))
        if self.gate is not None:
            y = y * self.gate(y.mean((2, 3), keepdim=True))
        if self.deep:
            y = self.after(F.pad(y, (-4, -4, -4, -4)) + self.lower(y))
        crop = 16 if self.deep else 4
        out: Tensor = self.last(x[:, :, crop:-crop, crop:-crop] + self.up(y))
        return out


class TwoUNets(Bordered):
    """Of scale 1, 2 or 3; ``gate`` has global means, so that no tiles are exact."""

    def __init__(self, scale: int, gate: bool) -> None:
        super().__init__()
        self.scale = scale
        self.border, self.multiple = {1: (28, 4), 2: (18, 2), 3: (14, 4)}[scale]
        self.first, self.second = UNet(gate, deep=False), UNet(gate, deep=True)
        self.second.first[0] = nn.Conv2d(3, 8, 3)
        tails = {
            1: lambda: nn.Conv2d(8, 3, 3),
            2: lambda: nn.ConvTranspose2d(8, 3, 4, 2, 3),
            3: lambda: nn.ConvTranspose2d(8, 3, 5, 3, 2),
        }
        self.tail, self.last = tails[scale](), nn.Conv2d(8, 3, 3)

    def body(self, x: Tensor) -> Tensor:
        x = self.tail(self.first(x))
        y: Tensor = self.last(self.second(x)) + x[..., 20:-20, 20:-20]
        return y


def two_unets(scale: int, gate: bool) -> TwoUNets:
    """In eval mode, float32, with gains that make every pixel of the border count."""
    torch.manual_seed(scale)
    module = TwoUNets(scale, gate).eval()
    for m in module.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            assert m.bias is not None
            nn.init.normal_(m.bias, std=0.1)
            m.weight.data *= 1.5
    return module
