"""The fused convolution of the compiled CUDA kernels: packed weights, choice of kernel, and checked launches.

Its twin in plain torch is ``conv.conv_reference``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from srfast.kernels import cuda
from srfast.kernels.canvas import Canvas
from srfast.kernels.packed_conv import ACTS

KINDS = {torch.uint8: 1, torch.uint16: 2}
PEAKS = {torch.uint8: 255, torch.uint16: 65535}


@dataclass(frozen=True)
class Variant:
    """One of the compiled convolutions.

    Attributes:
        block_c: input channels at a time.
        block_o: output channels of a block of threads.
        kernel: side of the kernel that it was compiled for; 0 takes any.
        tile_h, tile_w: pixels of a block of threads.
        pixel: elements of a pixel of a narrow image (at most 8 channels), else 0.
    """

    block_c: int
    block_o: int
    kernel: int = 0
    tile_h: int = 8
    tile_w: int = 16
    pixel: int = 0

    def fields(self) -> tuple[int, ...]:
        return self.block_c, self.block_o, self.kernel, self.tile_h, self.tile_w, self.pixel


VARIANTS = (
    Variant(64, 64, 3),
    Variant(64, 64, 3, 16, 16),
    *(Variant(c, o) for o in (64, 32) for c in (64, 32, 16)),
    *(Variant(c, 16) for c in (64, 16)),
    Variant(16, 32, pixel=4),
    Variant(16, 32, pixel=8),
)


def choose_variant(channels: int, out: int, kernel: int) -> Variant:
    """The kernel for a shape: the least padding, blocks of 64 where that is equal."""
    if channels <= 8:
        return Variant(16, 32, pixel=4 if channels <= 4 else 8)
    block_o = 16 if out <= 16 else 32 if out <= 32 else 64
    sizes = (64, 16) if block_o == 16 else (64, 32, 16)
    # A part of the last block is copied as zeros, so padding costs only its multiplications.
    block_c = min(sizes, key=lambda size: (-(-channels // size) * size, -size))
    return Variant(block_c, block_o, 3 if (block_c, block_o, kernel) == (64, 64, 3) else 0)


@dataclass(frozen=True)
class CudaConv:
    """A convolution packed for one variant.

    Output channels are ordered (row phase, column phase, channel) of the shuffle.

    Attributes:
        weight: [blocks_o, blocks_c, taps, block_o, block_c], the 16-byte chunks of each row as ``swizzle`` has them. Of
            narrow images a tap is a slice of 16 products of a kernel's row.
        bias, slope: [blocks_o * block_o] float32.
    """

    variant: Variant
    weight: Tensor
    bias: Tensor
    slope: Tensor
    kernel: int
    in_channels: int
    channels: int
    blocks_c: int
    act: int
    shuffle: int
    gain: float
    clamp: tuple[float, float] | None

    @property
    def planes(self) -> int:
        """Output channels after the shuffle."""
        return self.channels // self.shuffle**2


def pack_conv(
    weight: Tensor,  # [O, C, k, k]
    bias: Tensor,  # [O]
    *,
    act: str = "none",
    slope: Tensor | None = None,  # [1] or [O]
    shuffle: int = 1,
    gain: float = 1.0,
    clamp: tuple[float, float] | None = None,
    variant: Variant | None = None,
    dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
) -> CudaConv:
    """Packs a convolution once.

    Raises:
        ValueError: shapes that do not fit together, or to the variant.
    """
    out, channels, kernel, width = weight.shape
    if kernel != width or kernel % 2 == 0 or bias.shape != (out,) or out % shuffle**2:
        raise ValueError(
            f"weight {list(weight.shape)}, bias {list(bias.shape)} and shuffle {shuffle} do not fit together"
        )
    if act not in ACTS or (act == "prelu" and (slope is None or slope.numel() not in (1, out))):
        raise ValueError(f"act {act!r} with {'no' if slope is None else slope.numel()} slopes for {out} channels")
    if dtype not in cuda.DTYPES:
        raise ValueError(f"the CUDA kernels compute in float16 or bfloat16, not {dtype}")
    variant = variant or choose_variant(channels, out, kernel)
    if variant not in VARIANTS or variant.kernel not in (0, kernel) or bool(variant.pixel) != (channels <= 8):
        raise ValueError(f"{variant} does not run a {kernel}x{kernel} convolution of {channels} channels")
    order = torch.arange(out).view(-1, shuffle * shuffle).t().reshape(-1)
    ordered = weight.detach().float().cpu()[order]
    blocks = _narrow_blocks(ordered, variant) if variant.pixel else _wide_blocks(ordered, variant)
    slopes = torch.zeros(out) if slope is None else slope.detach().float().cpu().expand(out)
    length = blocks.shape[0] * variant.block_o
    return CudaConv(
        variant,
        swizzle(blocks.to(dtype).contiguous()).to(device).contiguous(),
        _padded(bias.detach().float().cpu()[order], length).to(device),
        _padded(slopes[order], length).to(device),
        kernel,
        channels,
        out,
        blocks.shape[1],
        ACTS[act],
        shuffle,
        gain,
        clamp,
    )


def swizzle(rows: Tensor) -> Tensor:
    """[..., R, C]: chunk c of 16 bytes of row r goes to c ^ (r / (8 / chunks) % chunks), as ``swizzled`` in csrc/cuda."""
    chunks = rows.shape[-1] // 8
    row = torch.arange(rows.shape[-2])
    source = torch.arange(chunks)[None, :] ^ (row // (8 // chunks) % chunks)[:, None]
    split = rows.view(*rows.shape[:-1], chunks, 8)
    moved: Tensor = split.gather(-2, source[..., None].expand(split.shape))
    return moved.reshape(rows.shape)


def _wide_blocks(weight: Tensor, variant: Variant) -> Tensor:
    """[blocks_o, blocks_c, taps, block_o, block_c], padded with zeros."""
    out, channels, kernel, _ = weight.shape
    rows, columns = -(-out // variant.block_o), -(-channels // variant.block_c)
    padded = torch.zeros(rows * variant.block_o, columns * variant.block_c, kernel * kernel)
    padded[:out, :channels] = weight.flatten(2)
    split = padded.view(rows, variant.block_o, columns, variant.block_c, kernel * kernel)
    return split.permute(0, 2, 4, 1, 3)


def _narrow_blocks(weight: Tensor, variant: Variant) -> Tensor:
    """[blocks_o, 1, kernel rows * slices, block_o, 16]: the taps of a row side by side, as the pixels are."""
    out, channels, kernel, _ = weight.shape
    rows, slices = -(-out // variant.block_o), -(-kernel * variant.pixel // 16)
    pixels = torch.zeros(rows * variant.block_o, kernel, slices * 16)
    taps = torch.zeros(out, kernel, kernel, variant.pixel)
    taps[..., :channels] = weight.permute(0, 2, 3, 1)
    pixels[:out, :, : kernel * variant.pixel] = taps.flatten(2)
    return pixels.view(rows, variant.block_o, 1, kernel * slices, 16).permute(0, 2, 3, 1, 4)


def _padded(values: Tensor, length: int) -> Tensor:
    padded = torch.zeros(length)
    padded[: len(values)] = values
    return padded


@dataclass(frozen=True)
class Frames:
    """The result as frames.

    Attributes:
        frame: [N, height, width, C] uint8 or uint16, channels side by side; any row and image stride.
        units: value of the network's white.
        flag: [1] int32, set to 1 where a value is NaN or infinite.
    """

    frame: Tensor
    units: float
    flag: Tensor


def conv_launch(
    x: Canvas, conv: CudaConv, out: Canvas | Frames, residual: Canvas | None = None, early: bool = False
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


def epilogue(x: Canvas, conv: CudaConv, out: Canvas | Frames, residual: Canvas | None) -> dict[str, Any]:
    """The epilogue's parameters, checked."""
    size = (x.height * conv.shuffle, x.width * conv.shuffle)
    chunks = conv.planes % 8 == 0
    up = 1 if residual is None else _enlargement(residual, x, conv, size)
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
    given = (out.images, out.channels, out.height, out.width, out.data.dtype, out.data.device)
    expected = (x.images, channels, *size, x.data.dtype, x.data.device)
    if given != expected:
        raise ValueError(f"the output canvas is {given}, not {expected}")
    return {"out": view(out, align), "flag": 0, "kind": 0, "steps": 1.0}


