"""MATLAB's bicubic ``imresize`` for uint8 images, bit for bit.

Benchmarks of super-resolution define their low-resolution images by this function; other bicubic filters shift
PSNR by several dB. Kernel: Keys (1981) with a = -0.5, widened by 1/scale when shrinking.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt8Image = npt.NDArray[np.uint8]


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    a = np.abs(x)
    near = 1.5 * a**3 - 2.5 * a**2 + 1
    far = -0.5 * a**3 + 2.5 * a**2 - 4 * a + 2
    return np.where(a <= 1, near, np.where(a <= 2, far, 0.0))


def _contributions(length: int, out_length: int, scale: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Source indices and weights [out_length, taps] of each output sample; borders are mirrored."""
    # Shrinking widens the kernel so that it also removes what the smaller image cannot hold (MATLAB's
    # antialiasing).
    stretch = min(scale, 1.0)
    width = 4.0 / stretch
    centre = (np.arange(out_length) + 1) / scale + 0.5 * (1 - 1 / scale)  # 1-based, as in MATLAB
    left = np.floor(centre - width / 2)
    index = left[:, None] + np.arange(int(np.ceil(width)) + 2)
    weights = stretch * _cubic(stretch * (centre[:, None] - index))
    weights /= weights.sum(axis=1, keepdims=True)
    # Beyond a border the image is repeated in reverse, its outermost pixel included.
    mirror = np.concatenate([np.arange(length), np.arange(length)[::-1]])
    return mirror[(index.astype(np.intp) - 1) % (2 * length)], weights


def _resize_rows(image: UInt8Image, out_length: int, scale: float) -> UInt8Image:
    index, weights = _contributions(image.shape[0], out_length, scale)
    out = np.einsum("ot,ot...->o...", weights, image[index].astype(np.float64))
    # MATLAB rounds half away from zero, and to uint8 after each direction.
    rounded: UInt8Image = np.clip(np.floor(out + 0.5), 0, 255).astype(np.uint8)
    return rounded


def imresize_float(image: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.float64]:
    """The same for float64 [H, W], without rounding or clamping, as MATLAB does it for doubles."""
    for _ in range(2):
        index, weights = _contributions(image.shape[0], int(np.ceil(scale * image.shape[0])), scale)
        image = np.einsum("ot,otw->wo", weights, image[index])
    return image


def imresize(image: UInt8Image, scale: float) -> UInt8Image:
    """Resizes [H, W] or [H, W, C] uint8 to ceil(scale * H) x ceil(scale * W), rows first and columns second.

    Examples:
        >>> imresize(np.full((8, 12, 3), 7, np.uint8), 1 / 4).shape
        (2, 3, 3)
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(f"imresize takes a uint8 [H, W] or [H, W, C] array, not {image.dtype} {list(image.shape)}")
    height, width = (int(np.ceil(scale * n)) for n in image.shape[:2])
    rows = _resize_rows(image, height, scale)
    return np.ascontiguousarray(_resize_rows(rows.swapaxes(0, 1), width, scale).swapaxes(0, 1))
