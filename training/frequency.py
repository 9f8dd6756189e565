"""Losses and a score in the frequency domain. Images are float [N, C, H, W], any range."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

TINY = 1e-8


def _wide(x: Tensor) -> Tensor:
    """Half precision has no FFT on the CPU, and too short a mantissa for a spectrum."""
    return x if x.dtype == torch.float64 else x.float()


def _relative(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b).abs() / torch.maximum(a.abs(), b.abs()).clamp_min(TINY)).mean()


def fft_loss(image: Tensor, target: Tensor) -> Tensor:
    """Mean of |F(x) - F(y)| / max(|F(x)|, |F(y)|) over the coefficients of the 2-D DFT; 0 to 2.

    Examples:
        >>> x = torch.ones(1, 3, 8, 8)
        >>> float(fft_loss(x, x)), round(float(fft_loss(x, 2 * x)) * 8 * 5, 3)  # 1/2 in one of 8 x 5 coefficients
        (0.0, 0.5)
    """
    return _relative(torch.fft.rfft2(_wide(image)), torch.fft.rfft2(_wide(target)))


def dct_loss(image: Tensor, target: Tensor) -> Tensor:
    """``fft_loss`` with the 2-D DCT-II in place of the DFT."""
    return _relative(dct2(_wide(image)), dct2(_wide(target)))


@lru_cache(maxsize=16)
def _dct_matrix(size: int) -> Tensor:
    k, n = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)[None]
    # In float64 and cached by size: patches of one training have one size, and the matrix is exact to the last bit.
    matrix = torch.cos(math.pi * (2 * n + 1) * k / (2 * size)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def dct2(x: Tensor) -> Tensor:
    """Orthonormal 2-D DCT-II over the last two axes.

    Examples:
        >>> dct2(torch.ones(2, 2)).round().abs().tolist()  # orthonormal: all of the energy in the constant
        [[2.0, 0.0], [0.0, 0.0]]
    """
    rows, columns = (_dct_matrix(n).to(x) for n in x.shape[-2:])
    return rows @ x @ columns.T


def power_spectrum(image: Tensor) -> Tensor:
    """Azimuthal average of |F|^2 of the channels' mean.

    Args:
        image: [N, C, H, W].

    Returns:
        [N, K] with K = min(H, W) // 2 + 1: bin k averages the frequencies that round to k / min(H, W) cycles per pixel.

    Examples:
        >>> power_spectrum(torch.ones(1, 3, 8, 8)).shape
        torch.Size([1, 5])
    """
    height, width = image.shape[-2:]
    side = min(height, width)
    power = torch.fft.fft2(image.mean(1)).abs().square()
    fy = torch.fft.fftfreq(height, device=image.device)[:, None]
    fx = torch.fft.fftfreq(width, device=image.device)[None]
    # Frequencies are in cycles per pixel on both axes, so that a circle is a circle on images that are not square.
    radius = ((fy.square() + fx.square()).sqrt() * side).round().long().flatten()
    bins = side // 2 + 1
    inside = radius < bins
    total = torch.zeros(len(image), bins, dtype=power.dtype, device=image.device)
    total = total.index_add(1, radius[inside], power.flatten(1)[:, inside])
    return total / torch.bincount(radius[inside], minlength=bins)


def spectral_loss(image: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy between the 1-D power spectra, each divided by its value at frequency zero.

    Durall et al. 2020, https://arxiv.org/abs/2003.01826, equation 5.
    """
    mine, theirs = (s / s[:, :1].clamp_min(TINY) for s in (power_spectrum(_wide(image)), power_spectrum(_wide(target))))
    # A cross-entropy wants values inside 0..1; where the mean is near zero, other bins exceed that of frequency zero.
    mine, theirs = mine[:, 1:].clamp(TINY, 1 - 1e-6), theirs[:, 1:].clamp(0, 1)
    return -(theirs * mine.log() + (1 - theirs) * (1 - mine).log()).mean()


def focal_frequency_loss(image: Tensor, target: Tensor, alpha: float = 1.0) -> Tensor:
    """Squared spectral distance, weighted by its own size: mean of w |F(x) - F(y)|^2, w = |F(x) - F(y)|^alpha / max.

    Jiang et al. 2021, https://arxiv.org/abs/2012.12821, equations 7 to 9; orthonormal DFT; w has no gradient.
    """
    distance = (torch.fft.fft2(_wide(image), norm="ortho") - torch.fft.fft2(_wide(target), norm="ortho")).abs()
    # Without a gradient: else the loss would fall by flattening the weight rather than the distance.
    weight = distance.detach() ** alpha
    weight = weight / weight.amax((-2, -1), keepdim=True).clamp_min(TINY)
    loss: Tensor = (weight * distance.square()).mean()
    return loss


def frequency_discrepancy(image: Tensor, target: Tensor) -> Tensor:
    """Log-spectral distance in dB between the 1-D power spectra, frequency zero left out.

    sqrt(mean((10 log10(P_x / P_y))^2)) over the bins, then the mean over the batch; 0 for equal spectra.
    """
    mine, theirs = power_spectrum(image.double())[:, 1:], power_spectrum(target.double())[:, 1:]
    ratio = 10 * torch.log10(mine.clamp_min(TINY) / theirs.clamp_min(TINY))
    # Not the root of a mean: its slope at equal spectra is infinite, that of a norm is defined as 0.
    score: Tensor = torch.linalg.vector_norm(ratio, dim=1).mean() / math.sqrt(ratio.shape[1])
    return score


FREQUENCY_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "fft": fft_loss,
    "dct": dct_loss,
    "spectral": spectral_loss,
    "focal": focal_frequency_loss,
    "log": frequency_discrepancy,
}
