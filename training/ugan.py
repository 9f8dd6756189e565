"""SR-UGAN: the U-Net generator against a discriminator that also names the class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.training.data import Batch
from srfast.training.discriminators import ClassDiscriminator
from srfast.training.frechet import frechet_distance
from srfast.training.systems import GanSystem, Terms


class UGANSystem(GanSystem):
    """L_P = MSE + content + 1e-3 adversarial for the generator; validity + class cross-entropy for the discriminator.

    The class cross-entropy is the mean of that on real and that on generated images (ACGAN, Odena et al. 2017,
    https://arxiv.org/abs/1610.09585).
    """

    def build_discriminator(self) -> nn.Module:
        """Return the discriminator of SR-UGAN, with fresh weights."""
        return ClassDiscriminator(self.classes, self.config.colours, self.config.discriminator_channels)

    def validity(self, image: Tensor) -> Tensor:
        assert self.discriminator is not None
        logits: Tensor = self.discriminator(image)[0]
        return logits.float()

    def discriminator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        assert self.discriminator is not None
        validities, labels = zip(*(self.discriminator(x) for x in (batch.hr, fake)), strict=True)
        terms = self.validity_terms(batch, fake, *(v.float() for v in validities))
        # In float32: the logarithm of a softmax in bfloat16 loses what tells two likely classes apart.
        entropy = torch.stack([F.cross_entropy(logits.float(), batch.label) for logits in labels]).mean()
        terms["class"] = self.config.class_weight * entropy
        return terms


@torch.no_grad()
def frechet_against_interpolation(
    generator: nn.Module, batches: Sequence[Batch], features: nn.Module | Path
) -> dict[str, float]:
    """Frechet distance to the HR images of nearest, bilinear and bicubic enlargements and of the generator's; see ``frechet``."""
    scale = batches[0].hr.shape[-1] // batches[0].lr.shape[-1]
    enlarge: dict[str, Callable[[Tensor], Tensor]] = {
        "nearest": lambda x: F.interpolate(x, scale_factor=scale, mode="nearest"),
        "bilinear": lambda x: F.interpolate(x, scale_factor=scale, mode="bilinear"),
        "bicubic": lambda x: F.interpolate(x, scale_factor=scale, mode="bicubic"),
        "generator": generator.eval(),
    }
    real = [b.hr for b in batches]
    return {
        name: frechet_distance(real, [method(b.lr).clamp(0, 1) for b in batches], features)
        for name, method in enlarge.items()
    }
