"""Frames as people hold them: OpenCV's BGR arrays, PyTorch's RGB tensors, anything with DLPack."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from srfast.engine.pixels import PEAKS
from srfast.errors import InputError
from srfast.images.alpha import Region, upscale_with_alpha

Array: TypeAlias = npt.NDArray[Any]
# [N, H, W, 3] RGB -> [N, s*H, s*W, 3] of the same dtype. One with ``takes_bgr`` turns the channels round by itself, with
# less work than OpenCV, if it is called with bgr=True.
Run: TypeAlias = Callable[..., Tensor]
# What a floating tensor may reach: results of other networks go over white and under black a little, 0..255 and -1..1 go far.
_DARKEST, _BRIGHTEST = -0.5, 2.0


def upscale_array(image: Array, run: Run, region: Region | None = None) -> Array:
    """Upscales a numpy image as OpenCV reads it.

    Args:
        image: [H, W] or [H, W, 1] gray, [H, W, 3] BGR or [H, W, 4] BGRA; uint8 or uint16.
        run: the engine.
        region: the part of the image that ``run`` gives, as for ``upscale_with_alpha``.

    Returns:
        The same kind of array, larger. Alpha goes through the network as a gray image; see ``upscale_with_alpha``.

    Raises:
        InputError: another shape or dtype, or masked pixels.
    """
    if not isinstance(image, np.ndarray):
        raise InputError(f"an image is a numpy array, not {type(image).__name__}")
    check_mask(image)
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


def check_mask(image: Array) -> None:
    """Refuses an array with masked pixels, which would come back as if they were none.

    Raises:
        InputError: it has some.
    """
    count = int(np.count_nonzero(image.mask)) if isinstance(image, np.ma.MaskedArray) else 0
    if count:
        raise InputError(
            f"this array has {count} masked values, and a result has no mask: give image.filled(0), or the mask as alpha, "
            "[H, W, 4] BGRA"
        )


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


def upscale_tensor(images: Tensor, run: Run, rgba: Run | None = None) -> Tensor:
    """Upscales [N, C, H, W] or [C, H, W], floating in 0..1, uint8 or uint16, on its own device, to the same kind.

    C is 3 for RGB, 4 for RGBA whose alpha goes through as a gray image, 1 for gray. float64 is computed in float32.

    Args:
        images: the tensor.
        run: the engine.
        rgba: runs [N, H, W, 4] of a network that takes alpha as it is; by default alpha is a gray image.

    Raises:
        InputError: another shape or type, no pixels, or floating values that are none or far outside 0..1, such as those of
            0..255 and of -1..1.
    """
    if images.ndim == 3:
        return upscale_tensor(images.unsqueeze(0), run, rgba)[0]
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4):
        raise InputError(f"a tensor must be [N, 3, H, W] or [3, H, W] RGB, not {list(images.shape)}")
    if images.numel() == 0:
        raise InputError(f"a tensor of {list(images.shape)} has no pixels")
    _check_values(images)
    if images.dtype == torch.float64:
        return upscale_tensor(images.float(), run, rgba).double()
    if images.shape[1] == 4 and rgba is not None:
        return rgba(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
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


def _check_values(images: Tensor) -> None:
    """Refuses a tensor that cannot hold an image.

    Raises:
        InputError: it says what the tensor holds.
    """
    kinds = (*PEAKS, torch.float64)
    if images.dtype not in kinds or images.layout != torch.strided or images.is_meta:
        names = ", ".join(str(kind).removeprefix("torch.") for kind in kinds)
        raise InputError(
            f"a tensor must be a dense one of {names}, not {images.layout} of {images.dtype} on {images.device}"
        )
    if not images.is_floating_point():
        return
    low, high = (float(value) for value in torch.aminmax(images.detach()))
    if math.isnan(low):
        raise InputError("this tensor has values that are NaN; floating tensors hold 0..1")
    # Colours that no screen shows reach below 0 as well, but then above 1 in another channel.
    if high > _BRIGHTEST or (low < _DARKEST and high <= 1):
        raise InputError(
            f"floating tensors hold 0..1, and this one goes from {low:g} up to {high:g}: "
            f"{'divide it by 255' if high > _BRIGHTEST else 'add 1 and divide it by 2'}, or give uint8"
        )


def upscale_frame(frame: Any, run: Run, rgba: Run | None = None) -> Any:
    """Upscales a numpy array, a PIL image, a torch tensor, or any object with ``__dlpack__`` (which gives a tensor).

    Args:
        frame: one of these.
        run: the engine.
        rgba: as for ``upscale_tensor``, and for tensors only.

    Raises:
        InputError: none of these.
    """
    if isinstance(frame, np.ndarray):
        return upscale_array(frame, run)
    if isinstance(frame, Tensor):
        return upscale_tensor(frame, run, rgba)
    if is_pil(frame):
        pixels, back = pil_pixels(frame)
        return back(upscale_array(pixels, run))
    if hasattr(frame, "__dlpack__"):
        return upscale_tensor(torch.utils.dlpack.from_dlpack(frame), run, rgba)
    raise InputError(
        f"a frame is a numpy array, a PIL image, a torch tensor or a DLPack object, not {type(frame).__name__}"
    )


def is_pil(frame: Any) -> bool:
    """True for PIL's images, without importing it for others."""
    return type(frame).__module__.split(".")[0] == "PIL" and hasattr(frame, "convert")


def pil_pixels(frame: Any) -> tuple[Array, Callable[[Array], Any]]:
    """The pixels of a PIL image as OpenCV has them, and what makes such an image of others.

    It is of the same mode; palettes and others become RGB or RGBA, as their transparency wants.

    Raises:
        InputError: it holds numbers whose white is not known.
    """
    from PIL import Image

    if frame.mode == "I" or frame.mode.startswith("I;16"):
        # PIL's own conversion would limit them to 0..255.
        numbers = np.asarray(frame)
        if numbers.size and not 0 <= numbers.min() <= numbers.max() <= 65535:
            raise InputError(
                f"a PIL image of mode {frame.mode} holds 16 bits, 0..65535, and this one {numbers.min()}..{numbers.max()}: "
                "map it there, or convert it to 'L'"
            )
        kind = np.int32 if frame.mode == "I" else np.uint16
        return numbers.astype(np.uint16), lambda out: Image.fromarray(out.astype(kind))
    if frame.mode == "F":
        raise InputError("a PIL image of mode F has no known white: convert it to 'L', or give a tensor in 0..1")
    mode = frame.mode if frame.mode in ("L", "RGB", "RGBA") else "RGBA" if frame.has_transparency_data else "RGB"
    if frame.mode == "La":  # PIL goes from it to LA only
        frame = frame.convert("LA")
    pixels = np.asarray(frame.convert(mode))
    if mode == "L" or not pixels.size:
        return pixels, Image.fromarray
    there, back = (
        (cv2.COLOR_RGB2BGR, cv2.COLOR_BGR2RGB) if mode == "RGB" else (cv2.COLOR_RGBA2BGRA, cv2.COLOR_BGRA2RGBA)
    )
    return cv2.cvtColor(pixels, there), lambda out: Image.fromarray(cv2.cvtColor(out, back))


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
