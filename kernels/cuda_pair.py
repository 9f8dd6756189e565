"""Checked launches of two 3x3 convolutions of 64 channels in one CUDA kernel, as residual blocks have them."""

from __future__ import annotations

import torch

from srfast.kernels import cuda
from srfast.kernels.canvas import Canvas
from srfast.kernels.cuda_conv import epilogue, inputs, run
from srfast.kernels.cuda_pack import CudaConv
from srfast.kernels.packed_conv import ACTS


def pair_fits(first: CudaConv, second: CudaConv) -> str | None:
    """Why the fused kernel cannot run the two; None if it can."""
    for conv in (first, second):
        if (conv.kernel, conv.in_channels, conv.channels, conv.variant.block_c, conv.variant.block_o) != (
            3,
            64,
            64,
            64,
            64,
        ):
            return (
                f"it is made for 3x3 convolutions of 64 channels, not {conv.kernel}x{conv.kernel} of {conv.in_channels}"
            )
    if first.act not in (ACTS["none"], ACTS["prelu"]) or first.shuffle != 1 or first.gain != 1.0 or first.clamp:
        return "the first of two fused convolutions has a bias and a PReLU only"
    if second.shuffle != 1:
        return "the second of two fused convolutions has no shuffle"
    return None


def pair_launch(
    x: Canvas, first: CudaConv, second: CudaConv, out: Canvas, residual: Canvas | None = None, early: bool = False
) -> cuda.Launch:
    """A function that runs ``second(first(x))`` with the bits of two launches; arguments as of ``cuda_conv.conv_launch``.

    ``out`` must not be the memory of ``x``: blocks read what lies around their own pixels.

    Raises:
        ValueError: the convolutions are others than the kernel's, or shapes, dtypes or devices do not fit.
    """
    reason = pair_fits(first, second)
    if reason:
        raise ValueError(reason)
    if second.weight.dtype != first.weight.dtype or second.weight.device != first.weight.device:
        raise ValueError(f"weights are {first.weight.dtype} and {second.weight.dtype}, or on different devices")
    if out.data.data_ptr() == x.data.data_ptr():
        raise ValueError("the output of two fused convolutions cannot be their input's memory")
    slope = first.slope if first.act == ACTS["prelu"] else torch.ones_like(first.slope)
    params = {
        **inputs(x, first),
        **epilogue(x, second, out, residual),
        "weight": second.weight.data_ptr(),
        "first_weight": first.weight.data_ptr(),
        "first_bias": first.bias.data_ptr(),
        "first_slope": slope.data_ptr(),
    }
    prepared = cuda.module().Pair(type=cuda.DTYPES.index(x.data.dtype), params=params)
    kept = (x, first, second, out, residual, slope)
    return lambda: run(prepared, kept, x.data.device, early)
