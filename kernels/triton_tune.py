"""Finds launch configurations on this GPU and writes them for ``SRFAST_TRITON_CONFIGS``.

    python -m srfast.kernels.triton_tune --out h100.json [--height 270 --width 480]

Every candidate must first give the right result; what does not compile, does not fit or is wrong is left out and
counted.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srfast.kernels.canvas import Canvas
from srfast.kernels.conv import conv_reference
from srfast.kernels.packed_conv import PackedConv, pack_conv
from srfast.kernels.triton_config import Config, PairConfig, conv_key, pair_key

HALF = torch.float16
# Largest error allowed, of results of size 1: a few roundings to float16.
TOLERANCE = 4e-3


@dataclass(frozen=True)
class Shape:
    """A convolution of a network, and how many times larger than the input image it runs."""

    channels: int
    out: int
    kernel: int
    scale: int = 1
    shuffle: int = 1


# SRResNet, Compact and the dense blocks of Real-ESRGAN.
SHAPES = (
    Shape(3, 64, 9),
    Shape(64, 64, 3),
    Shape(64, 256, 3, shuffle=2),
    Shape(64, 256, 3, scale=2),
    Shape(256, 12, 5, scale=2, shuffle=2),
    Shape(3, 64, 3),
    Shape(64, 48, 3, shuffle=4),
    Shape(64, 32, 3),
    Shape(96, 32, 3),
    Shape(128, 32, 3),
    Shape(160, 32, 3),
    Shape(192, 64, 3),
)
PAIRS = ((Shape(64, 64, 3), Shape(64, 64, 3)), (Shape(64, 256, 3, scale=2), Shape(256, 12, 5, scale=2, shuffle=2)))


def candidates(out: int, hopper: bool) -> Iterator[Config]:
    """Configurations worth trying for a convolution with ``out`` output channels."""
    tiles = ((8, 16), (4, 32), (2, 64), (16, 16), (8, 32), (4, 64))
    for (tile_h, tile_w), warps, stages in itertools.product(tiles, (4, 8), (3, 4)):
        for swap in (True, False) if out >= 64 and hopper else (False,):
            for block_o in (64, 128) if out >= 128 else (64,):
                yield Config(tile_h, tile_w, block_o, warps, stages, swap)
    if out == 64 and hopper:
        yield Config(swap=True, gluon=True)


def pair_candidates(hopper: bool) -> Iterator[PairConfig]:
    """Configurations worth trying for two convolutions in one launch."""
    regions = ((8, 32), (16, 16), (16, 32), (32, 32))
    for (region_h, region_w), chunk, warps in itertools.product(regions, (64, 128, 256), (4, 8)):
        yield PairConfig(region_h, region_w, chunk, 64, warps, 3, hopper)


class Tuner:
    """Times candidates on one GPU for images of ``height`` x ``width`` pixels."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.hopper = torch.cuda.get_device_capability()[0] == 9
        self.rejected = 0

    def conv(self, shape: Shape) -> tuple[Config, float]:
        """The fastest right configuration and its milliseconds."""
        from srfast.kernels.triton_conv_launch import conv_launch

        weight, bias = weights(shape)
        x = self.image(shape)
        expected = reference(x, weight, bias, shape)
        best = (Config(), float("inf"))
        for config in candidates(shape.out, self.hopper):
            packed = pack(weight, bias, shape, config.block_o)
            source = canvas_of(x, shape.kernel // 2, config.tile)
            out = result_of(expected)
            milliseconds = self._time(partial(conv_launch, source, packed, out, config), out, expected)
            best = min(best, (config, milliseconds), key=lambda found: found[1])
        return best

    def pair(self, first: Shape, second: Shape) -> tuple[PairConfig, float]:
        """The fastest right configuration of two convolutions in one launch and its milliseconds."""
        from srfast.kernels.triton_pair_launch import pair_launch

        (w1, b1), (w2, b2) = weights(first), weights(second)
        x = self.image(first)
        expected = reference(reference(x, w1, b1, first).to(HALF), w2, b2, second)
        programs = 2 * torch.cuda.get_device_properties(0).multi_processor_count
        best = (PairConfig(), float("inf"))
        for config in pair_candidates(self.hopper):
            packed = pack(w1, b1, first, config.block_o), pack(w2, b2, second, config.block_o)
            source = canvas_of(x, first.kernel // 2 + second.kernel // 2, (config.region_h, config.region_w))
            out = result_of(expected)
            prepare = partial(pair_launch, source, *packed, out, config, programs=programs)
            milliseconds = self._time(prepare, out, expected)
            best = min(best, (config, milliseconds), key=lambda found: found[1])
        return best

    def image(self, shape: Shape) -> Tensor:
        size = (1, shape.channels, self.height * shape.scale, self.width * shape.scale)
        return torch.randn(size, generator=torch.Generator().manual_seed(1)).cuda().to(HALF)

    def _time(self, prepare: Callable[[], Callable[[], None]], out: Canvas, expected: Tensor) -> float:
        """Median milliseconds of a launch, or infinity where it fails or is wrong."""
        import triton

        try:
            launch = prepare()
            launch()
            torch.cuda.synchronize()
        except (triton.runtime.errors.OutOfResources, triton.compiler.errors.CompilationError, RuntimeError):
            self.rejected += 1
            return float("inf")
        error = float((out.nchw().float() - expected).abs().max() / expected.abs().max())
        if not error <= TOLERANCE:
            self.rejected += 1
            return float("inf")
        milliseconds: Any = triton.testing.do_bench(launch, quantiles=[0.5])
        return float(milliseconds)


def weights(shape: Shape) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape.out, shape.channels, shape.kernel, shape.kernel, generator=generator)
    weight *= (shape.channels * shape.kernel**2) ** -0.5
    return weight.to(HALF), torch.randn(shape.out, generator=generator)


def pack(weight: Tensor, bias: Tensor, shape: Shape, block_o: int) -> PackedConv:
    slope = torch.tensor([0.2])
    return pack_conv(
        weight, bias, act="prelu", slope=slope, shuffle=shape.shuffle, block_o=block_o, dtype=HALF, device="cuda"
    )


def reference(x: Tensor, weight: Tensor, bias: Tensor, shape: Shape) -> Tensor:
    slope = torch.tensor([0.2], device=x.device)
    with torch.backends.cudnn.flags(allow_tf32=False):
        return conv_reference(
            x.float(), weight.cuda().float(), bias.cuda(), act="prelu", slope=slope, shuffle=shape.shuffle
        )


def canvas_of(x: Tensor, border: int, tile: tuple[int, int]) -> Canvas:
    n, c, h, w = x.shape
    canvas = Canvas.allocate(n, c, h, w, border=border, tile=tile, dtype=x.dtype, device=x.device)
    canvas.nchw().copy_(x)
    return canvas


def result_of(expected: Tensor) -> Canvas:
    n, c, h, w = expected.shape
    return Canvas.allocate(n, c, h, w, border=1, dtype=HALF, device=expected.device)


def tune(height: int, width: int) -> dict[str, dict[str, Any]]:
    """Entries for this GPU: each shape's fastest configuration, and pairs where one launch beats two by 2%."""
    tuner = Tuner(height, width)
    entries: dict[str, dict[str, Any]] = {}
    times: dict[Shape, float] = {}
    for shape in SHAPES:
        config, times[shape] = tuner.conv(shape)
        entries[conv_key(shape.channels, shape.out, shape.kernel)] = asdict(config)
        flops = 2 * shape.out * shape.channels * shape.kernel**2 * height * width * shape.scale**2
        print(f"{shape}: {times[shape]:.4f} ms, {flops / times[shape] / 1e9:.0f} TFLOP/s, {config}", flush=True)
    for first, second in PAIRS:
        pair, milliseconds = tuner.pair(first, second)
        apart = times[first] + times[second]
        print(f"{first} and {second}: {milliseconds:.4f} ms in one launch, {apart:.4f} in two, {pair}", flush=True)
        if milliseconds < 0.98 * apart:
            key = pair_key(first.channels, first.kernel, first.out, second.kernel, second.out)
            entries[key] = asdict(pair)
    print(f"{tuner.rejected} candidates did not fit, did not compile or were wrong")
    return entries


def main(arguments: list[str] | None = None) -> int:
    """Tunes and writes; 1 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file to write or to add this GPU to")
    parser.add_argument("--height", type=int, default=270, help="of the input image")
    parser.add_argument("--width", type=int, default=480, help="of the input image")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("there is no GPU here to tune for", file=sys.stderr)
        return 1
    table = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    table[torch.cuda.get_device_name()] = tune(options.height, options.width)
    options.out.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
