"""Where GPU kernels write a convolution's result: a canvas, or the frames that leave the network; with the checks of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas

Launch = Callable[[], None]
# White of integer frames.
PEAKS = {torch.uint8: 255, torch.uint16: 65535}


@dataclass(frozen=True)
class FrameTarget:
    """The result as frames.

    Attributes:
        frame: [N, height, width, C] uint8 or uint16, channels side by side; any row and image stride.
        white: the value that the network gives for white.
        flag: [1] int32, set to 1 where a value is NaN or infinite.
        reverse: channels in the reverse of the network's order, BGR for RGB.
    """

    frame: Tensor
    white: float
    flag: Tensor
    reverse: bool = False

    @property
    def peak(self) -> int:
        """White of the frames."""
        return PEAKS[self.frame.dtype]


def check_canvas(out: Canvas, x: Canvas, channels: int, size: tuple[int, int]) -> None:
    """Refuse a canvas that is not of the result's shape.

    Args:
        out: where the result shall go.
        x: the input, whose dtype and device the result has.
        channels, size: of the result; height and width in pixels.

    Raises:
        ValueError: it says what is given and what is expected.
    """
    given = (out.images, out.channels, out.height, out.width, out.data.dtype, out.data.device)
    expected = (x.images, channels, *size, x.data.dtype, x.data.device)
    if given != expected:
        raise ValueError(f"the output canvas is {given}, not {expected}")


def check_frames(out: FrameTarget, x: Canvas, channels: int, size: tuple[int, int]) -> None:
    """Refuse frames that are not of the result's shape, as ``check_canvas``."""
    frame, expected = out.frame, (x.images, *size, channels)
    if frame.dtype not in PEAKS or frame.shape != expected or frame.device != x.data.device:
        raise ValueError(
            f"frames must be {list(expected)} of uint8 or uint16 on {x.data.device}, "
            f"not {list(frame.shape)} of {frame.dtype} on {frame.device}"
        )
    if frame.stride(3) != 1:
        raise ValueError(f"frames need their channels side by side, not {frame.stride(3)} elements apart")
    if out.flag.dtype != torch.int32 or out.flag.device != x.data.device:
        raise ValueError(f"the flag must be int32 on {x.data.device}, not {out.flag.dtype} on {out.flag.device}")


def enlargement(residual: Canvas, x: Canvas, channels: int, size: tuple[int, int]) -> int:
    """Return the whole factor by which a residual is enlarged to the output's size on the way.

    Raises:
        ValueError: the residual does not fit.
    """
    up = size[0] // max(1, residual.height)
    given = (residual.images, residual.channels, residual.height * up, residual.width * up, residual.data.dtype)
    expected = (x.images, channels, *size, x.data.dtype)
    if given != expected or residual.data.device != x.data.device:
        raise ValueError(f"the residual, enlarged by {up}, is {given} on {residual.data.device}, not {expected}")
    return up
