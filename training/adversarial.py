"""Adversarial losses: the standard one, the relativistic average and the relativistic centred families, gradient penalty.

Notation: ``real`` and ``fake`` are logits of the discriminator (any shape), D the sigmoid of a logit.

Sources: Goodfellow et al. 2014 (https://arxiv.org/abs/1406.2661, with the non-saturating -log D for the generator);
relativistic average: Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734); relativistic centred:
Jolicoeur-Martineau 2019 (https://arxiv.org/abs/1901.02474); gradient penalty: Gulrajani et al. 2017
(https://arxiv.org/abs/1704.00028).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

KINDS = ("standard", "ragan", "rahinge", "rals", "rcgan", "rchinge", "rcls", "ragp")


def _compare(kind: str, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Logits relative to the others: to their mean (Ra), or to the middle between both means (Rc)."""
    if kind.startswith("ra"):
        # "More real than the average fake": the gradient of the real images reaches the generator too.
        return real - fake.mean(), fake - real.mean()
    middle = (real.mean() + fake.mean()) / 2
    return real - middle, fake - middle


def _penalise(kind: str, positive: Tensor, negative: Tensor) -> Tensor:
    """Small where ``positive`` is large and ``negative`` is small."""
    if kind.endswith("hinge"):  # max(0, 1 - a) and max(0, 1 + b)
        return F.relu(1 - positive).mean() + F.relu(1 + negative).mean()
    if kind.endswith("ls"):  # (a - 1)^2 and (b + 1)^2
        return (positive - 1).square().mean() + (negative + 1).square().mean()
    return F.softplus(-positive).mean() + F.softplus(negative).mean()  # -log D(a) and -log(1 - D(b))


def _check(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"an adversarial loss is one of {', '.join(KINDS)}, not {kind!r}")


def discriminator_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the discriminator, without the gradient penalty of ``ragp``.

    Raises:
        ValueError: ``kind`` is not one of ``KINDS``.

    Examples:
        >>> real, fake = torch.tensor([2.0]), torch.tensor([-2.0])
        >>> float(discriminator_loss("rahinge", real, fake))  # both sides are beyond the margin
        0.0
    """
    _check(kind)
    if kind != "standard":
        real, fake = _compare(kind, real, fake)
    return _penalise(kind, real, fake)


def generator_loss(kind: str, real: Tensor | None, fake: Tensor) -> Tensor:
    """Adversarial loss of the generator; the relativistic kinds look at ``real`` too, with the roles exchanged.

    Raises:
        ValueError: ``kind`` is not one of ``KINDS``, or is relativistic and ``real`` is None.

    Examples:
        >>> round(float(generator_loss("standard", None, torch.tensor([0.0]))), 4)  # -log(1/2)
        0.6931
    """
    _check(kind)
    if kind == "standard":
        return F.softplus(-fake).mean()
    if real is None:
        raise ValueError(f"{kind} compares with real logits: pass them")
    real, fake = _compare(kind, real, fake)
    return _penalise(kind, fake, real)


def gradient_penalty(discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E[(|grad D(x)| - 1)^2] at points x between real and generated images; differentiable in the discriminator.

    Args:
        discriminator: [N, C, H, W] -> logits [N].
        real, fake: [N, C, H, W].
        mix: [N] in 0..1, the share of ``real`` in each point.
    """
    share = mix.view(-1, 1, 1, 1)
    # The penalty is taken on lines between real and generated images, where the theory wants a slope of 1.
    points = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_(True)
    # The sum over the batch has each image's own gradient in it, as images do not meet in the discriminator.
    (gradient,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty
