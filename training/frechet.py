"""Frechet distance between two sets of images, through torchmetrics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from srfast.errors import CheckpointError, MissingDependencyError
from srfast.training.backbones import Backbone


@torch.no_grad()
def frechet_distance(real: Iterable[Tensor], fake: Iterable[Tensor], features: nn.Module | Path) -> float:
    """FID (Heusel et al. 2017, https://arxiv.org/abs/1706.08500), or the same with other features.

    Args:
        real, fake: batches [N, C, H, W] in 0..1.
        features: a module [N, C, H, W] -> [N, d], or the file of the Inception weights of torch-fidelity
            (pt_inception-2015-12-05-6726825d.pth), with which the number is the FID of the literature.

    Raises:
        CheckpointError: the file is missing.
        MissingDependencyError: torchmetrics or torch-fidelity is missing.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        if isinstance(features, Path):
            if not features.is_file():
                raise CheckpointError(
                    f"the Inception weights are missing at {features}: torch-fidelity publishes them; "
                    "without them, give a module of your own as features"
                )
            metric = FrechetInceptionDistance(feature_extractor_weights_path=str(features), normalize=True)
        else:
            metric = FrechetInceptionDistance(feature=features, normalize=True)
    except ImportError as error:
        raise MissingDependencyError(f"FID needs torchmetrics, and torch-fidelity for Inception: {error}") from error
    for batches, is_real in ((real, True), (fake, False)):
        for batch in batches:
            metric.update(batch, real=is_real)
    return float(metric.compute())


class Features(nn.Module):
    """Makes the ``features`` of a classifier the network's result.

    Args:
        classifier: has ``features`` and ``num_features``.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.num_features = int(classifier.num_features)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier.features(x)  # type: ignore[operator]
        return out


class VGGFeatures(nn.Module):
    """Means over the image of VGG16's last activation, relu5_3, as 512 features.

    Args:
        backbone: VGG16.

    Raises:
        ValueError: another backbone.
    """

    num_features = 512

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        if backbone.kind != "vgg16":
            raise ValueError(f"these features are VGG16's, not those of {backbone.kind}")
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] in 0..1 -> [N, 512]."""
        return self.backbone.taps(self.backbone.normalise(x), (29,))[0].mean((2, 3))
