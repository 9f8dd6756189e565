"""The 3x3 convolution of 64 channels in 8 bits for Hopper GPUs, and 16-bit images to bytes, with checked launches.

Their references in plain torch are ``kernels.int8.int8_reference`` and ``quantize_reference``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import view
from srfast.kernels.cuda.hopper import block_count, hopper_reason, strip_rows
from srfast.kernels.cuda.launch import dtype_of, launch_of, member
from srfast.kernels.int8 import LowPrecision, round_weight
from srfast.kernels.packing import check_conv, padded, phase_order

COLUMNS = 64  # of a strip


@dataclass(frozen=True)
class ByteCanvas:
    """An activation in bytes: a canvas of uint8, and how its values were or will be rounded."""

    canvas: Canvas
    rounding: LowPrecision


@dataclass(frozen=True)
class Int8Conv:
    """A convolution packed for the kernel; output channels in the order (row phase, column phase, channel) of the shuffle.

    Attributes:
        weight: [blocks of 64 outputs, 18, 128, 16] int8, see ``fragments``.
        scale, bias, slope: [channels] float32; ``scale`` is what a sum is multiplied by before the bias.
        start: [channels] int32: what sums begin with.
        rounding: of the input.
        dtype: of results and residuals, float16 or bfloat16.
    """

    weight: Tensor
    scale: Tensor
    start: Tensor
    bias: Tensor
    slope: Tensor
    rounding: LowPrecision
    channels: int
    act: str
    shuffle: int
    gain: float
    dtype: torch.dtype

    @property
    def out_channels(self) -> int:
        """Output channels after the shuffle."""
        return self.channels // self.shuffle**2


def int8_fits(
    weight: Tensor, act: str, shuffle: int, gain: float, clamp: tuple[float, float] | None, residual: bool
) -> str | None:
    """Why the kernel cannot run a convolution; None if it can. ``residual``: whether it has one, of the result's size."""
    out, channels, kernel, _ = weight.shape
    if (kernel, channels) != (3, 64) or out % (64 * shuffle**2):
        return (
            "in 8 bits convolutions are 3x3, of 64 channels, to blocks of 64 in each phase of a shuffle, "
            f"not {kernel}x{kernel} of {channels} to {out} with shuffle {shuffle}"
        )
    if act not in ("none", "prelu") or clamp is not None:
        return f"in 8 bits a convolution ends in a PReLU or in nothing, not in {act if clamp is None else 'a clamp'}"
    return None if residual or gain == 1.0 else "in 8 bits a convolution has a gain before a residual only"


def pack_int8(
    weight: Tensor,  # [O, 64, 3, 3]
    bias: Tensor,  # [O]
    rounding: LowPrecision,
    *,
    act: str = "none",
    slope: Tensor | None = None,  # [1] or [O]
    shuffle: int = 1,
    gain: float = 1.0,
    clamp: tuple[float, float] | None = None,
    dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
) -> Int8Conv:
    """Packs a convolution once.

    Raises:
        ValueError: ``int8_fits`` says why, or shapes that do not fit together.
    """
    out, _, _ = check_conv(weight, bias, act, slope, shuffle)
    reason = int8_fits(weight, act, shuffle, gain, clamp, residual=True)
    if reason:
        raise ValueError(reason)
    if dtype not in cuda.DTYPES:
        raise ValueError(f"beside 8 bits the CUDA kernels compute in float16 or bfloat16, not {dtype}")
    order = phase_order(out, shuffle)
    rounded, scale = round_weight(weight.cpu()[order])
    start = -rounding.zero * rounded.flatten(1).sum(1, dtype=torch.int32)
    slopes = torch.zeros(out) if slope is None else slope.detach().float().cpu().expand(out)
    return Int8Conv(
        fragments(rounded).to(device),
        (scale.double() * rounding.scale).float().to(device),
        start.to(device),
        padded(bias.detach().float().cpu()[order], out).to(device),
        padded(slopes[order], out).to(device),
        rounding,
        out,
        act,
        shuffle,
        gain,
        dtype,
    )


def fragments(rounded: Tensor) -> Tensor:
    """[blocks, 18, 128, 16] of weights [O, 64, 3, 3]: as the threads of a warpgroup hold them.

    Step 2 * tap + k has channels 32 * k and on; for each thread its four registers of wgmma's left operand.
    """
    # Row: warp, half, row of eight; column: step, half, four of the row, one of the four.
    split = rounded.reshape(-1, 4, 2, 8, 2, 2, 4, 4, 9)
    return split.permute(0, 8, 4, 1, 3, 6, 5, 2, 7).reshape(-1, 18, 128, 16).contiguous()


