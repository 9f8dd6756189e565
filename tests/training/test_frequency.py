"""Frequency losses against NumPy, SciPy's definition of the DCT and spectra known by hand; gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from srfast.training.frequency import (
    FREQUENCY_LOSSES,
    dct2,
    dct_loss,
    fft_loss,
    focal_frequency_loss,
    frequency_discrepancy,
    power_spectrum,
    spectral_loss,
)

SIZES = [(1, 1), (7, 5), (8, 12), (13, 13)]


def pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(height * 100 + width)
    return torch.rand(2, 3, height, width, dtype=torch.float64), torch.rand(2, 3, height, width, dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_fft_loss_equals_numpy(size: tuple[int, int]) -> None:
    x, y = pair(*size)
    a, b = (np.fft.rfft2(t.numpy()) for t in (x, y))
    expected = np.mean(np.abs(a - b) / np.maximum(np.abs(a), np.abs(b)))
    assert fft_loss(x, y).item() == pytest.approx(expected, rel=1e-9)


def test_fft_loss_by_hand() -> None:
    """A constant against twice that: |c - 2c| / 2c = 1/2 at frequency zero, 0 elsewhere (3 of 4 coefficients are 0)."""
    x = torch.ones(1, 1, 2, 2)
    assert fft_loss(x, 2 * x).item() == pytest.approx(0.5 / 4)
    assert fft_loss(x, -x).item() == pytest.approx(2 / 4)
    assert fft_loss(x, x).item() == 0


@pytest.mark.parametrize("size", SIZES)
def test_dct_is_the_definition(size: tuple[int, int]) -> None:
    x, y = pair(*size)

    def definition(image: np.ndarray) -> np.ndarray:
        out = image
        for axis in (-2, -1):
            n = out.shape[axis]
            k = np.arange(n)
            basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * n))
            basis *= np.where(k == 0, math.sqrt(1 / n), math.sqrt(2 / n))[:, None]
            out = np.moveaxis(np.tensordot(out, basis, axes=([axis], [1])), -1, axis)
        return out

    np.testing.assert_allclose(dct2(x).numpy(), definition(x.numpy()), atol=1e-12)
    a, b = definition(x.numpy()), definition(y.numpy())
    expected = np.mean(np.abs(a - b) / np.maximum(np.abs(a), np.abs(b)))
    assert dct_loss(x, y).item() == pytest.approx(expected, rel=1e-3)


def test_power_spectrum_of_a_wave() -> None:
    """A cosine of 3 periods has its power in bin 3 only; the spectrum of noise is the mean of its ring."""
    wave = torch.cos(2 * math.pi * 3 * torch.arange(16, dtype=torch.float64) / 16).expand(1, 1, 16, 16)
    spectrum = power_spectrum(wave)[0]
    assert spectrum.shape == (9,)
    assert spectrum.argmax() == 3
    assert spectrum.sum() == pytest.approx(spectrum[3].item())
    noise = pair(9, 9)[0]
    power = np.abs(np.fft.fft2(noise[0].mean(0).numpy())) ** 2
    f = np.fft.fftfreq(9) * 9
    ring = np.rint(np.hypot(f[:, None], f[None])) == 2
    assert power_spectrum(noise)[0, 2].item() == pytest.approx(power[ring].mean())


def test_spectral_loss_is_cross_entropy() -> None:
    x, y = pair(8, 8)
    p, q = (s / s[:, :1] for s in (power_spectrum(x), power_spectrum(y)))
    expected = torch.nn.functional.binary_cross_entropy(p[:, 1:], q[:, 1:])
    assert spectral_loss(x, y).item() == pytest.approx(expected.item(), rel=1e-4)
    assert spectral_loss(y, y) < spectral_loss(x, y)


def test_focal_frequency_loss_equals_numpy() -> None:
    x, y = pair(7, 5)
    distance = np.abs(np.fft.fft2((x - y).numpy(), norm="ortho"))
    weight = distance / distance.max(axis=(-2, -1), keepdims=True)
    assert focal_frequency_loss(x, y).item() == pytest.approx(np.mean(weight * distance**2), rel=1e-5)


def test_discrepancy_by_hand() -> None:
    """Twice the amplitude is four times the power at every frequency: 10 log10(4) dB."""
    x, y = pair(12, 9)
    assert frequency_discrepancy(2 * x, x).item() == pytest.approx(10 * math.log10(4))
    assert frequency_discrepancy(y, y).item() == 0
    assert frequency_discrepancy(x, y).item() == pytest.approx(frequency_discrepancy(y, x).item())


@pytest.mark.parametrize("name", FREQUENCY_LOSSES)
@pytest.mark.parametrize("flat", [False, True])
def test_equal_images_have_a_finite_gradient(name: str, flat: bool) -> None:
    """Of images that are equal, and of black ones."""
    x = torch.zeros(2, 3, 8, 8) if flat else pair(8, 8)[0].float()
    image = x.clone().requires_grad_(True)
    loss = FREQUENCY_LOSSES[name](image, x)
    (gradient,) = torch.autograd.grad(loss, image)
    assert loss.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", FREQUENCY_LOSSES)
@pytest.mark.parametrize("size", SIZES[1:])
def test_gradient_is_the_slope(name: str, size: tuple[int, int]) -> None:
    """Along the gradient the loss changes by the gradient's norm."""
    x, y = pair(*size)
    x.requires_grad_(True)
    loss = FREQUENCY_LOSSES[name]
    (gradient,) = torch.autograd.grad(loss(x, y), x)
    direction = gradient / gradient.norm()
    step = 1e-6
    if name == "focal":  # its weight is a constant by definition
        weight = torch.fft.fft2(x - y, norm="ortho").abs().detach()
        weight = weight / weight.amax((-2, -1), keepdim=True)
        slope = torch.autograd.grad((weight * torch.fft.fft2(x - y, norm="ortho").abs().square()).mean(), x)[0]
        torch.testing.assert_close(gradient, slope, rtol=1e-3, atol=1e-7)
        return
    change = (loss(x.detach() + step * direction, y) - loss(x.detach() - step * direction, y)).item() / (2 * step)
    assert gradient.isfinite().all()
    assert change == pytest.approx(gradient.norm().item(), rel=1e-4)