def _frame_target(out: Frames, x: Canvas, channels: int, size: tuple[int, int]) -> dict[str, Any]:
    frame, expected = out.frame, (x.images, *size, channels)
    if frame.dtype not in KINDS or frame.shape != expected or frame.device != x.data.device:
        raise ValueError(
            f"frames must be {list(expected)} of uint8 or uint16 on {x.data.device}, "
            f"not {list(frame.shape)} of {frame.dtype} on {frame.device}"
        )
    if frame.stride(3) != 1:
        raise ValueError(f"frames need their channels side by side, not {frame.stride(3)} elements apart")
    if out.flag.dtype != torch.int32 or out.flag.device != x.data.device:
        raise ValueError(f"the flag must be int32 on {x.data.device}, not {out.flag.dtype} on {out.flag.device}")
    view = (frame.data_ptr(), frame.stride(0), frame.stride(1), frame.stride(2))
    peak = PEAKS[frame.dtype]
    return {"out": view, "flag": out.flag.data_ptr(), "kind": KINDS[frame.dtype], "steps": peak / out.units}


def _enlargement(residual: Canvas, x: Canvas, conv: CudaConv, size: tuple[int, int]) -> int:
    """The whole factor between residual and output."""
    up = size[0] // max(1, residual.height)
    given = (residual.images, residual.channels, residual.height * up, residual.width * up, residual.data.dtype)
    expected = (x.images, conv.planes, *size, x.data.dtype)
    if given != expected or residual.data.device != x.data.device:
        raise ValueError(f"the residual, enlarged by {up}, is {given} on {residual.data.device}, not {expected}")
    return up


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
    empty = dict.fromkeys(("x", "residual", "out"), (0, 0, 0, 0))
    params: dict[str, Any] = {
        **empty,
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
    prepared = cuda.module().Conv(type=0, variant=conv.variant.fields(), params=params)
    return int(prepared.run((-1, 0, False)))