def conv_int8_launch(
    x: Canvas,
    conv: Int8Conv,
    out: Canvas | None,
    residual: Canvas | None = None,
    *,
    out_bytes: ByteCanvas | None = None,
    blocks: int | None = None,
    programmatic: bool = False,
) -> cuda.Launch:
    """A function that runs ``kernels.int8.int8_reference``.

    Args:
        x: 64 channels of uint8, rounded by ``conv.rounding``; it needs no border.
        out: where the result goes in ``conv.dtype``; None where it is wanted in bytes only.
        residual: of the result's size.
        out_bytes: where the 16-bit result goes as bytes.
        blocks: of threads; by default one for each multiprocessor.
        programmatic: see ``kernels.cuda.conv.conv_launch``.

    Raises:
        ValueError: there is no place for the result, or shapes, dtypes or devices do not fit, or the GPU is no Hopper.
    """
    reason = hopper_reason(x.data.device)
    if reason:
        raise ValueError(f"convolutions in 8 bits cannot run here: {reason}")
    if out is None and out_bytes is None:
        raise ValueError("the result needs a canvas: of 16-bit values, of bytes, or both")
    if conv.gain != 1.0 and residual is None:
        raise ValueError("in 8 bits a convolution has a gain before a residual only")
    _check("the input", x, x, 64, 1, torch.uint8)
    for name, canvas, dtype in (
        ("the output", out, conv.dtype),
        ("the residual", residual, conv.dtype),
        ("the output in bytes", None if out_bytes is None else out_bytes.canvas, torch.uint8),
    ):
        if canvas is not None:
            _check(name, canvas, x, conv.out_channels, conv.shuffle, dtype)
    if x.data.device != conv.weight.device:
        raise ValueError(f"weights are on {conv.weight.device}, the input on {x.data.device}")
    cuda.check_device(x.data)
    blocks = block_count(x.data.device) if blocks is None else blocks
    nowhere = cuda.compiled.View(address=0, image_stride=0, row_stride=0, pixel_stride=0)
    epilogue = cuda.compiled.Epilogue(
        bias=conv.bias.data_ptr(),
        slope=conv.slope.data_ptr(),
        residual=None if residual is None else view(residual, 16),
        residual_factor=1,
        out=nowhere if out is None else view(out, 16),
        out_type=cuda.compiled.OutType.same,
        steps=1.0,
        flag=0,
        act=member("act", cuda.compiled.Act.__members__, conv.act),
        channels=conv.channels,
        shuffle=conv.shuffle,
        gain=conv.gain,
        clamp=None,
    )
    prepared = cuda.compiled.Int8Launch(
        dtype=dtype_of(torch.empty(0, dtype=conv.dtype)),
        rows=strip_rows(x.images, x.height, x.width, COLUMNS, max(1, blocks // (conv.channels // 64))),
        blocks=blocks,
        conv=cuda.compiled.ConvParams(
            x=view(x, 16),
            weight=conv.weight.data_ptr(),
            epilogue=epilogue,
            images=x.images,
            height=x.height,
            width=x.width,
            kernel=3,
            blocks_c=1,
            in_channels=64,
        ),
        halves=out is not None,
        scale=conv.scale.data_ptr(),
        start=conv.start.data_ptr(),
        zero=conv.rounding.zero,
        result=_byte_view(out_bytes),
    )
    return launch_of(prepared, (x, conv, out, residual, out_bytes), x.data.device, programmatic)


def quantize_launch(x: Canvas, out: ByteCanvas) -> cuda.Launch:
    """A function that runs ``kernels.int8.quantize_reference`` on 64 channels of float16 or bfloat16.

    Raises:
        ValueError: shapes, dtypes or devices do not fit.
    """
    _check("the output in bytes", out.canvas, x, 64, 1, torch.uint8)
    if x.channels != 64 or x.data.dtype not in cuda.DTYPES:
        raise ValueError(f"bytes are made of 64 channels of 16 bits, not of {x.channels} of {x.data.dtype}")
    cuda.check_device(x.data)
    prepared = cuda.compiled.QuantizeLaunch(
        dtype=dtype_of(x.data),
        x=view(x, 16),
        result=_byte_view(out),
        images=x.images,
        height=x.height,
        width=x.width,
    )
    return launch_of(prepared, (x, out), x.data.device)


def _byte_view(target: ByteCanvas | None) -> cuda.compiled.ByteView:
    if target is None:
        return cuda.compiled.ByteView(view=None, scale=1.0, zero=0)
    rounding = target.rounding
    return cuda.compiled.ByteView(view=view(target.canvas, 8), scale=rounding.scale, zero=rounding.zero)


def _check(name: str, canvas: Canvas, x: Canvas, channels: int, up: int, dtype: torch.dtype) -> None:
    given = (canvas.images, canvas.channels, canvas.height, canvas.width, canvas.data.dtype, canvas.data.device)
    expected = (x.images, channels, x.height * up, x.width * up, dtype, x.data.device)
    if given != expected:
        raise ValueError(f"{name} is {given}, not {expected}")
