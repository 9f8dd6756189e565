"""Checked launches of a network's tail in one CUDA kernel: a 3x3 convolution of 64 channels to many, and one of these to few.

The widest activation, between the two, stays in shared memory. The first convolution's values have the bits of a launch of
its own; the second adds up the taps of a row last, so its sums differ from two launches' in float32 rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_params
from srfast.kernels.cuda.hopper import block_count, hopper_reason
from srfast.kernels.cuda.launch import dtype_of, launch_of, member
from srfast.kernels.cuda.pack import CudaConv, swizzle
from srfast.kernels.packing import phase_order
from srfast.kernels.targets import FrameTarget

# Columns of a strip and rows of a pass down it, see csrc/cuda/tail_mma.cuh and tail_wgmma.cuh.
FORMS = {"tail": (16, 8), "tail_wide": (32, 8), "tail_wgmma": (56, 4)}
PACKED = 64  # columns of a product: taps of a row times outputs


@dataclass(frozen=True)
class CudaTail:
    """Two convolutions packed for one launch.

    Attributes:
        weight: [chunks, 9 + kernel, 64, 64]: of each 64 channels between the two, the first convolution's taps and then the
            second's rows of taps, each [(tap of the row, output), channel]; chunks of 16 bytes as ``swizzle`` has them.
        slope: the first one's, ones where it has no PReLU.
    """

    first: CudaConv
    second: CudaConv
    weight: Tensor
    slope: Tensor


def tail_fits(first: CudaConv, second: CudaConv, form: str = "tail") -> str | None:
    """Why the fused kernel cannot run the two; None if it can."""
    if (first.kernel, first.in_channels, first.variant.block_c, first.variant.block_o) != (3, 64, 64, 64):
        return f"its first convolution is 3x3 of 64 channels, not {first.kernel}x{first.kernel} of {first.in_channels}"
    if first.channels % 64 or first.channels != second.in_channels:
        return f"between the two there are blocks of 64 channels, not {first.channels} and {second.in_channels}"
    if first.act not in ("none", "prelu") or first.shuffle != 1 or first.gain != 1.0 or first.clamp:
        return "the first of two fused convolutions has a bias and a PReLU only"
    if second.kernel not in (3, 5, 7) or second.kernel * second.channels > PACKED:
        return (
            f"its second convolution has at most {PACKED} taps of a row times outputs, "
            f"not {second.kernel} x {second.channels}"
        )
    if form != "tail_wgmma":
        return None
    if second.kernel > 5:
        return f"on Hopper its second convolution is 3x3 or 5x5, not {second.kernel}x{second.kernel}"
    return hopper_reason(first.weight.device)


def pack_tail(first: CudaConv, second: CudaConv, weight: Tensor) -> CudaTail:
    """Packs two convolutions once; ``weight`` [O, C, k, k] is the second's.

    Raises:
        ValueError: ``tail_fits`` says why, or the weight is another's.
    """
    reason = tail_fits(first, second)
    if reason:
        raise ValueError(f"the fused tail cannot run this: {reason}")
    expected = (second.channels, second.in_channels, second.kernel, second.kernel)
    if weight.shape != expected:
        raise ValueError(f"the second convolution's weight is {list(weight.shape)}, not {list(expected)}")
    out, channels, kernel, _ = weight.shape
    rows = torch.zeros(channels // 64, kernel, PACKED, 64)
    split = weight.detach().float().cpu()[phase_order(out, second.shuffle)].view(out, -1, 64, kernel, kernel)
    rows[:, :, : kernel * out] = split.permute(1, 3, 4, 0, 2).reshape(-1, kernel, kernel * out, 64)
    packed = swizzle(rows.to(first.weight.dtype)).to(first.weight.device)
    # The first one's blocks of outputs are the second's blocks of inputs.
    both = torch.cat([first.weight.view(-1, 9, 64, 64), packed], 1).contiguous()
    slope = first.slope if first.act == "prelu" else torch.ones_like(first.slope)
    return CudaTail(first, second, both, slope)


def strip_rows(images: int, height: int, width: int, kernel: int, form: str, blocks: int) -> int:
    """Rows of a strip: whole passes with the least work for the busiest of ``blocks``; two passes at least."""
    columns, height_of_pass = FORMS[form]
    strips = images * -(-width // (columns - kernel + 1))

    def rows(passes: int) -> int:
        return passes * height_of_pass - kernel + 1

    counts = range(2, 34 * 8 // height_of_pass)
    return rows(min(counts, key=lambda n: (-(-strips * -(-height // rows(n)) // blocks) * n, -n)))


def tail_launch(
    x: Canvas,
    tail: CudaTail,
    out: Canvas | FrameTarget,
    residual: Canvas | None = None,
    *,
    form: str = "tail",
    rows: int | None = None,
    programmatic: bool = False,
) -> cuda.Launch:
    """A function that runs ``second(first(x))``; arguments as of ``kernels.cuda.conv.conv_launch``.

    Args:
        out: other memory than the input's: blocks read what lies around their own pixels.
        form: "tail" (mma.sync, strips of 16 columns), "tail_wide" (32: less is computed twice, and a block needs 163 KB of
            shared memory instead of 95, for 256 channels between the two and a second convolution of 5x5) or "tail_wgmma"
            (Hopper, 56 columns).
        rows: of a strip; by default as many as keep the multiprocessors equally busy.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
        RuntimeError: the compiled module is not there.
    """
    if isinstance(out, Canvas) and out.data.data_ptr() == x.data.data_ptr():
        raise ValueError("the output of two fused convolutions cannot be their input's memory")
    if form not in FORMS:
        raise ValueError(f"the fused tail has the forms {', '.join(FORMS)}, not {form}")
    reason = tail_fits(tail.first, tail.second, form)
    if reason:
        raise ValueError(f"the fused tail cannot run this: {reason}")
    if rows is None:
        blocks = block_count(x.data.device)
        rows = strip_rows(x.images, x.height, x.width, tail.second.kernel, form, blocks)
    _check_memory(x, tail_bytes(tail.second, form))
    prepared = cuda.compiled.TailLaunch(
        dtype=dtype_of(x.data),
        form=_form(form),
        rows=rows,
        second=conv_params(
            x,
            tail.first,
            out,
            residual,
            weight=tail.weight,
            last=tail.second,
            kernel=tail.second.kernel,
            blocks_c=tail.weight.shape[0],
        ),
        first_bias=tail.first.bias.data_ptr(),
        first_slope=tail.slope.data_ptr(),
    )
    return launch_of(prepared, (x, tail, out, residual), x.data.device, programmatic)


def tail_bytes(second: CudaConv, form: str) -> int:
    """Bytes of shared memory that a block needs."""
    return cuda.compiled.TailLaunch.shared_bytes(
        form=_form(form), kernel=second.kernel, chunks=second.in_channels // 64
    )


def _form(form: str) -> cuda.compiled.TailForm:
    return member("form", cuda.compiled.TailForm.__members__, form)


def _check_memory(x: Canvas, need: int) -> None:
    if x.data.device.type == "cuda":
        properties: Any = torch.cuda.get_device_properties(x.data.device)
        limit = properties.shared_memory_per_block_optin
        if need > limit:
            raise ValueError(
                f"the fused tail needs {need} bytes of shared memory, this GPU has {limit}; narrow strips need less"
            )
