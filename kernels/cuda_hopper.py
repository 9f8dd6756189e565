"""The 3x3 convolution of 64 channels for Hopper GPUs (wgmma, bulk tensor copies), with checked launches.

Its results differ from ``cuda_conv`` in the order in which the matrix units add.
"""

from __future__ import annotations

import torch

from srfast.kernels import cuda
from srfast.kernels.canvas import Canvas
from srfast.kernels.cuda_conv import epilogue, inputs, run
from srfast.kernels.cuda_pack import CudaConv

# Columns of a strip by how the window is shifted; see csrc/cuda/conv_wgmma.cuh.
COLUMNS = {True: 120, False: 64}


def hopper_fits(x: Canvas, conv: CudaConv) -> str | None:
    """Why the kernel cannot run the convolution; None if it can."""
    if (conv.kernel, conv.in_channels, conv.variant.block_c, conv.variant.block_o) != (3, 64, 64, 64):
        return f"it is made for 3x3 convolutions of 64 channels, not {conv.kernel}x{conv.kernel} of {conv.in_channels}"
    if x.data.device.type == "cuda" and torch.cuda.get_device_capability(x.data.device)[0] != 9:
        return "it needs a Hopper GPU (compute capability 9.0)"
    if not cuda.emulated() and "90a" not in cuda.architectures():
        return "srfast._cuda was built without sm_90a"
    return None


def strip_rows(images: int, height: int, width: int, columns: int, blocks: int) -> int:
    """Rows of a strip: the length with the least work for the busiest of ``blocks``; a strip copies two rows more."""
    strips = images * -(-width // columns)
    return min(range(2, 65), key=lambda rows: (-(-strips * -(-height // rows) // blocks) * (rows + 2), -rows))


def hopper_launch(
    x: Canvas,
    conv: CudaConv,
    out: Canvas,
    residual: Canvas | None = None,
    *,
    shifted: bool = False,
    blocks: int | None = None,
    early: bool = False,
) -> cuda.Launch:
    """A function that runs ``conv.conv_reference``; arguments as of ``cuda_conv.conv_launch``.

    Args:
        shifted: the window moves inside a swizzled tile (experiment E1 says whether the hardware reads that as intended);
            else each row is copied three times.
        blocks: of threads; by default one for each multiprocessor.

    Raises:
        ValueError: the convolution or the GPU is another than the kernel's, or shapes, dtypes or devices do not fit.
    """
    reason = hopper_fits(x, conv)
    if reason:
        raise ValueError(f"the Hopper kernel cannot run this: {reason}")
    if blocks is None:
        on_gpu = x.data.device.type == "cuda"
        blocks = torch.cuda.get_device_properties(x.data.device).multi_processor_count if on_gpu else 2
    sets = max(1, blocks // -(-conv.channels // 64))
    rows = strip_rows(x.images, x.height, x.width, COLUMNS[shifted], sets)
    params = {**inputs(x, conv), **epilogue(x, conv, out, residual), "weight": conv.weight.data_ptr()}
    kind = cuda.DTYPES.index(x.data.dtype)
    prepared = cuda.module().Hopper(type=kind, shifted=shifted, rows=rows, blocks=blocks, params=params)
    kept = (x, conv, out, residual)
    return lambda: run(prepared, kept, x.data.device, early)
