"""The fused convolution of the compiled CUDA kernels: checked launches.

Its twin in plain torch is ``conv.conv_reference``.
"""

from __future__ import annotations

from typing import Any

import torch

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.pack import CudaConv
from srfast.kernels.targets import FrameTarget, check_canvas, check_frames, enlargement

KINDS = {torch.uint8: 1, torch.uint16: 2}


def conv_launch(
    x: Canvas, conv: CudaConv, out: Canvas | FrameTarget, residual: Canvas | None = None, early: bool = False
) -> cuda.Launch:
    """A function that runs ``conv.conv_reference`` on canvases, with sums and epilogue in float32.

    Args:
        x: input; it needs no border. Of narrow images the elements beside the channels must be finite.
        out: of the same dtype as ``x``, or frames.
        residual: of the output's size, or smaller by a whole factor: then enlarged by nearest neighbour on the way.
        early: starts while the kernel in front still runs (programmatic dependent launch, Hopper and later); that one must be
            of this module.

    Raises:
        ValueError: shapes, strides, dtypes or devices do not fit.
        RuntimeError: the compiled module is not there.
    """
    params = {**inputs(x, conv), **epilogue(x, conv, out, residual)}
    params["weight"] = conv.weight.data_ptr()
    kind = cuda.DTYPES.index(x.data.dtype)
    prepared = cuda.module().Conv(type=kind, variant=conv.variant.fields(), params=params)
    kept = (x, conv, out, residual)  # the memory that the launch points to
    return lambda: run(prepared, kept, x.data.device, early)


def run(prepared: Any, kept: tuple[Any, ...], device: torch.device, early: bool) -> None:
    """Launches on the device's current stream."""
    del kept
    prepared.run(cuda.queue(device, early))


def inputs(x: Canvas, conv: CudaConv) -> dict[str, Any]:
    """The parameters of what is read, checked."""
    if x.channels != conv.in_channels or (conv.variant.pixel and x.pixel != conv.variant.pixel):
        raise ValueError(
            f"the convolution reads {conv.in_channels} channels (pixels of {conv.variant.pixel or 'any'} elements), "
            f"the canvas has {x.channels} (of {x.pixel})"
        )
    if x.data.dtype != conv.weight.dtype or x.data.device != conv.weight.device:
        raise ValueError(
            f"weights are {conv.weight.dtype} on {conv.weight.device}, the input {x.data.dtype} on {x.data.device}"
        )
    if not conv.variant.pixel and conv.in_channels % 8:
        raise ValueError(f"the CUDA kernels read up to 8 channels or a multiple of 8, not {conv.in_channels}")
    cuda.check_device(x.data)
    return {
        "x": view(x, 4 * 2 if conv.variant.pixel == 4 else 16),
        "images": x.images,
        "height": x.height,
        "width": x.width,
        "kernel": conv.kernel,
        "blocks_c": 1 if conv.variant.pixel else conv.blocks_c,
        "in_channels": conv.in_channels,
    }


def epilogue(x: Canvas, conv: CudaConv, out: Canvas | FrameTarget, residual: Canvas | None) -> dict[str, Any]:
    """The epilogue's parameters, checked."""
    size = (x.height * conv.shuffle, x.width * conv.shuffle)
    chunks = conv.planes % 8 == 0
    up = 1 if residual is None else enlargement(residual, x, conv.planes, size)
    low, high = conv.clamp or (0.0, 0.0)
    common = {
        "bias": conv.bias.data_ptr(),
        "slope": conv.slope.data_ptr(),
        "residual": (0, 0, 0, 0) if residual is None else view(residual, 16 if chunks and up == 1 else 2),
        "act": conv.act,
        "channels": conv.channels,
        "shuffle": conv.shuffle,
        "residual_up": up,
        "clamp": conv.clamp is not None,
        "gain": conv.gain,
        "low": low,
        "high": high,
    }
    if isinstance(out, Canvas):
        return {**common, **_canvas_target(out, x, conv.planes, size, 16 if chunks else 2)}
    return {**common, **_frame_target(out, x, conv.planes, size)}


def _canvas_target(out: Canvas, x: Canvas, channels: int, size: tuple[int, int], align: int) -> dict[str, Any]:
    check_canvas(out, x, channels, size)
    return {"out": view(out, align), "flag": 0, "kind": 0, "steps": 1.0}


def _frame_target(out: FrameTarget, x: Canvas, channels: int, size: tuple[int, int]) -> dict[str, Any]:
    check_frames(out, x, channels, size)
    if out.reverse:
        raise ValueError("the CUDA kernels write channels in the network's order, not in its reverse")
    frame = out.frame
    view = (frame.data_ptr(), frame.stride(0), frame.stride(1), frame.stride(2))
    return {"out": view, "flag": out.flag.data_ptr(), "kind": KINDS[frame.dtype], "steps": out.peak / out.white}


def view(canvas: Canvas, align: int) -> tuple[int, int, int, int]:
    """Address of the image's first pixel and strides in elements, checked for accesses of ``align`` bytes."""
    view = (canvas.at(0, 0).data_ptr(), canvas.image, canvas.row, canvas.pixel)
    sizes = (view[0], *(2 * stride for stride in view[1:]))
    if any(size % align for size in sizes):
        raise ValueError(
            f"pixels must begin at multiples of {align} bytes; a canvas of {list(canvas.data.shape)} has {sizes}"
        )
    return view


def shared_bytes(conv: CudaConv) -> int:
    """Bytes of shared memory that a block of the convolution's kernel needs."""
    prepared = cuda.module().Conv(type=0, variant=conv.variant.fields(), params=no_image(conv))
    return int(prepared.run((-1, 0, False)))


def no_image(conv: CudaConv) -> dict[str, Any]:
    """Parameters for a launch that only says how much memory it would need."""
    return {
        **dict.fromkeys(("x", "residual", "out"), (0, 0, 0, 0)),
        **dict.fromkeys(("weight", "bias", "slope", "flag", "kind"), 0),
        **dict.fromkeys(("images", "height", "width", "residual_up", "steps", "gain"), 1),
        **dict.fromkeys(("low", "high"), 0.0),
        "act": conv.act,
        "channels": conv.channels,
        "shuffle": conv.shuffle,
        "clamp": False,
        "kernel": conv.kernel,
        "blocks_c": 1 if conv.variant.pixel else conv.blocks_c,
        "in_channels": conv.in_channels,
    }
