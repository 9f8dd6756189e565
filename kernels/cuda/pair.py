"""Checked launches of two 3x3 convolutions of 64 channels in one CUDA kernel, as residual blocks have them.

In two forms, whose reference are two launches of the same kind: "pair" has the bits of ``kernels.cuda.conv``,
"pair_wgmma", for Hopper, those of ``kernels.cuda.hopper``.
"""

from __future__ import annotations

import torch

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_params
from srfast.kernels.cuda.hopper import block_count, hopper_reason, strip_rows
from srfast.kernels.cuda.launch import dtype_of, launch_of, member
from srfast.kernels.cuda.pack import CudaConv

FORMS = ("pair", "pair_wgmma")
COLUMNS = 62  # of a strip on Hopper, see csrc/cuda/pair_wgmma.cuh


def pair_fits(first: CudaConv, second: CudaConv, form: str = "pair") -> str | None:
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
    if first.act not in ("none", "prelu") or first.shuffle != 1 or first.gain != 1.0 or first.clamp:
        return "the first of two fused convolutions has a bias and a PReLU only"
    if second.shuffle != 1:
        return "the second of two fused convolutions has no shuffle"
    return None if form == "pair" else hopper_reason(first.weight.device)


def pair_launch(
    x: Canvas,
    first: CudaConv,
    second: CudaConv,
    out: Canvas,
    residual: Canvas | None = None,
    *,
    form: str = "pair",
    blocks: int | None = None,
    programmatic: bool = False,
) -> cuda.Launch:
    """A function that runs ``second(first(x))`` with the bits of two launches; arguments as of ``kernels.cuda.conv.conv_launch``.

    Args:
        out: other memory than the input's: blocks read what lies around their own pixels.
        form: "pair" (mma.sync) or "pair_wgmma" (Hopper).
        blocks: of threads on Hopper; by default one for each multiprocessor.

    Raises:
        ValueError: the convolutions or the GPU are others than the kernel's, or shapes, dtypes or devices do not fit.
    """
    if form not in FORMS:
        raise ValueError(f"the fused pair has the forms {', '.join(FORMS)}, not {form}")
    reason = pair_fits(first, second, form)
    if reason:
        raise ValueError(reason)
    if second.weight.dtype != first.weight.dtype or second.weight.device != first.weight.device:
        raise ValueError(f"weights are {first.weight.dtype} and {second.weight.dtype}, or on different devices")
    # A block reads a border of two pixels around its own, which its neighbour may have written by then.
    if out.data.data_ptr() == x.data.data_ptr():
        raise ValueError("the output of two fused convolutions cannot be their input's memory")
    # The kernel always multiplies by a slope: 1 leaves what has no activation as it is, bit for bit.
    slope = first.slope if first.act == "prelu" else torch.ones_like(first.slope)
    hopper = form == "pair_wgmma"
    weights = (first.fragments, second.fragments) if hopper else (first.weight, second.weight)
    rows = 0
    if hopper:
        blocks = block_count(x.data.device) if blocks is None else blocks
        rows = strip_rows(x.images, x.height, x.width, COLUMNS, blocks, halo=4)
    prepared = cuda.compiled.PairLaunch(
        dtype=dtype_of(x.data),
        form=member("form", cuda.compiled.PairForm.__members__, form),
        rows=rows,
        blocks=blocks or 0,
        second=conv_params(x, first, out, residual, weight=weights[1], last=second),
        first_weight=weights[0].data_ptr(),
        first_bias=first.bias.data_ptr(),
        first_slope=slope.data_ptr(),
    )
    return launch_of(prepared, (x, first, second, out, residual, slope, weights), x.data.device, programmatic)
