"""What ``tune`` tries: the convolutions of networks, and ways to cut them up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from srfast.kernels import gluon
from srfast.kernels.buffers import Canvas
from srfast.kernels.configs import conv_key, pair_key
from srfast.kernels.packing import PackedConv, pack_conv
from srfast.kernels.reference import conv_reference
from srfast.kernels.triton.config import Config, PairConfig

HALF = torch.float16
Launch: TypeAlias = Callable[[], None]


@dataclass(frozen=True)
class Shape:
    """A convolution of a network, and how many times larger than the input image it runs."""

    channels: int
    out: int
    kernel: int
    scale: int = 1
    shuffle: int = 1

    @property
    def key(self) -> str:
        """Its name in the file."""
        return conv_key(self.channels, self.out, self.kernel)


Pair: TypeAlias = tuple[Shape, Shape]
# SRResNet first, then Compact, then the dense blocks of Real-ESRGAN and the tails of the others.
SHAPES = (
    Shape(64, 64, 3),
    Shape(64, 256, 3, scale=2),
    Shape(256, 12, 5, scale=2, shuffle=2),
    Shape(64, 256, 3, shuffle=2),
    Shape(3, 64, 9),
    Shape(64, 48, 3, shuffle=4),
    Shape(3, 64, 3),
    Shape(64, 32, 3),
    Shape(96, 32, 3),
    Shape(128, 32, 3),
    Shape(160, 32, 3),
    Shape(192, 64, 3),
    Shape(64, 3, 3, scale=4),
)
# Residual blocks and the last two convolutions of SRResNet, Compact, and RRDBNet and MSRResNet.
PAIRS: tuple[Pair, ...] = (
    (Shape(64, 64, 3), Shape(64, 64, 3)),
    (Shape(64, 256, 3, scale=2), Shape(256, 12, 5, scale=2, shuffle=2)),
    (Shape(64, 64, 3), Shape(64, 48, 3, shuffle=4)),
    (Shape(64, 64, 3, scale=4), Shape(64, 3, 3, scale=4)),
)


def candidates(shape: Shape, hopper: bool) -> Iterator[Config]:
    """Configurations worth trying for a convolution: Gluon where its kernel fits, then the shipped one, then others."""
    out = shape.out
    # First, because it is expected to win: a tuner whose time ends early has it then.
    if (
        hopper
        and (shape.channels, out, shape.kernel, shape.shuffle) == (64, 64, 3, 1)
        and not gluon.unavailable_reason()
    ):
        yield Config(swap=True, gluon=True)
    yield Config(swap=hopper and out >= 64)
    tiles = ((8, 16), (4, 32), (2, 64), (16, 16), (8, 32), (4, 64))
    for (tile_h, tile_w), warps, stages in itertools.product(tiles, (4, 8), (3, 4)):
        for swap in (True, False) if out >= 64 and hopper else (False,):
            for block_o in (64, 128) if out >= 128 else (64,):
                config = Config(tile_h, tile_w, block_o, warps, stages, swap)
                if config != Config(swap=hopper and out >= 64):
                    yield config


def pair_candidates(hopper: bool) -> Iterator[PairConfig]:
    """Configurations worth trying for two convolutions in one launch."""
    regions = ((16, 32), (16, 16), (8, 32), (32, 32))
    for (region_h, region_w), chunk, warps in itertools.product(regions, (64, 128), (4, 8)):
        yield PairConfig(region_h, region_w, chunk, 64, warps, 3, hopper)


@dataclass(frozen=True)
class Task:
    """Candidates for one shape or pair, on images of ``height`` x ``width`` pixels."""

    shapes: tuple[Shape, ...]
    configs: tuple[Config | PairConfig, ...]
    height: int
    width: int

    @property
    def key(self) -> str:
        """Its name in the file."""
        first, last = self.shapes[0], self.shapes[-1]
        if len(self.shapes) == 1:
            return first.key
        return pair_key(first.channels, first.kernel, first.out, last.kernel, last.out)

    @property
    def flops(self) -> float:
        """Of one launch, without what is computed twice."""
        pixels = self.height * self.width
        return sum(2.0 * s.out * s.channels * s.kernel**2 * pixels * s.scale**2 for s in self.shapes)

    def image(self) -> Tensor:
        """[1, C, H, W] float16."""
        first = self.shapes[0]
        size = (1, first.channels, self.height * first.scale, self.width * first.scale)
        return torch.randn(size, generator=torch.Generator().manual_seed(1)).to(HALF)

    def expected(self, x: Tensor) -> Tensor:
        """The right result for ``x``, in float32 with a middle rounded to float16."""
        for shape in self.shapes:
            x = reference(x.to(HALF), *weights(shape), shape)
        return x

    def prepare(self, config: Config | PairConfig, x: Tensor | None, device: torch.device) -> tuple[Launch, Canvas]:
        """The launch of a candidate and the canvas that it fills; without ``x`` the input is zero."""
        from srfast.kernels.triton.conv import conv_launch
        from srfast.kernels.triton.pair import pair_launch

        first, last = self.shapes[0], self.shapes[-1]
        border = sum(shape.kernel // 2 for shape in self.shapes)
        tile = config.tile if isinstance(config, Config) else (config.region_h, config.region_w)
        size = (self.height * first.scale, self.width * first.scale)
        source = Canvas.allocate(1, first.channels, *size, border=border, tile=tile, dtype=HALF, device=device)
        if x is not None:
            source.nchw().copy_(x)
        planes, large = last.out // last.shuffle**2, (size[0] * last.shuffle, size[1] * last.shuffle)
        out = Canvas.allocate(1, planes, *large, border=1, dtype=HALF, device=device)
        packed = [pack(*weights(shape), shape, config.block_o, device) for shape in self.shapes]
        if isinstance(config, Config):
            return conv_launch(source, packed[0], out, config), out
        programs = 264
        if device.type == "cuda":
            programs = 2 * torch.cuda.get_device_properties(device).multi_processor_count
        return pair_launch(source, packed[0], packed[1], out, config, programs=programs), out


def weights(shape: Shape) -> tuple[Tensor, Tensor]:
    """[O, C, k, k] float16 and [O] float32 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape.out, shape.channels, shape.kernel, shape.kernel, generator=generator)
    weight *= (shape.channels * shape.kernel**2) ** -0.5
    return weight.to(HALF), torch.randn(shape.out, generator=generator)


