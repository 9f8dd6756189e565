"""A convolution packed for one of the compiled CUDA kernels, and the choice among these."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from srfast.kernels import cuda
from srfast.kernels.packing import check_conv, padded, phase_order

# What the kernels do with a convolution's sums, as csrc/cuda/params.h names it.
ACTS = ("none", "prelu", "tanh", "sigmoid")


@dataclass(frozen=True)
class Variant:
    """One of the compiled convolutions.

    Attributes:
        block_c: input channels at a time.
        block_o: output channels of a block of threads.
        kernel: side of the kernel that it was compiled for; 0 takes any.
        tile_h, tile_w: pixels of a block of threads.
        pixel_stride: elements from one pixel to the next of an image of at most 8 channels, else 0.
    """

    block_c: int
    block_o: int
    kernel: int = 0
    tile_h: int = 8
    tile_w: int = 16
    pixel_stride: int = 0


VARIANTS = (
    Variant(64, 64, 3),
    Variant(64, 64, 3, 16, 16),
    *(Variant(c, o) for o in (64, 32) for c in (64, 32, 16)),
    *(Variant(c, 16) for c in (64, 16)),
    Variant(16, 32, pixel_stride=4),
    Variant(16, 32, pixel_stride=8),
)


def choose_variant(channels: int, out: int, kernel: int) -> Variant:
    """The kernel for a shape: the least padding, blocks of 64 where that is equal."""
    if channels <= 8:
        return Variant(16, 32, pixel_stride=4 if channels <= 4 else 8)
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
            images of at most 8 channels a tap is a slice of 16 products of a kernel's row.
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
    act: str
    shuffle: int
    gain: float
    clamp: tuple[float, float] | None

    @property
    def read_channels(self) -> int:
        """Channels that the kernel reads: whole chunks of 8, of which those beyond ``in_channels`` have weights of 0."""
        return self.in_channels if self.variant.pixel_stride else -(-self.in_channels // 8) * 8

    @property
    def out_channels(self) -> int:
        """Output channels after the shuffle."""
        return self.channels // self.shuffle**2

    @cached_property
    def fragments(self) -> Tensor:
        """[blocks_o, 36, 128, 8]: a 3x3 convolution's weights of 64 channels as the threads of a warpgroup hold them.

        Step 4 * tap + k has channels 16 * k and on; for each thread its four registers of wgmma's left operand.
        """
        plain = swizzle(self.weight.cpu().view(-1, 9, 64, 64))  # twice is not at all
        # Row: warp, half, row of eight; column: step, half, pair of the row, one of the pair.
        split = plain.view(-1, 9, 4, 2, 8, 4, 2, 4, 2)
        return split.permute(0, 1, 5, 2, 4, 7, 6, 3, 8).reshape(-1, 36, 128, 8).to(self.weight.device)


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
    out, channels, kernel = check_conv(weight, bias, act, slope, shuffle)
    if dtype not in cuda.DTYPES:
        raise ValueError(f"the CUDA kernels compute in float16 or bfloat16, not {dtype}")
    if act not in ACTS:
        raise ValueError(f"the CUDA kernels end in {', '.join(ACTS)}, not {act!r}")
    variant = variant or choose_variant(channels, out, kernel)
    if variant not in VARIANTS or variant.kernel not in (0, kernel) or bool(variant.pixel_stride) != (channels <= 8):
        raise ValueError(f"{variant} does not run a {kernel}x{kernel} convolution of {channels} channels")
    order = phase_order(out, shuffle)
    ordered = weight.detach().float().cpu()[order]
    blocks = _few_channels_blocks(ordered, variant) if variant.pixel_stride else _many_channels_blocks(ordered, variant)
    slopes = torch.zeros(out) if slope is None else slope.detach().float().cpu().expand(out)
    length = blocks.shape[0] * variant.block_o
    return CudaConv(
        variant,
        swizzle(blocks.to(dtype).contiguous()).to(device).contiguous(),
        padded(bias.detach().float().cpu()[order], length).to(device),
        padded(slopes[order], length).to(device),
        kernel,
        channels,
        out,
        blocks.shape[1],
        act,
        shuffle,
        gain,
        clamp,
    )


def swizzle(rows: Tensor) -> Tensor:
    """[..., R, C]: chunk c of 16 bytes of row r goes to c ^ (r / (8 / chunks) % chunks), as ``swizzled`` in csrc/cuda."""
    # ldmatrix reads 16 bytes of eight rows at a time. Rows of 128 bytes begin in the same bank of shared memory, so the
    # eight reads would wait for each other; moved by the row's number they lie in eight different places of a row.
    chunks = rows.shape[-1] // 8
    row = torch.arange(rows.shape[-2])
    source = torch.arange(chunks)[None, :] ^ (row // (8 // chunks) % chunks)[:, None]
    split = rows.view(*rows.shape[:-1], chunks, 8)
    moved: Tensor = split.gather(-2, source[..., None].expand(split.shape))
    return moved.reshape(rows.shape)


def _many_channels_blocks(weight: Tensor, variant: Variant) -> Tensor:
    """[blocks_o, blocks_c, taps, block_o, block_c], padded with zeros."""
    out, channels, kernel, _ = weight.shape
    rows, columns = -(-out // variant.block_o), -(-channels // variant.block_c)
    padded = torch.zeros(rows * variant.block_o, columns * variant.block_c, kernel * kernel)
    padded[:out, :channels] = weight.flatten(2)
    split = padded.view(rows, variant.block_o, columns, variant.block_c, kernel * kernel)
    return split.permute(0, 2, 4, 1, 3)


def _few_channels_blocks(weight: Tensor, variant: Variant) -> Tensor:
    """[blocks_o, 1, kernel rows * slices, block_o, 16]: the taps of a row side by side, as the pixels are."""
    out, channels, kernel, _ = weight.shape
    rows, slices = -(-out // variant.block_o), -(-kernel * variant.pixel_stride // 16)
    pixels = torch.zeros(rows * variant.block_o, kernel, slices * 16)
    taps = torch.zeros(out, kernel, kernel, variant.pixel_stride)
    taps[..., :channels] = weight.permute(0, 2, 3, 1)
    pixels[:out, :, : kernel * variant.pixel_stride] = taps.flatten(2)
    return pixels.view(rows, variant.block_o, 1, kernel * slices, 16).permute(0, 2, 3, 1, 4)
