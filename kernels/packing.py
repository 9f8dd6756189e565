"""A convolution's weights and epilogue in the order that the GPU kernels read them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srfast.kernels.buffers import padded_channels

ACTS = {"none": 0, "prelu": 1, "tanh": 2, "sigmoid": 3, "silu": 4, "gelu": 5, "mish": 6}


@dataclass(frozen=True)
class PackedConv:
    """``clamp(shuffle(act(conv(x) + bias)) * gain + residual)``, ready for a kernel.

    Output channels are ordered (row phase, column phase, channel) of the shuffle: a phase is stored side by side.

    Attributes:
        weight: [taps * blocks_c, channels padded to block_o, block_c]. Of narrow images (at most 8 channels) a tap is a
            whole row of the kernel: its k pixels lie side by side.
        bias, slope: [channels padded] float32.
        kernel: side of the kernel; ``columns`` of its columns are separate taps (1 for narrow images).
        channels: output channels before the shuffle.
        in_channels: input channels; ``pixel_stride`` is the pixel size the weights are packed for, 0 for any.
    """

    weight: Tensor
    bias: Tensor
    slope: Tensor
    kernel: int
    columns: int
    blocks_c: int
    block_c: int
    block_o: int
    channels: int
    in_channels: int
    pixel_stride: int
    act: int
    shuffle: int
    gain: float
    clamp: tuple[float, float] | None

    @property
    def half(self) -> int:
        """Return the pixels that a convolution reads on each side of its own."""
        return self.kernel // 2

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
    block_o: int = 64,
    exact: bool = False,
    dtype: torch.dtype = torch.float16,
    device: torch.device | str = "cpu",
) -> PackedConv:
    """Packs a convolution once.

    Args:
        block_o: output channels of one program, a power of two of at least 16; limited to what the convolution has.
        exact: never reads memory beside the input's channels, which come in blocks of 16.

    Raises:
        ValueError: shapes that do not fit together.
    """
    out, channels, kernel = check_conv(weight, bias, act, slope, shuffle)
    block_o = min(block_o, max(16, _power_of_two(out)))
    order = phase_order(out, shuffle)
    # Channels beyond the last have zero weights, so that a kernel need not mask what it reads of them.
    padded_out = -(-out // block_o) * block_o
    taps, columns, pixel = _taps(weight.detach().float().cpu()[order])
    block_c = _channel_block(taps.shape[2], exact)
    blocks_c = -(-taps.shape[2] // block_c)
    packed = torch.zeros(taps.shape[0], padded_out, blocks_c * block_c)
    packed[:, :out, : taps.shape[2]] = taps
    packed = packed.view(taps.shape[0], padded_out, blocks_c, block_c).transpose(1, 2)
    slopes = torch.zeros(out) if slope is None else slope.detach().float().cpu().expand(out)
    return PackedConv(
        packed.reshape(-1, padded_out, block_c).to(device, dtype).contiguous(),
        padded(bias.detach().float().cpu()[order], padded_out).to(device),
        padded(slopes[order], padded_out).to(device),
        kernel,
        columns,
        blocks_c,
        block_c,
        block_o,
        out,
        channels,
        pixel,
        ACTS[act],
        shuffle,
        gain,
        clamp,
    )


def check_conv(weight: Tensor, bias: Tensor, act: str, slope: Tensor | None, shuffle: int) -> tuple[int, int, int]:
    """Output channels, input channels and side of a convolution.

    Raises:
        ValueError: shapes that do not fit together.
    """
    out, channels, kernel, width = weight.shape
    if kernel != width or kernel % 2 == 0 or bias.shape != (out,) or out % shuffle**2:
        raise ValueError(
            f"weight {list(weight.shape)}, bias {list(bias.shape)} and shuffle {shuffle} do not fit together"
        )
    if act not in ACTS or (act == "prelu" and (slope is None or slope.numel() not in (1, out))):
        raise ValueError(f"act {act!r} with {'no' if slope is None else slope.numel()} slopes for {out} channels")
    return out, channels, kernel


def _taps(weight: Tensor) -> tuple[Tensor, int, int]:
    """[taps, O, values of a tap], the taps of a row, and the pixel size they need (0: any)."""
    out, channels, kernel, _ = weight.shape
    if channels > 8:
        return weight.permute(2, 3, 0, 1).reshape(kernel * kernel, out, channels), kernel, 0
    pixel = padded_channels(channels)
    # Few channels would leave most of a matrix instruction's depth of 16 empty: a row of taps fills it.
    wide = torch.zeros(kernel, out, kernel, pixel)
    wide[..., :channels] = weight.permute(2, 0, 3, 1)
    return wide.reshape(kernel, out, kernel * pixel), 1, pixel


def phase_order(out: int, shuffle: int) -> Tensor:
    """Packed channel (i, j, c) is channel c * r * r + i * r + j of the plan."""
    return torch.arange(out).view(-1, shuffle * shuffle).t().reshape(-1)


def _channel_block(channels: int, exact: bool) -> int:
    """64, 32 or 16 channels a step: the least padding, where short steps cost a little extra."""
    blocks = [block for block in (64, 32, 16) if not exact or channels % block == 0]
    if not blocks:
        raise ValueError(f"{channels} channels are not whole blocks of 16")
    return min(blocks, key=lambda block: -(-channels // block) * (block + 8))


def _power_of_two(value: int) -> int:
    return 1 << (value - 1).bit_length()


def padded(values: Tensor, length: int) -> Tensor:
    """[n] -> [length] float32, zeros at the end."""
    longer = torch.zeros(length)
    longer[: len(values)] = values
    return longer
