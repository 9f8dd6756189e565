"""Perceptual losses on a local backbone: VGG content, LPIPS, DISTS. Images are [N, 3, H, W] in 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.errors import CheckpointError, MissingDependencyError
from srfast.training.backbones import Backbone, phi


class ContentLoss(nn.Module):
    """Mean squared distance of VGG features phi(i,j) (Ledig et al. 2017, https://arxiv.org/abs/1609.04802, equation 5).

    Args:
        backbone: VGG16 or VGG19.
        layers: i and j of each layer, the j-th convolution, after its activation, before the i-th max pooling: (5, 4) as
            published, for VGG19; (5, 3, 2, 2) is the sum over two layers, for VGG16.
        gain: factor on the features; the paper's 1/12.75, which brings the loss to the size of the MSE.

    Raises:
        ValueError: the backbone has no such layer.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[int], gain: float = 1 / 12.75) -> None:
        super().__init__()
        self.backbone, self.gain = backbone, gain
        if not layers or len(layers) % 2:
            raise ValueError(f"layers are pairs of i and j as (5, 4) or (5, 3, 2, 2), not {tuple(layers)}")
        self.taps = tuple(sorted(phi(backbone.kind, i, j) for i, j in zip(layers[::2], layers[1::2], strict=True)))

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Sum over the layers, each a mean over its features."""
        mine = self.backbone.taps(self.backbone.normalise(image), self.taps)
        with torch.no_grad():
            theirs = self.backbone.taps(self.backbone.normalise(target), self.taps)
        distances = [F.mse_loss(a * self.gain, b * self.gain) for a, b in zip(mine, theirs, strict=True)]
        return torch.stack(distances).sum()


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity, v0.1 (Zhang et al. 2018, https://arxiv.org/abs/1801.03924, equation 1).

    Args:
        backbone: VGG16 or AlexNet.
        heads: file of the linear heads, keys ``lin{k}.model.1.weight``; by default the ones in torchmetrics.

    Raises:
        CheckpointError: the file is missing or does not fit the backbone.
    """

    TAPS = {"vgg16": (3, 8, 15, 22, 29), "alex": (1, 4, 7, 9, 11)}  # noqa: RUF012
    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone, heads: str | Path | None = None) -> None:
        super().__init__()
        if backbone.kind not in self.TAPS:
            raise ValueError(f"LPIPS takes a vgg16 or an alex backbone, not {backbone.kind}")
        self.backbone, self.taps = backbone, self.TAPS[backbone.kind]
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        name = {"vgg16": "vgg"}.get(backbone.kind, backbone.kind)
        heads = Path(heads) if heads else _torchmetrics_file(f"lpips_models/{name}.pth")
        if not heads.is_file():
            raise CheckpointError(
                f"the LPIPS heads are missing at {heads}; the packages lpips and torchmetrics carry them"
            )
        state = torch.load(heads, map_location="cpu", weights_only=True)
        weights = [state.get(f"lin{k}.model.1.weight") for k in range(len(self.taps))]
        widths = [int(layer.out_channels) for i, layer in enumerate(backbone.features) if i + 1 in self.taps]  # type: ignore[arg-type]
        if any(w is None or w.shape != (1, n, 1, 1) for w, n in zip(weights, widths, strict=True)):
            raise CheckpointError(f"{heads} does not hold the LPIPS heads of {backbone.kind}")
        self.heads = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in weights)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Mean over the batch."""
        return self.each(image, target).mean()

    def each(self, image: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair, [N]."""
        features = [self.backbone.taps((2 * x - 1 - self.shift) / self.scale, self.taps) for x in (image, target)]
        total = torch.zeros(len(image), device=image.device)
        for mine, theirs, head in zip(*features, self.heads, strict=True):
            distance = (_unit(mine) - _unit(theirs)).square()
            total = total + F.conv2d(distance, head).mean((1, 2, 3))
        return total


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()


class DISTS(nn.Module):
    """Deep image structure and texture similarity (Ding et al. 2020, https://arxiv.org/abs/2004.07728, equations 4 to 6).

    1 - sum over channels of (alpha * similarity of means + beta * similarity of structure), on VGG16 with every max pooling
    replaced by the root of a Hann-weighted mean of squares.

    Args:
        backbone: VGG16.
        weights: file of ``alpha`` and ``beta``, each with 1475 values; by default the one in torchmetrics.

    Raises:
        CheckpointError: the file is missing.
    """

    WIDTHS = (3, 64, 128, 256, 512, 512)
    STAGES = ((0, 4), (5, 9), (10, 16), (17, 23), (24, 30))
    alpha: Tensor
    beta: Tensor
    window: Tensor

    def __init__(self, backbone: Backbone, weights: str | Path | None = None) -> None:
        super().__init__()
        if backbone.kind != "vgg16":
            raise ValueError(f"DISTS takes a vgg16 backbone, not {backbone.kind}")
        self.backbone = backbone
        path = Path(weights) if weights else _torchmetrics_file("dists_models/weights.pt")
        if not path.is_file():
            raise CheckpointError(f"the weights of DISTS are missing at {path}; the package torchmetrics carries them")
        state = torch.load(path, map_location="cpu", weights_only=True)
        total = state["alpha"].sum() + state["beta"].sum()
        for name in ("alpha", "beta"):
            self.register_buffer(name, (state[name].detach() / total).view(1, sum(self.WIDTHS)))
        hann = torch.tensor([0.5, 1.0, 0.5])
        self.register_buffer("window", (torch.outer(hann, hann) / 4).view(1, 1, 3, 3))

    def _features(self, image: Tensor) -> list[Tensor]:
        out, x = [image], self.backbone.normalise(image)
        for index, (first, end) in enumerate(self.STAGES):
            if index:
                window = self.window.expand(x.shape[1], 1, 3, 3)
                x = (F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()
            x = self.backbone.features[first:end](x)
            out.append(x)
        return out

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Mean over the batch."""
        return self.each(image, target).mean()

    def each(self, image: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair, [N]."""
        means, structures = [], []
        for x, y in zip(self._features(image), self._features(target), strict=True):
            mean_x, mean_y = x.mean((2, 3)), y.mean((2, 3))
            var_x, var_y = x.var((2, 3), correction=0), y.var((2, 3), correction=0)
            covariance = (x * y).mean((2, 3)) - mean_x * mean_y
            means.append((2 * mean_x * mean_y + 1e-6) / (mean_x.square() + mean_y.square() + 1e-6))
            structures.append((2 * covariance + 1e-6) / (var_x + var_y + 1e-6))
        return 1 - (self.alpha * torch.cat(means, 1) + self.beta * torch.cat(structures, 1)).sum(1)


def _torchmetrics_file(name: str) -> Path:
    """A data file that torchmetrics ships."""
    try:
        import torchmetrics.functional.image as package
    except ImportError as error:
        raise MissingDependencyError("torchmetrics is not installed: pip install 'srfast[train]'") from error
    return Path(str(package.__file__)).parent / name
