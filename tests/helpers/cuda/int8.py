"""Checks of convolutions in 8 bits, for the tests of the kernel and those of faults planted in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv_int8 import ByteCanvas, conv_int8_launch, pack_int8, quantize_launch
from srfast.kernels.int8 import LowPrecision, int8_reference, quantize_reference
from tests.helpers.cuda.problems import HALF, canvas_of, numbers

IN, OUT = LowPrecision(0.0173, 37), LowPrecision(0.031, 99)


def byte_canvas(x: Tensor, border: int = 0) -> Canvas:
    """[N, C, H, W] uint8 in a canvas with 255 around the image, which no kernel may use."""
    canvas = Canvas.allocate(x.shape[0], x.shape[1], x.shape[2], x.shape[3], border=border, dtype=torch.uint8)
    canvas.data.fill_(255)
    canvas.nchw().copy_(x)
    return canvas


def check_int8(
    size: tuple[int, int],
    *,
    images: int = 1,
    dtype: torch.dtype = HALF,
    prelu: bool = False,
    residual: bool = False,
    shuffle: int = 1,
    writes: str = "both",
    rounding: LowPrecision = IN,
    blocks: int = 2,
) -> None:
    """The kernel has the bits of its twin, in 16 bits, in bytes or in both as ``writes`` says, and writes nothing beside them."""
    out = 64 * shuffle**2
    x = quantize_reference(numbers(images, 64, *size), rounding)
    weight, bias = numbers(out, 64, 3, 3, seed=1, scale=24.0**-1), numbers(out, seed=2)
    options: dict[str, Any] = {"act": "prelu", "slope": numbers(out, seed=4)} if prelu else {}
    options |= {"shuffle": shuffle} | ({"gain": 0.3} if residual else {})
    shape = (images, 64, size[0] * shuffle, size[1] * shuffle)
    added = canvas_of(numbers(*shape, seed=3), dtype, border=2) if residual else None
    expected = int8_reference(
        x, rounding, weight, bias, residual=added.nchw() if added is not None else None, **options
    ).to(dtype)
    conv = pack_int8(weight, bias, rounding, dtype=dtype, **options)
    halves = canvas_of(torch.full(shape, 99.0), dtype, border=1) if writes != "bytes" else None
    in_bytes = byte_canvas(torch.full(shape, 7, dtype=torch.uint8), border=1) if writes != "halves" else None
    target = None if in_bytes is None else ByteCanvas(in_bytes, OUT)
    conv_int8_launch(byte_canvas(x), conv, halves, added, out_bytes=target, blocks=blocks)()
    for canvas, wanted, around in ((halves, expected, 0), (in_bytes, quantize_reference(expected, OUT), 255)):
        if canvas is None:
            continue
        assert torch.equal(canvas.nchw(), wanted), f"{int((canvas.nchw() != wanted).sum())} values differ"
        untouched = canvas.data.clone()
        replace(canvas, data=untouched).nchw().fill_(around)
        assert bool((untouched == around).all()), "wrote beside the image"


def check_quantize(values: Tensor, rounding: LowPrecision, dtype: torch.dtype = HALF) -> None:
    """[N, 64, H, W] as bytes, by the kernel and by its twin."""
    x = canvas_of(values, dtype)
    out = byte_canvas(torch.zeros(values.shape, dtype=torch.uint8), border=1)
    quantize_launch(x, ByteCanvas(out, rounding))()
    assert torch.equal(out.nchw(), quantize_reference(x.nchw(), rounding))
    out.nchw().fill_(255)
    assert bool((out.data == 255).all()), "wrote beside the image"
