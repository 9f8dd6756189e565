"""Frames to the network's images and back in CUDA: packed uint8 or uint16 (RGB, BGR, grey), and video planes.

The references of the planes' kernels are in ``kernels.planes``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import frame_view, view
from srfast.kernels.cuda.launch import dtype_of, launch_of, member
from srfast.kernels.planes import LUMA_WEIGHTS, PlaneColour, Planes


def packed_in_launch(frames: Tensor, out: Canvas, gain: float, swap: bool = False) -> cuda.Launch:
    """A function that fills ``out`` with [N, H, W, C] uint8 or uint16 frames times ``gain``; ``swap``: they are BGR."""
    return _packed("packed_in", frames, out, gain, swap, None)


def packed_out_launch(x: Canvas, frames: Tensor, gain: float, flag: Tensor, swap: bool = False) -> cuda.Launch:
    """A function that rounds ``x`` times ``gain`` into frames; ``flag`` [1] int32 becomes 1 where one is not finite."""
    return _packed("packed_out", frames, x, gain, swap, flag)


def load_planes_launch(planes: Planes, out: Canvas, gain: float) -> cuda.Launch:
    """A function that runs ``planes.load_planes_reference`` with a peak of ``gain`` into a canvas of 3 channels.

    Raises:
        ValueError: the canvas has another size or device, or pixels of a plane do not lie side by side.
    """
    return _planar("yuv_in", planes, out, torch.linalg.inv(_matrix(planes.colour, gain)), gain, None)


def store_planes_launch(x: Canvas, planes: Planes, white: float, flag: Tensor) -> cuda.Launch:
    """A function that runs ``planes.store_planes_reference`` on a canvas whose white is ``white``.

    Args:
        flag: [1] int32, set to 1 where a value is NaN or infinite.

    Raises:
        ValueError: as ``load_planes_launch``.
    """
    return _planar("yuv_out", planes, x, _matrix(planes.colour, white), white, flag)


def _matrix(colour: PlaneColour, white: float) -> Tensor:
    """[3, 3] float64: RGB with that white to codes less their offsets."""
    red, blue = LUMA_WEIGHTS[colour.matrix]
    luma = torch.tensor([red, 1 - red - blue, blue], dtype=torch.float64)
    one = torch.eye(3, dtype=torch.float64)
    rows = torch.stack([luma, (one[2] - luma) / (2 - 2 * blue), (one[0] - luma) / (2 - 2 * red)])
    ranges = torch.tensor([colour.luma[1], colour.chroma[1], colour.chroma[1]], dtype=torch.float64)
    return rows * ranges[:, None] / white


def _packed(job: str, frames: Tensor, image: Canvas, gain: float, swap: bool, flag: Tensor | None) -> cuda.Launch:
    expected = (image.images, image.height, image.width, image.channels)
    if frames.dtype not in (torch.uint8, torch.uint16) or frames.shape != expected or frames.stride(3) != 1:
        raise ValueError(
            f"frames must be {list(expected)} of uint8 or uint16 with channels side by side, "
            f"not {list(frames.shape)} of {frames.dtype} with strides {list(frames.stride())}"
        )
    colours = _Colours([0.0] * 9, [0.0] * 3, gain, 255.0 if frames.dtype == torch.uint8 else 65535.0)
    return _launch(job, frames, None, image, colours, flag, swap=swap)


def _planar(job: str, planes: Planes, image: Canvas, matrix: Tensor, white: float, flag: Tensor | None) -> cuda.Launch:
    luma, chroma, colour = planes.luma, planes.chroma, planes.colour
    given, expected = tuple(luma.shape[:3]), (image.images, image.height, image.width)
    if given != expected or image.channels != 3:
        raise ValueError(f"planes of {given} do not fit {image.channels} channels of {expected}")
    if luma.stride(2) != 1 or chroma.stride()[2:] != (2, 1):
        raise ValueError("the pixels of a plane must lie side by side, whatever its rows do")
    offsets = [colour.luma[0], colour.chroma[0], colour.chroma[0]]
    colours = _Colours(matrix.flatten().tolist(), offsets, white, float(colour.peak), colour.step.bit_length() - 1)
    return _launch(job, luma, chroma, image, colours, flag)


@dataclass(frozen=True)
class _Colours:
    """How numbers of frames become numbers of images.

    Attributes:
        matrix: 9 numbers; ``offset``: 3, that the codes have more.
        gain: of packed frames for each of their steps, of planes the image's white.
        peak: largest number of a frame.
        shift: bits by which a frame's numbers are moved up, as P010's are.
    """

    matrix: list[float]
    offset: list[float]
    gain: float
    peak: float
    shift: int = 0


def _launch(
    job: str,
    frame: Tensor,
    chroma: Tensor | None,
    image: Canvas,
    colours: _Colours,
    flag: Tensor | None,
    *,
    swap: bool = False,
) -> cuda.Launch:
    frames = (frame,) if chroma is None else (frame, chroma)
    for tensor in (image.data, *frames, *([] if flag is None else [flag])):
        cuda.check_device(tensor)
        if tensor.device != image.data.device:
            raise ValueError(f"frames and image are on {tensor.device} and {image.data.device}")
    if image.data.dtype not in cuda.DTYPES or (flag is not None and flag.dtype != torch.int32):
        raise ValueError(f"images are float16 or bfloat16 and flags int32, not {image.data.dtype}")
    params = cuda.compiled.FrameParams(
        frame=frame_view(frame),
        chroma=None if chroma is None else frame_view(chroma),
        image=view(image, 2),
        wide=frame.dtype == torch.uint16,
        shift=colours.shift,
        images=image.images,
        height=image.height,
        width=image.width,
        channels=image.channels,
        swap=swap,
        matrix=colours.matrix,
        offset=colours.offset,
        gain=colours.gain,
        peak=colours.peak,
        flag=0 if flag is None else flag.data_ptr(),
    )
    prepared = cuda.compiled.FrameLaunch(
        dtype=dtype_of(image.data), job=member("job", cuda.compiled.FrameJob.__members__, job), params=params
    )
    return launch_of(prepared, (image, flag, *frames), image.data.device)
