"""Makes a convolution of random numbers and tells whether a kernel's result of it is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.hopper import FORMS as HOPPER
from srfast.kernels.cuda.hopper import hopper_launch
from srfast.kernels.cuda.pack import CudaConv, Variant, pack_conv
from srfast.kernels.reference import conv_reference
from srfast.kernels.triton.config import Config

# Largest error of a right kernel, as a fraction of the largest value: a few roundings to float16.
TOLERANCE = 4e-3
# Channels, outputs, kernel, shuffle, and pixels per input pixel along a side: the convolutions of the networks.
SHAPES = {
    "64->64": (64, 64, 3, 1, 1),
    "64->256": (64, 256, 3, 2, 1),
    "256->12": (256, 12, 5, 2, 2),
    "9x9 3->64": (3, 64, 9, 1, 1),
    "3->64": (3, 64, 3, 1, 1),
    "64->48": (64, 48, 3, 4, 1),
}


class Problem:
    """A convolution with PReLU, random weights and a random image.

    Args:
        shape: one of ``SHAPES``.
        height, width: of the network's input; the convolution's own may be larger.
        device: where the image lies.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], height: int, width: int, device: torch.device) -> None:
        channels, out, kernel, self.shuffle, scale = shape
        height, width = height * scale, width * scale
        generator = torch.Generator().manual_seed(0)
        self.shape, self.device = (channels, out, kernel), device
        self.flops = 2.0 * channels * out * kernel**2 * height * width
        self.weight = torch.randn(out, channels, kernel, kernel, generator=generator) * (channels * kernel**2) ** -0.5
        self.bias, self.slope = torch.randn(out, generator=generator), torch.rand(out, generator=generator)
        self.x = torch.randn(1, channels, height, width, generator=generator).half().to(device)
        self.canvas = self._filled(Canvas.allocate(1, channels, height, width, device=device))
        planes, large = out // self.shuffle**2, (height * self.shuffle, width * self.shuffle)
        self.out = Canvas.allocate(1, planes, *large, device=device)

    def _filled(self, canvas: Canvas) -> Canvas:
        canvas.nchw().copy_(self.x)
        return canvas

    def packed(self, variant: Variant | None = None) -> CudaConv:
        """Packs the weights for the CUDA kernels."""
        options: dict[str, Any] = {"act": "prelu", "slope": self.slope, "shuffle": self.shuffle, "variant": variant}
        return pack_conv(self.weight, self.bias, **options, device=self.device)

    def expected(self, residual: bool) -> Tensor:
        """Computes the right result in float32; ``residual`` adds the image."""
        weight, bias, slope = self.weight.half().float(), self.bias, self.slope
        values = (self.x.float(), weight.to(self.device), bias.to(self.device))
        with torch.backends.cudnn.flags(allow_tf32=False):
            y = conv_reference(*values, act="prelu", slope=slope.to(self.device), shuffle=self.shuffle)
        return y + self.x.float() if residual else y

    def error(self, launch: cuda.Launch, residual: bool = False) -> float:
        """Measures a launch's largest error as a fraction of the largest value; 1e9 where a value was not written."""
        self.out.data.fill_(float("nan"))
        launch()
        return difference(self.out.nchw(), self.expected(residual))

    def launch(self, form: str, x: Canvas, out: Canvas, residual: Canvas | None = None) -> cuda.Launch:
        """Prepares the convolution in a CUDA kernel of ``FORMS``, "mma" or "mma_large", from and to any canvas of its size.

        Raises:
            ValueError: the GPU or the compiled module has no such kernel.
        """
        if form in HOPPER:
            return hopper_launch(x, self.packed(), out, residual, form=form)
        return conv_launch(x, self.packed(Variant(64, 64, 3, 16, 16) if form == "mma_large" else None), out, residual)

    def triton(self, config: Config, residual: bool) -> cuda.Launch:
        """Prepares the convolution in Triton or Gluon, cut up as configured."""
        from srfast.kernels.packing import pack_conv as pack
        from srfast.kernels.triton.conv import conv_launch as launch

        options: dict[str, Any] = {"act": "prelu", "slope": self.slope, "shuffle": self.shuffle}
        packed = pack(self.weight, self.bias, **options, block_o=config.block_o, device=self.device)
        height, width = self.x.shape[2:]
        border = self.shape[2] // 2
        source = Canvas.allocate(1, self.shape[0], height, width, border=border, tile=config.tile, device=self.device)
        self._filled(source)
        return launch(source, packed, self.out, config, source if residual else None)


def difference(given: Tensor, expected: Tensor) -> float:
    """Measures the largest difference as a fraction of the largest value; 1e9 where a value is not finite."""
    worst = (given.float() - expected.float()).abs().max() / expected.float().abs().max()
    return float(worst.nan_to_num(nan=1e9, posinf=1e9))


def in_turn(*launches: Callable[[], object]) -> cuda.Launch:
    """Joins launches to one that makes them one after another."""

    def run() -> None:
        for launch in launches:
            launch()

    return run
