"""Frames as people hold them: OpenCV's BGR arrays, PyTorch's RGB tensors, anything with DLPack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srfast.errors import InputError
from srfast.images.alpha import Region, upscale_with_alpha

Array: TypeAlias = npt.NDArray[Any]
# [N, H, W, 3] RGB -> [N, s*H, s*W, 3] of the same dtype. One with ``takes_bgr`` turns the channels round by itself, with
# less work than OpenCV, if it is called with bgr=True.
Run: TypeAlias = Callable[..., Tensor]
# What a floating tensor may reach: results of other networks go over white a little, 0..255 goes far.
_BRIGHTEST = 2.0


def upscale_array(image: Array, run: Run, region: Region | None = None) -> Array:
    """Upscales a numpy image as OpenCV reads it.

    Args:
        image: [H, W] or [H, W, 1] gray, [H, W, 3] BGR or [H, W, 4] BGRA; uint8 or uint16.
        run: the engine.
        region: the part of the image that ``run`` gives, as for ``upscale_with_alpha``.

    Returns:
        The same kind of array, larger. Alpha goes through the network as a gray image; see ``upscale_with_alpha``.

    Raises:
        InputError: another shape or dtype.
    """
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image is a numpy array, not {type(image).__name__}")
    if image.size == 0:
        raise InputError(f"an image of {list(image.shape)} has no pixels")
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3):
        raise InputError(
            f"an image must be [H, W] or [H, W, C] of uint8 or uint16, not {list(image.shape)} of {image.dtype}"
        )
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 3:
        return _bgr(image, run)
    if channels == 1:
        gray = _gray(image.reshape(image.shape[:2]), run)
        return gray if image.ndim == 2 else gray[:, :, None]
    if channels == 4:
        return upscale_with_alpha(image, lambda colour: _bgr(colour, run), lambda alpha: _gray(alpha, run), region)
    raise InputError(f"an image has 1 (gray), 3 (BGR) or 4 (BGRA) channels, not {channels}")


def _bgr(image: Array, run: Run) -> Array:
    if getattr(run, "takes_bgr", False):
        return run(_tensor(np.ascontiguousarray(image)).unsqueeze(0), bgr=True)[0].numpy()
    rgb = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB)
    out = run_array(rgb, run)
    return cv2.cvtColor(out, cv2.COLOR_RGB2BGR, dst=out)


def _gray(image: Array, run: Run) -> Array:
    rgb = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(run_array(rgb, run), cv2.COLOR_RGB2GRAY)


def run_array(rgb: Array, run: Run) -> Array:
    """[H, W, 3] RGB through the engine; nothing is copied on the way in or out."""
    return run(_tensor(rgb).unsqueeze(0))[0].numpy()


class _Readable:
    """An array that PyTorch may not write to, under an interface that lets it be read: a tensor cannot be read-only."""

    def __init__(self, array: Array) -> None:
        self.array = array  # holds the memory
        self.__array_interface__ = array.__array_interface__ | {"data": (array.ctypes.data, False)}


def _tensor(array: Array) -> Tensor:
    """The array's own memory as a tensor, which an engine only reads."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Readable(array)))


def upscale_tensor(images: Tensor, run: Run) -> Tensor:
    """Upscales [N, C, H, W] or [C, H, W], floating in 0..1 or uint8, on its own device, to the same kind.

    C is 3 for RGB, 4 for RGBA whose alpha goes through as a gray image, 1 for gray. float64 is computed in float32.

    Raises:
        InputError: another shape, no pixels, or floating values far outside 0..1, such as those of 0..255.
    """
    if images.ndim == 3:
        return upscale_tensor(images.unsqueeze(0), run)[0]
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4):
        raise InputError(f"a tensor must be [N, 3, H, W] or [3, H, W] RGB, not {list(images.shape)}")
    if images.numel() == 0:
        raise InputError(f"a tensor of {list(images.shape)} has no pixels")
    if images.is_floating_point() and float(images.detach().max()) > _BRIGHTEST:
        raise InputError(
            f"floating tensors hold 0..1, and this one goes up to {float(images.max()):g}: divide it by 255, or give uint8"
        )
    if images.dtype == torch.float64:
        return upscale_tensor(images.float(), run).double()
    if images.shape[1] == 4:
        return torch.cat([upscale_tensor(images[:, :3], run), upscale_tensor(images[:, 3:], run)], 1)
    gray = images.shape[1] == 1
    rgb = images.expand(-1, 3, -1, -1) if gray else images
    out = run(rgb.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    if not gray:
        return out
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float32, device=out.device)  # BT.601 luma, as OpenCV's
    mean = (out.float() * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)
    return (mean if out.is_floating_point() else mean.round()).to(out.dtype)


def upscale_frame(frame: Any, run: Run) -> Any:
    """Upscales a numpy array, a PIL image, a torch tensor, or any object with ``__dlpack__`` (which gives a tensor).

    Raises:
        InputError: none of these.
    """
    if isinstance(frame, np.ndarray):
        return upscale_array(frame, run)
    if isinstance(frame, Tensor):
        return upscale_tensor(frame, run)
    if _is_pil(frame):
        return _upscale_pil(frame, run)
    if hasattr(frame, "__dlpack__"):
        return upscale_tensor(torch.utils.dlpack.from_dlpack(frame), run)
    raise InputError(
        f"a frame is a numpy array, a PIL image, a torch tensor or a DLPack object, not {type(frame).__name__}"
    )


def _is_pil(frame: Any) -> bool:
    """True for PIL's images, without importing it for others."""
    return type(frame).__module__.split(".")[0] == "PIL" and hasattr(frame, "convert")


def _upscale_pil(frame: Any, run: Run) -> Any:
    """A PIL image of the same mode; palettes and others become RGB or RGBA, as their transparency wants."""
    from PIL import Image

    mode = frame.mode if frame.mode in ("L", "RGB", "RGBA") else "RGBA" if frame.has_transparency_data else "RGB"
    pixels = np.asarray(frame.convert(mode))
    turn = pixels if mode == "L" else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR if mode == "RGB" else cv2.COLOR_RGBA2BGRA)
    out = upscale_array(turn, run)
    back = out if mode == "L" else cv2.cvtColor(out, cv2.COLOR_BGR2RGB if mode == "RGB" else cv2.COLOR_BGRA2RGBA)
    return Image.fromarray(back)


def eight_bits(image: Array) -> Array:
    """Rounds uint16 to the nearest uint8, where 65535 = 255 * 257 keeps black and white; uint8 stays as it is."""
    return image if image.dtype == np.uint8 else ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def resize_array(image: Array, height: int, width: int) -> Array:
    """Resizes a numpy image: by area when it shrinks, Lanczos when it grows.

    Raises:
        InputError: the result does not fit into memory.
    """
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    try:
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LANCZOS4)
    except (cv2.error, MemoryError) as error:
        raise InputError(
            f"there is no memory for a result of {width}x{height} pixels; give a smaller outscale"
        ) from error
    return resized if resized.ndim == image.ndim else resized[:, :, None]
