"""Canvas: an activation in memory as the GPU kernels want it, NHWC with a border of zeros and room for whole tiles.

The border is a convolution's zero padding, and the room to the right and below lets a tile overhang the image, so
kernels load without masks. Kernels write inside the image only: the zeros of the allocation stay.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Elements past the last pixel that a kernel may read (and multiply by zero): a block of channels, a few narrow pixels.
_SLACK = 256
_PITCH = 16


@dataclass(frozen=True)
class Canvas:
    """Channels ``first .. first + channels`` of ``data``, and where the image lies in it.

    Attributes:
        data: [N, rows, pitch, elements] contiguous; rows and pitch in pixels, the elements of one pixel last.
        height, width: of the image in pixels.
        border: zero pixels on every side of the image.
    """

    data: Tensor
    height: int
    width: int
    channels: int
    border: int
    first: int = 0

    @staticmethod
    def allocate(
        images: int,
        channels: int,
        height: int,
        width: int,
        *,
        border: int = 0,
        tile: tuple[int, int] = (1, 1),
        dtype: torch.dtype = torch.float16,
        device: torch.device | str = "cpu",
    ) -> Canvas:
        """A canvas of zeros for readers with padding up to ``border``, in tiles of up to ``tile`` (rows, columns)."""
        shape = canvas_shape(images, channels, height, width, border, tile)
        flat = torch.zeros(_numel(shape) + _SLACK, dtype=dtype, device=device)
        return Canvas(flat[: _numel(shape)].view(shape), height, width, channels, border)

    @property
    def images(self) -> int:
        """Return the number of images in the batch."""
        return self.data.shape[0]

    @property
    def pixel_stride(self) -> int:
        """Elements from one pixel to the next."""
        return self.data.shape[3]

    @property
    def row_stride(self) -> int:
        """Elements from one row to the next."""
        return self.data.shape[2] * self.pixel_stride

    @property
    def image_stride(self) -> int:
        """Elements from one image to the next."""
        return self.data.shape[1] * self.row_stride

    def at(self, y: int, x: int) -> Tensor:
        """The memory from pixel (y, x) of the first image on; negative coordinates lie in the border."""
        return self.data.view(-1)[
            (y + self.border) * self.row_stride + (x + self.border) * self.pixel_stride + self.first :
        ]

    def channel_slice(self, first: int, channels: int) -> Canvas:
        """A part of the channels, in the same memory."""
        if first < 0 or channels < 1 or self.first + first + channels > self.pixel_stride:
            raise ValueError(
                f"channels {first}..{first + channels} are not in a canvas of {self.pixel_stride - self.first}"
            )
        return replace(self, first=self.first + first, channels=channels)

    def inner(self, before: int, after: int) -> Canvas:
        """The image less ``before`` rows and columns at the top and left and ``after`` at the others, in the same memory."""
        outside = before + after
        if min(before, after) < 0 or outside >= min(self.height, self.width):
            raise ValueError(f"an image of {self.width}x{self.height} has nothing inside {before} and {after} pixels")
        return replace(self, height=self.height - outside, width=self.width - outside, border=self.border + before)

    def nchw(self) -> Tensor:
        """[N, channels, height, width]: the image as a view."""
        b, last = self.border, self.first + self.channels
        return self.data[:, b : b + self.height, b : b + self.width, self.first : last].permute(0, 3, 1, 2)

    def overhang(self, tile: tuple[int, int], reach: int) -> bool:
        """Whether tiles of this size with ``reach`` pixels around them read inside the memory."""
        rows = _round_up(self.height, tile[0]) + self.border + reach
        columns = _round_up(self.width, tile[1]) + self.border + reach
        return reach <= self.border and rows <= self.data.shape[1] and columns <= self.data.shape[2]


def canvas_shape(
    images: int, channels: int, height: int, width: int, border: int, tile: tuple[int, int]
) -> tuple[int, int, int, int]:
    """[N, rows, pitch, elements] of the memory; rows of pixels start at 16-element steps."""
    pitch = _round_up(_round_up(width, tile[1]) + 2 * border, _PITCH)
    return images, _round_up(height, tile[0]) + 2 * border, pitch, padded_channels(channels)


def padded_channels(channels: int) -> int:
    """Elements of a pixel: 4 or 8 for images, else whole blocks of 16 channels."""
    if channels <= 8:
        return 4 if channels <= 4 else 8
    return _round_up(channels, 16)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


def _numel(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
