"""The 3x3 convolution of 64 channels for Hopper GPUs (wgmma), with checked launches, in four forms.

They give the same bits, but differ from ``kernels.cuda.conv`` in the order in which the matrix units add. Its reference in
plain torch is ``kernels.reference.conv_reference``.
"""

from __future__ import annotations

import torch

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_params
from srfast.kernels.cuda.launch import dtype_of, launch_of, member
from srfast.kernels.cuda.pack import CudaConv

# How the window moves over the pixels, as csrc/cuda/hopper.h names it, and the columns of a strip.
FORMS = {
    "wgmma": ("copied", 64),
    "wgmma_shifted": ("shifted", 120),
    "wgmma_held": ("held", 64),
    "wgmma_offset": ("offset", 120),
}


def hopper_reason(device: torch.device) -> str | None:
    """Why Hopper's kernels cannot run on a device; None if they can."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] != 9:
        return "it needs a Hopper GPU (compute capability 9.0)"
    if not cuda.emulated() and "90a" not in cuda.architectures():
        return "srfast._cuda was built without sm_90a"
    return None


def hopper_fits(x: Canvas, conv: CudaConv) -> str | None:
    """Why the kernels cannot run the convolution; None if they can."""
    if (conv.kernel, conv.in_channels, conv.variant.block_c, conv.variant.block_o) != (3, 64, 64, 64):
        return f"it is made for 3x3 convolutions of 64 channels, not {conv.kernel}x{conv.kernel} of {conv.in_channels}"
    return hopper_reason(x.data.device)


def block_count(device: torch.device) -> int:
    """Blocks of threads for kernels of which one fills a multiprocessor."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


def strip_rows(images: int, height: int, width: int, columns: int, blocks: int, halo: int = 2) -> int:
    """Rows of a strip: the length with the least work for the busiest of ``blocks``; a strip copies ``halo`` rows more."""
    strips = images * -(-width // columns)
    return min(range(2, 65), key=lambda rows: (-(-strips * -(-height // rows) // blocks) * (rows + halo), -rows))


def hopper_launch(
    x: Canvas,
    conv: CudaConv,
    out: Canvas,
    residual: Canvas | None = None,
    *,
    form: str = "wgmma",
    blocks: int | None = None,
    programmatic: bool = False,
) -> cuda.Launch:
    """A function that runs ``kernels.reference.conv_reference``; arguments as of ``kernels.cuda.conv.conv_launch``.

    Args:
        form: "wgmma" copies each row three times; "wgmma_shifted" moves the window inside a swizzled tile (experiment E1 says
            whether the hardware reads that as intended), "wgmma_offset" does so with descriptors that say where in the tile
            they begin (the other reading of the manual); "wgmma_held" keeps the weights in registers.
        blocks: of threads; by default one for each multiprocessor.

    Raises:
        ValueError: the convolution or the GPU is another than the kernel's, or shapes, dtypes or devices do not fit.
    """
    reason = hopper_fits(x, conv)
    if reason:
        raise ValueError(f"the Hopper kernel cannot run this: {reason}")
    if form not in FORMS:
        raise ValueError(f"the Hopper kernel has the forms {', '.join(FORMS)}, not {form}")
    blocks = block_count(x.data.device) if blocks is None else blocks
    window, columns = FORMS[form]
    rows = strip_rows(x.images, x.height, x.width, columns, max(1, blocks // -(-conv.channels // 64)))
    weight = conv.fragments if form == "wgmma_held" else conv.weight
    prepared = cuda.compiled.HopperLaunch(
        dtype=dtype_of(x.data),
        window=member("window", cuda.compiled.Window.__members__, window),
        rows=rows,
        blocks=blocks,
        params=conv_params(x, conv, out, residual, weight=weight),
    )
    return launch_of(prepared, (x, conv, out, residual, weight), x.data.device, programmatic)
