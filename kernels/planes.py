"""Video planes, NV12 and P010, and the conversions between them and RGB in plain torch: the specification.

Chroma is sampled between two rows and at the even columns (H.273 chroma location 0, what MPEG-2, H.264 and H.265 take for
granted): on the way in it is enlarged bilinearly, on the way out averaged over two rows and over columns by 1/4, 1/2, 1/4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Red's and blue's weight in luma by number of ITU-T H.273, table 4.
LUMA_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
LUMA_WEIGHTS[9] = (0.2627, 0.0593)


@dataclass(frozen=True)
class PlaneColour:
    """How planes encode colour.

    Attributes:
        matrix: number of ITU-T H.273: 1 for BT.709, 5 and 6 for BT.601, 9 for BT.2020 non-constant luminance.
        full: 0..2^bits - 1 instead of 16..235 and 16..240, times 2^(bits - 8).
        dtype: uint8 is NV12; uint16 is P010, whose 10 bits are the upper ones.

    Raises:
        ValueError: a matrix or type that is not covered.
    """

    matrix: int = 1
    full: bool = False
    dtype: torch.dtype = torch.uint8

    def __post_init__(self) -> None:
        if self.matrix not in LUMA_WEIGHTS or self.dtype not in (torch.uint8, torch.uint16):
            raise ValueError(
                f"planes have a matrix of {', '.join(map(str, LUMA_WEIGHTS))} and are uint8 or uint16, not {self}"
            )

    @property
    def step(self) -> int:
        """Of the integers in memory for one of the code."""
        return 1 if self.dtype == torch.uint8 else 64

    @property
    def luma(self) -> tuple[float, float]:
        """Offset and range of luma, in steps of the code."""
        bits = 0 if self.dtype == torch.uint8 else 2
        return (0.0, float((256 << bits) - 1)) if self.full else (float(16 << bits), float(219 << bits))

    @property
    def chroma(self) -> tuple[float, float]:
        """Offset and range (from lowest to highest) of the colour differences, in steps of the code."""
        bits = 0 if self.dtype == torch.uint8 else 2
        return float(128 << bits), float((256 << bits) - 1) if self.full else float(224 << bits)

    @property
    def peak(self) -> int:
        """The largest code."""
        return 255 if self.dtype == torch.uint8 else 1023


@dataclass(frozen=True)
class Planes:
    """Pictures of even width and height as luma [N, H, W, 1] and colour differences [N, H / 2, W / 2, 2].

    Raises:
        ValueError: shapes, types or devices do not fit together.
    """

    luma: Tensor
    chroma: Tensor
    colour: PlaneColour

    def __post_init__(self) -> None:
        y, uv = self.luma, self.chroma
        whole = y.ndim == uv.ndim == 4 and y.shape[3] == 1 and uv.shape[3] == 2
        if not whole or [y.shape[0], y.shape[1], y.shape[2]] != [uv.shape[0], 2 * uv.shape[1], 2 * uv.shape[2]]:
            raise ValueError(
                f"planes are [N, H, W, 1] and [N, H / 2, W / 2, 2], not {list(y.shape)} and {list(uv.shape)}"
            )
        if {y.dtype, uv.dtype} != {self.colour.dtype} or y.device != uv.device:
            raise ValueError(
                f"planes are {y.dtype} on {y.device} and {uv.dtype} on {uv.device}, not {self.colour.dtype}"
            )

    @staticmethod
    def empty(images: int, height: int, width: int, colour: PlaneColour, device: torch.device | str) -> Planes:
        """Memory for pictures of ``height`` x ``width`` pixels."""
        return Planes.of(torch.empty((images, height // 2 * 3, width, 1), dtype=colour.dtype, device=device), colour)

    @staticmethod
    def of(picture: Tensor, colour: PlaneColour) -> Planes:
        """The planes in pictures as decoders and encoders have them, [N, 3 * H / 2, W, 1]: luma above, chroma's rows below."""
        images, rows, width, _ = picture.shape
        height = rows // 3 * 2
        return Planes(picture[:, :height], picture[:, height:].view(images, height // 2, width // 2, 2), colour)

    @property
    def picture(self) -> Tensor:
        """The pictures that the planes are of; the same memory if they lie in it one behind the other."""
        y, uv = self.luma, self.chroma
        images, height, width, _ = y.shape
        behind = y.stride(1) * height
        shape, strides = (images, height // 2 * 3, width, 1), (y.stride(0), y.stride(1), 1, 1)
        joined = (y.stride(1), uv.stride()) == (width, (y.stride(0), width, 2, 1)) and y.stride(2) == 1
        if joined and uv.data_ptr() == y.data_ptr() + behind * y.element_size() and y.stride(0) >= 3 * behind // 2:
            return y.as_strided(shape, strides)
        return torch.cat([y, uv.reshape(images, height // 2, width, 1)], 1)

    def copy_(self, other: Planes, non_blocking: bool = False) -> None:
        """Takes another one's values."""
        self.luma.copy_(other.luma, non_blocking=non_blocking)
        self.chroma.copy_(other.chroma, non_blocking=non_blocking)


def load_planes_reference(planes: Planes, peak: float) -> Tensor:
    """Planes -> [N, 3, H, W] float64 RGB in 0..peak."""
    colour = planes.colour
    y = planes.luma.permute(0, 3, 1, 2).double() / colour.step
    uv = planes.chroma.permute(0, 3, 1, 2).double() / colour.step
    # Rows lie between, columns at the even ones.
    uv = F.interpolate(uv, size=(y.shape[2], uv.shape[3]), mode="bilinear", align_corners=False)
    right = torch.cat([uv[..., 1:], uv[..., -1:]], 3)
    uv = torch.stack([uv, (uv + right) / 2], 4).flatten(3)
    y = (y - colour.luma[0]) / colour.luma[1]
    b, r = ((uv - colour.chroma[0]) / colour.chroma[1]).unbind(1)
    red, blue = LUMA_WEIGHTS[colour.matrix]
    r = y[:, 0] + 2 * (1 - red) * r
    b = y[:, 0] + 2 * (1 - blue) * b
    g = (y[:, 0] - red * r - blue * b) / (1 - red - blue)
    return torch.stack([r, g, b], 1).clamp(0, 1) * peak


def store_planes_reference(x: Tensor, peak: float, colour: PlaneColour) -> Planes:
    """[N, 3, H, W] RGB in 0..peak, limited to that -> planes, rounded to nearest and saturated."""
    r, g, b = (x.double() / peak).clamp(0, 1).unbind(1)
    red, blue = LUMA_WEIGHTS[colour.matrix]
    y = red * r + (1 - red - blue) * g + blue * b
    uv = torch.stack([(b - y) / (2 * (1 - blue)), (r - y) / (2 * (1 - red))], 1)
    uv = (uv[:, :, 0::2] + uv[:, :, 1::2]) / 2
    even, odd = uv[..., 0::2], uv[..., 1::2]
    left = torch.cat([uv[..., :1], odd[..., :-1]], 3)
    uv = (left + 2 * even + odd) / 4
    luma = (y * colour.luma[1] + colour.luma[0]).round().clamp(0, colour.peak)[:, None] * colour.step
    chroma = (uv * colour.chroma[1] + colour.chroma[0]).round().clamp(0, colour.peak) * colour.step
    return Planes(luma.permute(0, 2, 3, 1).to(colour.dtype), chroma.permute(0, 2, 3, 1).to(colour.dtype), colour)
