"""The fused convolution of the compiled CUDA kernels: checked launches.

Its reference in plain torch is ``kernels.reference.conv_reference``.
"""

from __future__ import annotations

from dataclasses import asdict

import torch

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.launch import dtype_of, launch_of, member
from srfast.kernels.cuda.pack import CudaConv, Variant
from srfast.kernels.targets import FrameTarget, check_canvas, check_frames, enlargement


def conv_launch(
    x: Canvas, conv: CudaConv, out: Canvas | FrameTarget, residual: Canvas | None = None, programmatic: bool = False
) -> cuda.Launch:
    """A function that runs ``kernels.reference.conv_reference`` on canvases, with sums and epilogue in float32.

    Args:
        x: input; it needs no border. The elements beside its channels, up to the next multiple of 8, must be finite: they
            are multiplied by 0. A canvas has zeros there.
        out: of the same dtype as ``x``, or frames.
        residual: of the output's size, or smaller by a whole factor: then enlarged by nearest neighbour on the way.
        programmatic: starts while the kernel in front still runs (programmatic dependent launch, Hopper and later); that one must
            be of this module.

    Raises:
        ValueError: shapes, strides, dtypes or devices do not fit.
        RuntimeError: the compiled module is not there.
    """
    prepared = cuda.compiled.ConvLaunch(
        dtype=dtype_of(x.data),
        variant=_variant(conv.variant),
        params=conv_params(x, conv, out, residual, weight=conv.weight),
    )
    return launch_of(prepared, (x, conv, out, residual), x.data.device, programmatic)


def conv_params(
    x: Canvas,
    conv: CudaConv,
    out: Canvas | FrameTarget,
    residual: Canvas | None,
    *,
    weight: torch.Tensor,
    last: CudaConv | None = None,
    kernel: int | None = None,
    blocks_c: int | None = None,
) -> cuda.compiled.ConvParams:
    """Return what a launch reads, checked.

    Args:
        conv: the convolution that reads ``x``.
        weight: as the kernel has it.
        last: the convolution that writes ``out``, where two are fused.
        kernel, blocks_c: of the second of two fused convolutions, where they differ.
    """
    if x.channels != conv.in_channels or (conv.variant.pixel_stride and x.pixel_stride != conv.variant.pixel_stride):
        raise ValueError(
            f"the convolution reads {conv.in_channels} channels (pixels of {conv.variant.pixel_stride or 'any'} elements), "
            f"the canvas has {x.channels} (of {x.pixel_stride})"
        )
    if x.data.dtype != conv.weight.dtype or x.data.device != conv.weight.device:
        raise ValueError(
            f"weights are {conv.weight.dtype} on {conv.weight.device}, the input {x.data.dtype} on {x.data.device}"
        )
    if x.first + conv.read_channels > x.pixel_stride:
        raise ValueError(
            f"the convolution reads {conv.read_channels} channels at a time, and a pixel of the canvas has "
            f"{x.pixel_stride - x.first} from its first channel on"
        )
    cuda.check_device(x.data)
    return cuda.compiled.ConvParams(
        # cp.async brings whole pixels of 4 or 8 elements, or 16 bytes of a pixel of more.
        x=view(x, 4 * 2 if conv.variant.pixel_stride == 4 else 16),
        weight=weight.data_ptr(),
        epilogue=epilogue(x, last or conv, out, residual),
        images=x.images,
        height=x.height,
        width=x.width,
        kernel=conv.kernel if kernel is None else kernel,
        blocks_c=_blocks_c(conv) if blocks_c is None else blocks_c,
        in_channels=conv.read_channels,
    )


def epilogue(x: Canvas, conv: CudaConv, out: Canvas | FrameTarget, residual: Canvas | None) -> cuda.compiled.Epilogue:
    """Return what follows the sums and where they go, checked."""
    size = (x.height * conv.shuffle, x.width * conv.shuffle)
    # Eight 16-bit channels are one access of 16 bytes; other counts are stored value by value (csrc/cuda/epilogue.cuh).
    chunks = conv.out_channels % 8 == 0
    factor = 1 if residual is None else enlargement(residual, x, conv.out_channels, size)
    types = cuda.compiled.OutType
    if isinstance(out, Canvas):
        check_canvas(out, x, conv.out_channels, size)
        target, out_type, flag, steps = view(out, 16 if chunks else 2), types.same, 0, 1.0
    else:
        check_frames(out, x, conv.out_channels, size)
        if out.reverse:
            raise ValueError("the CUDA kernels write channels in the network's order, not in its reverse")
        target, flag, steps = frame_view(out.frame), out.flag.data_ptr(), out.peak / out.white
        out_type = types.uint8 if out.frame.dtype == torch.uint8 else types.uint16
    return cuda.compiled.Epilogue(
        bias=conv.bias.data_ptr(),
        slope=conv.slope.data_ptr(),
        # An enlarged residual is read value by value, and needs no alignment.
        residual=None if residual is None else view(residual, 16 if chunks and factor == 1 else 2),
        residual_factor=factor,
        out=target,
        out_type=out_type,
        steps=steps,
        flag=flag,
        act=member("act", cuda.compiled.Act.__members__, conv.act),
        channels=conv.channels,
        shuffle=conv.shuffle,
        gain=conv.gain,
        clamp=conv.clamp,
    )


def view(canvas: Canvas, align: int) -> cuda.compiled.View:
    """Return the address of the image's first pixel and its strides, checked for accesses of ``align`` bytes."""
    address = canvas.at(0, 0).data_ptr()
    size = canvas.data.element_size()
    sizes = (address, *(size * stride for stride in (canvas.image_stride, canvas.row_stride, canvas.pixel_stride)))
    if any(size % align for size in sizes):
        raise ValueError(
            f"pixels must begin at multiples of {align} bytes; a canvas of {list(canvas.data.shape)} has {sizes}"
        )
    return cuda.compiled.View(
        address=address,
        image_stride=canvas.image_stride,
        row_stride=canvas.row_stride,
        pixel_stride=canvas.pixel_stride,
    )


def frame_view(frame: torch.Tensor) -> cuda.compiled.View:
    """Return address and strides of [N, H, W, C]."""
    image, row, pixel = frame.stride()[:3]
    return cuda.compiled.View(address=frame.data_ptr(), image_stride=image, row_stride=row, pixel_stride=pixel)


def shared_bytes(conv: CudaConv) -> int:
    """Bytes of shared memory that a block of the convolution's kernel needs."""
    return cuda.compiled.ConvLaunch.shared_bytes(
        variant=_variant(conv.variant), kernel=conv.kernel, blocks_c=_blocks_c(conv)
    )


def _blocks_c(conv: CudaConv) -> int:
    return 1 if conv.variant.pixel_stride else conv.blocks_c


def _variant(variant: Variant) -> cuda.compiled.Variant:
    return cuda.compiled.Variant(**asdict(variant))
