"""Canvases for the tests of GPU kernels; the conftest of those tests chooses the interpreter before this is imported."""

from __future__ import annotations

import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def canvas_of(x: Tensor, border: int = 0) -> Canvas:
    canvas = Canvas.allocate(*x.shape, border=border, dtype=x.dtype, device=DEVICE)
    canvas.nchw().copy_(x)
    return canvas


def empty(shape: tuple[int, ...], dtype: torch.dtype = torch.float16) -> Canvas:
    n, c, h, w = shape
    return Canvas.allocate(n, c, h, w, border=2, dtype=dtype, device=DEVICE)


def close(canvas: Canvas, expected: Tensor, dtype: torch.dtype = torch.float16) -> None:
    torch.testing.assert_close(canvas.nchw().double().cpu(), expected, rtol=torch.finfo(dtype).eps, atol=1e-5)
    rest = canvas.data.clone()
    Canvas(rest, canvas.height, canvas.width, canvas.channels, canvas.border, canvas.first).nchw().zero_()
    assert not rest.any(), "the kernel wrote outside the image"
