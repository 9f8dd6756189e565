"""Inputs for the tests of the CUDA kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas

HALF, BRAIN = torch.float16, torch.bfloat16


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def canvas_of(x: Tensor, dtype: torch.dtype = HALF, border: int = 0) -> Canvas:
    """[N, C, H, W] in a canvas."""
    canvas = Canvas.allocate(x.shape[0], x.shape[1], x.shape[2], x.shape[3], border=border, dtype=dtype)
    canvas.nchw().copy_(x)
    return canvas


def problem(
    channels: int, out: int, kernel: int, height: int, width: int, dtype: torch.dtype = HALF, images: int = 1
) -> dict[str, Tensor]:
    scale = (channels * kernel * kernel) ** -0.5
    values = {
        "x": numbers(images, channels, height, width),
        "weight": numbers(out, channels, kernel, kernel, seed=1, scale=scale),
    }
    # What both sides are given is exact in the kernels' type.
    return {**{k: v.to(dtype).float() for k, v in values.items()}, "bias": numbers(out, seed=2)}
