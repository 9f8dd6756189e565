"""SR-UGAN: the U-Net generator against a discriminator that also names the class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.training.data import Batch
from srfast.training.discriminators import ClassDiscriminator
from srfast.training.systems import GanSystem, Terms


class UGANSystem(GanSystem):
    """L_P = MSE + content + 1e-3 adversarial for the generator; validity + class cross-entropy for the discriminator.

    The class cross-entropy is the mean of that on real and that on generated images (ACGAN, Odena et al. 2017,
    https://arxiv.org/abs/1610.09585).
    """

    def build_discriminator(self) -> nn.Module:
        return ClassDiscriminator(self.classes, self.config.colours, self.config.discriminator_channels)

    def validity(self, image: Tensor) -> Tensor:
        assert self.discriminator is not None
        logits: Tensor = self.discriminator(image)[0]
        return logits.float()

    def discriminator_terms(self, batch: Batch, fake: Tensor) -> Terms:
        terms = super().discriminator_terms(batch, fake)
        assert self.discriminator is not None
        labels = [self.discriminator(x)[1].float() for x in (batch.hr, fake)]
        entropy = torch.stack([F.cross_entropy(logits, batch.label) for logits in labels]).mean()
        terms["class"] = self.config.class_weight * entropy
        return terms
