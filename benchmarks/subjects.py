"""What is measured: single operations and whole networks, with the sizes of their inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor, nn

from srfast.capture import capture
from srfast.checkpoint import load_model, shipped_models
from srfast.models import RCAN, SPAN, SRUGAN, RealCUGAN, RealPLKSR, RRDBNet, SRResNet, SRVGGNetCompact
from srfast.models.bordered import Bordered
from srfast.plan import Plan


@dataclass(frozen=True)
class Subject:
    """An operation or network.

    Attributes:
        name: as records call it.
        build: makes the module in eval mode.
        channels: of its input.
        scale: its input's pixels for each pixel of the image, along one side (an operation late in a network has more).
    """

    name: str
    build: Callable[[], nn.Module]
    channels: int = 3
    scale: int = 1

    def module(self) -> nn.Module:
        """A fresh module; random weights are the same each time."""
        torch.manual_seed(0)
        return self.build().eval()

    def image(self, width: int, height: int, batch: int = 1) -> Tensor:
        """[batch, channels, height, width] of noise in 0..1, times ``scale``."""
        generator = torch.Generator().manual_seed(1)
        return torch.rand(batch, self.channels, height * self.scale, width * self.scale, generator=generator)

    def plan(self) -> Plan:
        """As captured, before any pass: what eager PyTorch computes."""
        return _captured(self)

    def flop(self, width: int, height: int) -> int:
        """Operations of the network as it is written, 2 per multiply-add, whatever a backend makes of it."""
        return self.plan().flops(height * self.scale, width * self.scale)


@cache
def _captured(subject: Subject) -> Plan:
    return capture(subject.module(), subject.channels)


def _shipped(name: str, otherwise: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """The shipped model of that name, or random weights of the same shape."""
    return lambda: load_model(name).module if name in shipped_models() else otherwise()


class ConvAdd(nn.Module):
    """The end of a residual block: convolution plus its own input, with a ReLU after it as in ResNet or without."""

    def __init__(self, relu: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1)
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, 64, H, W] -> the same."""
        out: Tensor = self.relu(self.conv(x) + x)
        return out


class Upconv7(Bordered):
    """waifu2x's upconv_7, x2: six unpadded 3x3 convolutions and a transposed one (https://github.com/nagadomi/waifu2x)."""

    scale, border = 2, 7

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 16, 32, 64, 128, 128, 256)
        layers: list[nn.Module] = []
        for channels, out in pairwise(widths):
            layers += [nn.Conv2d(channels, out, 3), nn.LeakyReLU(0.1)]
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 3))

    def body(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


def _conv(channels: int, out: int, kernel: int, *after: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Conv2d(channels, out, kernel, padding=kernel // 2), *after)


OPERATIONS = (
    Subject("conv 3x3 64-64 + PReLU", _conv(64, 64, 3, nn.PReLU()), 64),
    Subject("conv 3x3 64-64 + ReLU", _conv(64, 64, 3, nn.ReLU()), 64),
    Subject("conv 3x3 64-64 + add", lambda: ConvAdd(relu=False), 64),
    Subject("conv 3x3 64-64 + add + ReLU", lambda: ConvAdd(relu=True), 64),
    Subject("conv 3x3 64-256 + shuffle + PReLU", _conv(64, 256, 3, nn.PixelShuffle(2), nn.PReLU()), 64, 2),
    Subject("conv 9x9 3-64 + PReLU", _conv(3, 64, 9, nn.PReLU()), 3),
    Subject(
        "shuffle + conv 9x9 64-3", lambda: nn.Sequential(nn.PixelShuffle(2), nn.Conv2d(64, 3, 9, padding=4)), 256, 2
    ),
    Subject("conv 3x3 64-48 + shuffle x4", _conv(64, 48, 3, nn.PixelShuffle(4)), 64),
)

SRRESNET_X4 = Subject("SRResNet x4", _shipped("srresnet_x4", lambda: SRResNet(4)))
COMPACT_X4 = Subject("Compact x4", _shipped("compact_x4", lambda: SRVGGNetCompact(upscale=4)))
COMPACT_X2 = Subject("Compact x2", lambda: SRVGGNetCompact(upscale=2))
NETWORKS = (
    SRRESNET_X4,
    Subject("SRResNet x2", lambda: SRResNet(2)),
    COMPACT_X4,
    COMPACT_X2,
    Subject("RRDBNet x4", RRDBNet),
    Subject("SR-UGAN x4", SRUGAN),
    Subject("SPAN x4", SPAN),
    Subject("Real-CUGAN x2", RealCUGAN),
    Subject("RealPLKSR x4", RealPLKSR),
    Subject("upconv_7 x2", Upconv7),
    Subject("RCAN x4", RCAN),
)


def by_name(name: str) -> Subject:
    """The operation or network of that name.

    Raises:
        KeyError: none has it.
    """
    return {subject.name: subject for subject in (*OPERATIONS, *NETWORKS)}[name]
