"""Adversarial losses against values worked out by hand, and their gradients against finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from srfast.training.adversarial import KINDS, discriminator_loss, generator_loss, gradient_penalty


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# real = [3, 1], fake = [-1, 0]. Means 2 and -0.5; against the other's mean: real [3.5, 1.5], fake [-3, -2].
# The middle of both means is 0.75: real [2.25, 0.25], fake [-1.75, -0.75].
BY_HAND = {
    "standard": (
        (softplus(-3) + softplus(-1)) / 2 + (softplus(-1) + softplus(0)) / 2,
        (softplus(1) + softplus(0)) / 2,
    ),
    "ragan": (
        (softplus(-3.5) + softplus(-1.5)) / 2 + (softplus(-3) + softplus(-2)) / 2,
        (softplus(3.5) + softplus(1.5)) / 2 + (softplus(3) + softplus(2)) / 2,
    ),
    "rahinge": (0.0, (4.5 + 2.5) / 2 + (4 + 3) / 2),
    "rals": ((2.5**2 + 0.5**2) / 2 + (2**2 + 1) / 2, (4.5**2 + 2.5**2) / 2 + (4**2 + 3**2) / 2),
    "rcgan": (
        (softplus(-2.25) + softplus(-0.25)) / 2 + (softplus(-1.75) + softplus(-0.75)) / 2,
        (softplus(2.25) + softplus(0.25)) / 2 + (softplus(1.75) + softplus(0.75)) / 2,
    ),
    "rchinge": (0.75 / 2 + 0.25 / 2, (3.25 + 1.25) / 2 + (2.75 + 1.75) / 2),
    "rcls": (
        (1.25**2 + 0.75**2) / 2 + (0.75**2 + 0.25**2) / 2,
        (3.25**2 + 1.25**2) / 2 + (2.75**2 + 1.75**2) / 2,
    ),
}
BY_HAND["ragp"] = BY_HAND["ragan"]


def test_every_kind_is_here() -> None:
    assert set(BY_HAND) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_values_by_hand(kind: str) -> None:
    real, fake = torch.tensor([3.0, 1.0]).double(), torch.tensor([-1.0, 0.0]).double()
    for_d, for_g = BY_HAND[kind]
    assert discriminator_loss(kind, real, fake).item() == pytest.approx(for_d, abs=1e-12)
    assert generator_loss(kind, real, fake).item() == pytest.approx(for_g, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    torch.manual_seed(0)
    real, fake = (torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda r, f: discriminator_loss(kind, r, f), (real, fake))
    assert torch.autograd.gradcheck(lambda r, f: generator_loss(kind, r, f), (real, fake))


@pytest.mark.parametrize("kind", KINDS)
def test_large_logits_stay_finite(kind: str) -> None:
    real, fake = torch.tensor([1e4]), torch.tensor([-1e4])
    assert generator_loss(kind, real, fake).isfinite()
    assert discriminator_loss(kind, fake, real).isfinite()


def test_gradient_penalty_of_a_linear_discriminator() -> None:
    """The gradient of sum(w * x) is w at every point: the penalty is (|w| - 1)^2."""
    weight = torch.arange(12, dtype=torch.float64).view(1, 3, 2, 2).requires_grad_(True)
    real, fake, mix = torch.rand(4, 3, 2, 2).double(), torch.rand(4, 3, 2, 2).double(), torch.rand(4).double()
    penalty = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), real, fake, mix)
    norm = math.sqrt(sum(k * k for k in range(12)))
    assert penalty.item() == pytest.approx((norm - 1) ** 2)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * (norm - 1) * weight.detach() / norm)


def test_gradient_penalty_looks_at_points_between() -> None:
    """With D = x^2 / 2 the gradient is the point itself: 0.25 * 4 + 0.75 * 8 = 7, and (7 - 1)^2."""
    real, fake = torch.full((1, 1, 1, 1), 4.0), torch.full((1, 1, 1, 1), 8.0)
    penalty = gradient_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, real, fake, torch.tensor([0.25]))
    assert penalty.item() == pytest.approx(36)


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="one of standard"):
        discriminator_loss("wasserstein", torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match="real logits"):
        generator_loss("ragan", None, torch.zeros(1))
