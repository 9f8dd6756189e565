"""Frames to the network's images and back in CUDA: packed uint8 or uint16 (RGB, BGR, grey), and video planes.

The twins of the planes' kernels are in ``planes``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import run, view
from srfast.kernels.planes import LUMA_WEIGHTS, PlaneColour, Planes


class Job(IntEnum):
    PACKED_IN = 0
    PACKED_OUT = 1
    YUV_IN = 2
    YUV_OUT = 3


def packed_in_launch(frames: Tensor, out: Canvas, gain: float, swap: bool = False) -> cuda.Launch:
    """A function that fills ``out`` with [N, H, W, C] uint8 or uint16 frames times ``gain``; ``swap``: they are BGR."""
    return _packed(Job.PACKED_IN, frames, out, gain, swap, None)


def packed_out_launch(x: Canvas, frames: Tensor, gain: float, flag: Tensor, swap: bool = False) -> cuda.Launch:
    """A function that rounds ``x`` times ``gain`` into frames; ``flag`` [1] int32 becomes 1 where one is not finite."""
    return _packed(Job.PACKED_OUT, frames, x, gain, swap, flag)


def load_planes_launch(planes: Planes, out: Canvas, gain: float) -> cuda.Launch:
    """A function that runs ``planes.load_planes_reference`` with a peak of ``gain`` into a canvas of 3 channels.

    Raises:
        ValueError: the canvas has another size or device, or pixels of a plane do not lie side by side.
    """
    return _planar(Job.YUV_IN, planes, out, torch.linalg.inv(_matrix(planes.colour, gain)), gain, None)


def store_planes_launch(x: Canvas, planes: Planes, white: float, flag: Tensor) -> cuda.Launch:
    """A function that runs ``planes.store_planes_reference`` on a canvas whose white is ``white``.

    Args:
        flag: [1] int32, set to 1 where a value is NaN or infinite.

    Raises:
        ValueError: as ``load_planes_launch``.
    """
    return _planar(Job.YUV_OUT, planes, x, _matrix(planes.colour, white), white, flag)


def _matrix(colour: PlaneColour, white: float) -> Tensor:
    """[3, 3] float64: RGB with that white to codes less their offsets."""
    red, blue = LUMA_WEIGHTS[colour.matrix]
    luma = torch.tensor([red, 1 - red - blue, blue], dtype=torch.float64)
    one = torch.eye(3, dtype=torch.float64)
    rows = torch.stack([luma, (one[2] - luma) / (2 - 2 * blue), (one[0] - luma) / (2 - 2 * red)])
    ranges = torch.tensor([colour.luma[1], colour.chroma[1], colour.chroma[1]], dtype=torch.float64)
    return rows * ranges[:, None] / white


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


def _planar(job: Job, planes: Planes, image: Canvas, matrix: Tensor, white: float, flag: Tensor | None) -> cuda.Launch:
    luma, chroma, colour = planes.luma, planes.chroma, planes.colour
    given, expected = tuple(luma.shape[:3]), (image.images, image.height, image.width)
    if given != expected or image.channels != 3:
        raise ValueError(f"planes of {given} do not fit {image.channels} channels of {expected}")
    if luma.stride(2) != 1 or chroma.stride()[2:] != (2, 1):
        raise ValueError("the pixels of a plane must lie side by side, whatever its rows do")
    params = {
        "frame": (luma.data_ptr(), *luma.stride()[:3]),
        "chroma": (chroma.data_ptr(), *chroma.stride()[:3]),
        "wide": colour.dtype == torch.uint16,
        "shift": colour.step.bit_length() - 1,
        "channels": 3,
        "swap": False,
        "matrix": matrix.flatten().tolist(),
        "offset": [colour.luma[0], colour.chroma[0], colour.chroma[0]],
        "gain": white,
        "peak": float(colour.peak),
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