def pack(weight: Tensor, bias: Tensor, shape: Shape, block_o: int, device: torch.device | str = "cuda") -> PackedConv:
    """With a PReLU of slope 0.2."""
    slope = torch.tensor([0.2])
    return pack_conv(
        weight, bias, act="prelu", slope=slope, shuffle=shape.shuffle, block_o=block_o, dtype=HALF, device=device
    )


def reference(x: Tensor, weight: Tensor, bias: Tensor, shape: Shape) -> Tensor:
    """The right result in float32, on the device of ``x``."""
    slope = torch.tensor([0.2], device=x.device)
    weight, bias = weight.to(x.device).float(), bias.to(x.device)
    with torch.backends.cudnn.flags(allow_tf32=False):
        return conv_reference(x.float(), weight, bias, act="prelu", slope=slope, shuffle=shape.shuffle)


def tasks(height: int, width: int, hopper: bool, most: int | None = None) -> list[Task]:
    """Everything worth tuning, most valuable first; at most ``most`` candidates each."""
    found: list[Task] = []
    for shape in SHAPES:
        found.append(Task((shape,), tuple(itertools.islice(candidates(shape, hopper), most)), height, width))
    for position, pair in zip((1, 4, 8, 17), PAIRS, strict=True):
        found.insert(position, Task(pair, tuple(itertools.islice(pair_candidates(hopper), most)), height, width))
    return found
