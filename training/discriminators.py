"""Discriminators, and the classifier of the digits. All give logits; the sigmoid is in the losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.models.residual import normalisation

SLOPE = 0.2


def _stack(in_channels: int, widths: tuple[int, ...], norm: str) -> nn.Sequential:
    """For each width a 3x3 convolution of stride 1 and one of stride 2, LeakyReLU; the very first has no normalisation."""
    layers: list[nn.Module] = []
    channels = in_channels
    for width in widths:
        for stride in (1, 2):
            first = not layers
            # A normalisation subtracts the mean, and a bias before it with it.
            bias = first or norm == "none"
            layers.append(nn.Conv2d(channels, width, 3, stride, 1, bias=bias))
            layers.append(nn.Identity() if first else normalisation(norm, width))
            layers.append(nn.LeakyReLU(SLOPE))
            channels = width
    return nn.Sequential(*layers)


class SRGANDiscriminator(nn.Module):
    """Eight 3x3 convolutions from ``channels`` to 8 times that, half of them strided, dense 1024, dense 1.

    Ledig et al. 2017, https://arxiv.org/abs/1609.04802, figure 4.

    Args:
        size: side of the square images; the dense layer fixes it.
        channels: of the first convolution, 64 in the paper.
        norm: "batch" as published, or "none" where a gradient penalty looks at each image alone.
        dense: width of the hidden dense layer.
    """

    def __init__(self, size: int = 96, channels: int = 64, norm: str = "batch", dense: int = 1024) -> None:
        super().__init__()
        self.size = size
        self.features = _stack(3, (channels, 2 * channels, 4 * channels, 8 * channels), norm)
        # Four convolutions of stride 2, each of which rounds up.
        side = -(-size // 16)
        self.head = nn.Sequential(nn.Linear(8 * channels * side**2, dense), nn.LeakyReLU(SLOPE), nn.Linear(dense, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, size, size] -> logits [N].

        Raises:
            ValueError: another size.
        """
        if x.shape[-2:] != (self.size, self.size):
            raise ValueError(
                f"this discriminator takes {self.size}x{self.size} images, not {x.shape[-2]}x{x.shape[-1]}"
            )
        return self.head(self.features(x).flatten(1)).squeeze(1)  # type: ignore[no-any-return]


class DigitDiscriminator(nn.Module):
    """Convolutions only: three strided steps, a 3x3 convolution to one logit for each place, their mean; any size."""

    def __init__(self, in_channels: int = 1, channels: int = 32) -> None:
        super().__init__()
        self.features = _stack(in_channels, (channels, 2 * channels, 4 * channels), "batch")
        self.last = nn.Conv2d(4 * channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> logits [N]."""
        return self.last(self.features(x)).mean((1, 2, 3))  # type: ignore[no-any-return]


class ClassDiscriminator(nn.Module):
    """A validity head and a class head on shared convolutions (ACGAN: Odena et al. 2017, https://arxiv.org/abs/1610.09585).

    Args:
        classes: number of labels.
        in_channels: colour planes.
        channels: of the first convolution.
    """

    def __init__(self, classes: int, in_channels: int = 3, channels: int = 64) -> None:
        super().__init__()
        self.features = _stack(in_channels, (channels, 2 * channels, 4 * channels, 8 * channels), "batch")
        self.validity = nn.Linear(8 * channels, 1)
        self.label = nn.Linear(8 * channels, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, in_channels, H, W] of any size -> validity logits [N], class logits [N, classes]."""
        features = self.features(x).mean((2, 3))
        return self.validity(features).squeeze(1), self.label(features)


class DigitClassifier(nn.Module):
    """A small convolutional classifier of digits; ``features`` also serve a Frechet distance.

    Args:
        in_channels: colour planes.
        classes: number of labels.
    """

    num_features = 128

    def __init__(self, in_channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.conv3 = nn.Conv2d(64, 64, 3, padding=1)
        self.dense = nn.Linear(64 * 9, self.num_features)
        self.last = nn.Linear(self.num_features, classes)

    def features(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] in 0..1 -> [N, 128]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        # To 3x3 whatever the size of the image: digits come as 28x28 and as their enlargements.
        x = F.adaptive_max_pool2d(F.relu(self.conv3(x)), 3)
        return F.relu(self.dense(torch.flatten(x, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] in 0..1 -> logits [N, classes]."""
        return self.last(F.dropout(self.features(x), 0.25, self.training))  # type: ignore[no-any-return]
