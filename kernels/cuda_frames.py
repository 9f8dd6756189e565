"""Frames to the network's images and back in CUDA: packed uint8 or uint16 (RGB, BGR, grey), NV12 and P010.

``yuv_to_rgb`` and ``rgb_to_yuv`` are the twins in plain torch. The matrices follow ITU-R BT.601, BT.709 and BT.2020
(non-constant luminance), code values of full and limited range BT.2100 table 9 (the same formula for 8 and 10 bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.kernels import cuda
from srfast.kernels.canvas import Canvas
from srfast.kernels.cuda_conv import run, view

# Luma of red and blue.
LUMA = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
Matrix = Literal["bt601", "bt709", "bt2020"]


class Job(IntEnum):
    PACKED_IN = 0
    PACKED_OUT = 1
    YUV_IN = 2
    YUV_OUT = 3


@dataclass(frozen=True)
class Yuv:
    """How luma and chroma are coded.

    Attributes:
        matrix: "bt601", "bt709" or "bt2020".
        full: code values use the whole range.
        bits: 8 (NV12) or 10 (P010, in the upper bits of 16).
    """

    matrix: Matrix = "bt709"
    full: bool = False
    bits: int = 8

    def __post_init__(self) -> None:
        if self.matrix not in LUMA or self.bits not in (8, 10):
            raise ValueError(f"{self}: the matrix is one of {', '.join(LUMA)}, with 8 or 10 bits")

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8 if self.bits == 8 else torch.uint16

    @property
    def shift(self) -> int:
        """Unused low bits."""
        return 0 if self.bits == 8 else 6

    @property
    def offset(self) -> list[float]:
        """Code values of black and of no colour."""
        step = 2.0 ** (self.bits - 8)
        return [0.0 if self.full else 16 * step, 128 * step, 128 * step]

    def to_rgb(self, peak: float) -> Tensor:
        """[3, 3] float64: code values less ``offset`` to RGB whose white is ``peak``."""
        inverse: Tensor = torch.linalg.inv(self.from_rgb(peak))
        return inverse

    def from_rgb(self, peak: float) -> Tensor:
        """[3, 3] float64: RGB whose white is ``peak`` to code values less ``offset``."""
        red, blue = LUMA[self.matrix]
        luma = torch.tensor([red, 1 - red - blue, blue], dtype=torch.float64)
        one = torch.eye(3, dtype=torch.float64)
        rows = torch.stack([luma, (one[2] - luma) / (2 - 2 * blue), (one[0] - luma) / (2 - 2 * red)])
        step = 2.0 ** (self.bits - 8)
        sizes = [2.0**self.bits - 1] * 3 if self.full else [219 * step, 224 * step, 224 * step]
        return rows * torch.tensor(sizes, dtype=torch.float64)[:, None] / peak


def yuv_to_rgb(luma: Tensor, chroma: Tensor, yuv: Yuv, peak: float = 1.0) -> Tensor:
    """[N, H, W] and [N, ceil(H/2), ceil(W/2), 2] integers -> [N, 3, H, W] float32; chroma between samples is linear."""
    height, width = luma.shape[1:]
    small = (chroma.to(torch.int32) >> yuv.shift).float().permute(0, 3, 1, 2)
    padded = F.pad(small, (0, 1, 1, 1), mode="replicate")
    columns = torch.stack([padded[..., :-1], (padded[..., :-1] + padded[..., 1:]) / 2], -1).flatten(-2)
    upper = 0.75 * columns[..., 1:-1, :] + 0.25 * columns[..., :-2, :]
    lower = 0.75 * columns[..., 1:-1, :] + 0.25 * columns[..., 2:, :]
    full = torch.stack([upper, lower], -2).flatten(-3, -2)[..., :height, :width]
    values = torch.cat([(luma.to(torch.int32) >> yuv.shift).float()[:, None], full], 1)
    centred = values - torch.tensor(yuv.offset).view(3, 1, 1)
    return torch.einsum("ij,njhw->nihw", yuv.to_rgb(peak).float(), centred)


def rgb_to_yuv(x: Tensor, yuv: Yuv, peak: float = 1.0) -> tuple[Tensor, Tensor]:
    """[N, 3, H, W] -> [N, H, W] and [N, ceil(H/2), ceil(W/2), 2] of ``yuv.dtype``; chroma filtered as in csrc/cuda/frames.cuh."""
    height, width = x.shape[2:]
    x = F.pad(x.float(), (1, 1 + width % 2, 0, height % 2), mode="replicate")
    codes = torch.einsum("ij,njhw->nihw", yuv.from_rgb(peak).float(), x) + torch.tensor(yuv.offset).view(3, 1, 1)
    rows = (codes[:, 1:, ::2] + codes[:, 1:, 1::2]) / 2
    chroma = (rows[..., :-2:2] + 2 * rows[..., 1:-1:2] + rows[..., 2::2]) / 4
    top = 2**yuv.bits - 1
    coded = [(v.round().clamp(0, top).int() << yuv.shift).to(yuv.dtype) for v in (codes[:, 0], chroma)]
    return coded[0][:, :height, 1 : width + 1], coded[1].permute(0, 2, 3, 1)


def packed_in_launch(frames: Tensor, out: Canvas, gain: float, swap: bool = False) -> cuda.Launch:
    """A function that fills ``out`` with [N, H, W, C] uint8 or uint16 frames times ``gain``; ``swap``: they are BGR."""
    return _packed(Job.PACKED_IN, frames, out, gain, swap, None)


def packed_out_launch(x: Canvas, frames: Tensor, gain: float, flag: Tensor, swap: bool = False) -> cuda.Launch:
    """A function that rounds ``x`` times ``gain`` into frames; ``flag`` [1] int32 becomes 1 where one is not finite."""
    return _packed(Job.PACKED_OUT, frames, x, gain, swap, flag)


def yuv_in_launch(luma: Tensor, chroma: Tensor, out: Canvas, yuv: Yuv, peak: float = 1.0) -> cuda.Launch:
    """A function that runs ``yuv_to_rgb`` into a canvas of 3 channels."""
    matrix = yuv.to_rgb(peak)
    return _planar(Job.YUV_IN, luma, chroma, out, yuv, matrix, None)


def yuv_out_launch(x: Canvas, luma: Tensor, chroma: Tensor, yuv: Yuv, flag: Tensor, peak: float = 1.0) -> cuda.Launch:
    """A function that runs ``rgb_to_yuv`` on a canvas of 3 channels; ``flag`` as in ``packed_out_launch``."""
    return _planar(Job.YUV_OUT, luma, chroma, x, yuv, yuv.from_rgb(peak), flag)


def _packed(job: Job, frames: Tensor, image: Canvas, gain: float, swap: bool, flag: Tensor | None) -> cuda.Launch:
    expected = (image.images, image.height, image.width, image.channels)
    if frames.dtype not in (torch.uint8, torch.uint16) or frames.shape != expected or frames.stride(3) != 1:
        raise ValueError(
            f"frames must be {list(expected)} of uint8 or uint16 with channels side by side, "
            f"not {list(frames.shape)} of {frames.dtype} with strides {list(frames.stride())}"
        )
    params = {
        "frame": (frames.data_ptr(), *frames.stride()[:3]),
        "chroma": (0, 0, 0, 0),
        "wide": frames.dtype == torch.uint16,
        "shift": 0,
        "channels": image.channels,
        "swap": swap,
        "matrix": [0.0] * 9,
        "offset": [0.0] * 3,
        "gain": gain,
        "peak": 255.0 if frames.dtype == torch.uint8 else 65535.0,
    }
    return _launch(job, params, image, flag, frames)


def _planar(
    job: Job, luma: Tensor, chroma: Tensor, image: Canvas, yuv: Yuv, matrix: Tensor, flag: Tensor | None
) -> cuda.Launch:
    shapes = (image.images, image.height, image.width), (image.images, -(-image.height // 2), -(-image.width // 2), 2)
    given = tuple(luma.shape), tuple(chroma.shape)
    if given != shapes or image.channels != 3 or luma.dtype != yuv.dtype or chroma.dtype != yuv.dtype:
        raise ValueError(
            f"luma and chroma must be {shapes} of {yuv.dtype} for an image of 3 channels, "
            f"not {given} of {luma.dtype} and {chroma.dtype} for {image.channels}"
        )
    if luma.stride(2) != 1 or chroma.stride()[2:] != (2, 1):
        raise ValueError("luma must lie side by side, and so must pairs of chroma")
    params = {
        "frame": (luma.data_ptr(), *luma.stride()),
        "chroma": (chroma.data_ptr(), *chroma.stride()[:3]),
        "wide": yuv.bits > 8,
        "shift": yuv.shift,
        "channels": 3,
        "swap": False,
        "matrix": matrix.flatten().tolist(),
        "offset": yuv.offset,
        "gain": 1.0,
        "peak": 2.0**yuv.bits - 1,
    }
    return _launch(job, params, image, flag, luma, chroma)


def _launch(job: Job, params: dict[str, Any], image: Canvas, flag: Tensor | None, *frames: Tensor) -> cuda.Launch:
    kept = (image, flag, *frames)
    for tensor in (image.data, *frames, *([] if flag is None else [flag])):
        cuda.check_device(tensor)
        if tensor.device != image.data.device:
            raise ValueError(f"frames and image are on {tensor.device} and {image.data.device}")
    if image.data.dtype not in cuda.DTYPES or (flag is not None and flag.dtype != torch.int32):
        raise ValueError(f"images are float16 or bfloat16 and flags int32, not {image.data.dtype}")
    sizes = {"images": image.images, "height": image.height, "width": image.width, "image": view(image, 2)}
    params = {**params, **sizes, "flag": 0 if flag is None else flag.data_ptr()}
    kind = cuda.DTYPES.index(image.data.dtype)
    prepared = cuda.module().Frames(type=kind, job=int(job), params=params)
    return lambda: run(prepared, kept, image.data.device, early=False)
