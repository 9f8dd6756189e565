"""PSNR and SSIM on the Y channel (and on RGB), by the protocol of the super-resolution tables.

Images are uint8 RGB [H, W, 3] (or gray [H, W] or [H, W, 1]); the border of ``crop`` pixels is left out; Y is BT.601 studio
range in float, not rounded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

UInt8Image = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float64]
WINDOW = 11  # side of SSIM's


def modcrop(image: UInt8Image, scale: int) -> UInt8Image:
    """Cuts height and width down to multiples of ``scale``."""
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def luma(image: UInt8Image) -> Float:
    """Y of BT.601 in 16..235, as MATLAB's rgb2ycbcr before rounding."""
    if image.ndim == 2:
        return image.astype(np.float64)
    y: Float = image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255.0 + 16.0
    return y


def _cropped(image: UInt8Image, reference: UInt8Image, crop: int, side: int = 1) -> tuple[UInt8Image, UInt8Image]:
    """Both without the border; a gray image has no axis of channels.

    Raises:
        ValueError: not two images of one shape in 0..255, or less than ``side`` x ``side`` pixels are left.
    """
    if image.shape != reference.shape:
        raise ValueError(f"images differ in shape: {list(image.shape)} and {list(reference.shape)}")
    for given in (image, reference):
        if given.dtype != np.uint8 or given.ndim not in (2, 3) or given.shape[2:] not in ((), (1,), (3,)):
            raise ValueError(f"an image is uint8 [H, W] or [H, W, 3] in 0..255, not {given.dtype} {list(given.shape)}")
    if crop < 0:
        raise ValueError(f"the border that is left out has 0 or more pixels, not {crop}")
    height, width = (n - 2 * crop for n in image.shape[:2])
    if min(height, width) < side:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise ValueError(f"an image needs {side}x{side} pixels inside a border of {crop}, {size} is too small")
    window = (slice(crop, crop + height), slice(crop, crop + width), *((0,) if image.shape[2:] == (1,) else ()))
    return image[window], reference[window]


def _psnr(a: Float, b: Float) -> float:
    mse = float(np.mean((a - b) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(255.0**2 / mse))


def psnr_y(image: UInt8Image, reference: UInt8Image, crop: int) -> float:
    """Peak signal-to-noise ratio in dB with a peak of 255; infinite for equal images.

    Examples:
        >>> black = np.zeros((16, 16, 3), np.uint8)
        >>> round(psnr_y(black, black + 255, crop=2), 2)  # luma goes from 16 to 235: 20 log10(255 / 219)
        1.32
    """
    a, b = _cropped(image, reference, crop)
    return _psnr(luma(a), luma(b))


def psnr_rgb(image: UInt8Image, reference: UInt8Image, crop: int) -> float:
    """The same over all channels at once; about 1.9 dB below ``psnr_y``."""
    a, b = _cropped(image, reference, crop)
    return _psnr(a.astype(np.float64), b.astype(np.float64))


def _gaussian_valid(x: Float) -> Float:
    """11-tap Gaussian, sigma 1.5, both directions, valid region only."""
    # The window of the SSIM paper; libraries with another one, or with padded borders, give other numbers.
    taps = np.exp(-((np.arange(WINDOW) - 5.0) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    rows = np.lib.stride_tricks.sliding_window_view(x, WINDOW, axis=0) @ taps
    out: Float = np.lib.stride_tricks.sliding_window_view(rows, WINDOW, axis=1) @ taps
    return out


def ssim_y(image: UInt8Image, reference: UInt8Image, crop: int) -> float:
    """Structural similarity (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861).

    Raises:
        ValueError: less than 11x11 pixels are left, the size of its window.

    Examples:
        >>> ramp = np.tile(np.arange(32, dtype=np.uint8)[:, None, None], (1, 32, 3))
        >>> ssim_y(ramp, ramp, crop=4)
        1.0
    """
    a, b = _cropped(image, reference, crop, WINDOW)
    return _ssim(luma(a), luma(b))


def ssim_rgb(image: UInt8Image, reference: UInt8Image, crop: int) -> float:
    """The same, as the mean over the channels."""
    a, b = (np.atleast_3d(x).astype(np.float64) for x in _cropped(image, reference, crop, WINDOW))
    return float(np.mean([_ssim(a[..., c], b[..., c]) for c in range(a.shape[2])]))


def _ssim(a: Float, b: Float) -> float:
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mu_a, mu_b = _gaussian_valid(a), _gaussian_valid(b)
    var_a = _gaussian_valid(a * a) - mu_a**2
    var_b = _gaussian_valid(b * b) - mu_b**2
    cov = _gaussian_valid(a * b) - mu_a * mu_b
    score = (2 * mu_a * mu_b + c1) * (2 * cov + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return float(score.mean())
