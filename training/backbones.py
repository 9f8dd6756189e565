"""Classification networks as feature extractors, from a local file in torchvision's key layout; torchvision is not needed."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from srfast.errors import CheckpointError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Convolutions of each block; a 2x2 max pooling ends the block.
VGG_BLOCKS = {
    "vgg16": ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}
KINDS = (*VGG_BLOCKS, "alex")


def _vgg(kind: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for block in VGG_BLOCKS[kind]:
        for width in block:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


def _alexnet() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )


def phi(kind: str, block: int, conv: int) -> int:
    """Layer of VGG's phi(block, conv): after the activation of that convolution, before the block-th max pooling.

    Examples:
        >>> phi("vgg16", 1, 1), phi("vgg19", 5, 4)
        (1, 35)
    """
    # A block is two layers for each convolution, then the pooling; the paper counts blocks and convolutions from 1.
    blocks = VGG_BLOCKS.get(kind, ())
    if not 1 <= block <= len(blocks) or not 1 <= conv <= len(blocks[block - 1]):
        raise ValueError(f"{kind} has no phi({block},{conv})")
    return sum(2 * len(b) + 1 for b in blocks[: block - 1]) + 2 * conv - 1


class Backbone(nn.Module):
    """The convolutions of VGG16, VGG19 or AlexNet, frozen, in eval mode.

    Args:
        kind: one of ``KINDS``.
        source: a file of torchvision's state_dict (.pth or .safetensors), or "random" for fixed random weights, which
            are of use for tests and as an untrained yardstick only.

    Raises:
        CheckpointError: the file is missing or of another network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, kind: str, source: str | Path) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"a backbone is one of {', '.join(KINDS)}, not {kind!r}")
        self.kind = kind
        self.features = _alexnet() if kind == "alex" else _vgg(kind)
        # Not persistent: the file has no such key, and the state must be what the file holds.
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        if str(source) == "random":
            _randomise(self.features)
        else:
            self._load(Path(source))
        self.requires_grad_(False).eval()

    @classmethod
    def vgg(cls, source: str | Path) -> Backbone:
        """VGG19 if the file has its 16 convolutions, VGG16 otherwise (and for "random").

        Raises:
            CheckpointError: the file is missing or of another network.
        """
        path = Path(source)
        deep = str(source) != "random" and path.is_file() and "features.34.weight" in _read(path)
        return cls("vgg19" if deep else "vgg16", source)

    def _load(self, path: Path) -> None:
        name = {"alex": "alexnet"}.get(self.kind, self.kind)
        if not path.is_file():
            raise CheckpointError(
                f"the {self.kind} backbone is missing at {path}: where torchvision is installed, "
                f"torch.save(torchvision.models.{name}(weights='DEFAULT').state_dict(), FILE), and give that file"
            )
        # The classifier's dense layers, most of the file, are not needed for features.
        state = {k: v for k, v in _read(path).items() if k.startswith("features.")}
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(
                f"{path} is not torchvision's {name}: {' '.join(str(error).split())[:200]}"
            ) from error

    def train(self, mode: bool = True) -> Backbone:
        """Stays in eval mode."""
        return super().train(False)

    def normalise(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] or [N, 1, H, W] in 0..1 -> [N, 3, H, W] as in training on ImageNet."""
        return (image - self.mean) / self.std

    def taps(self, x: Tensor, indices: tuple[int, ...]) -> list[Tensor]:
        """Outputs of the layers ``indices`` (ascending) for a normalised image.

        Raises:
            ValueError: nothing is left of the image before the last of them.
        """
        out = []
        height, width = x.shape[-2:]
        for index, layer in enumerate(list(self.features)[: indices[-1] + 1]):
            # Asked before each layer: PyTorch's own message names neither the image nor the network.
            if min(x.shape[-2:]) < _needed(layer):
                raise ValueError(
                    f"{width}x{height} pixels are too few for the layers of {self.kind}; give larger images"
                )
            x = layer(x)
            if index in indices:
                out.append(x)
        return out


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors of a file by name.

    Raises:
        CheckpointError: not such a file.
    """
    try:
        state = (
            safetensors.torch.load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except Exception as error:  # a damaged pickle can fail anywhere in the unpickler
        raise CheckpointError(f"{path} cannot be read as a backbone: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} is not a state_dict of tensors as torchvision's")
    return state


def _needed(layer: nn.Module) -> int:
    """Rows and columns that a layer's kernel needs."""
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size[0] - 2 * int(layer.padding[0])
    return layer.kernel_size if isinstance(layer, nn.MaxPool2d) and isinstance(layer.kernel_size, int) else 1


def _randomise(features: nn.Sequential, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
            with torch.no_grad():
                layer.weight.normal_(0.0, (2 / fan_in) ** 0.5, generator=generator)
                assert layer.bias is not None
                layer.bias.zero_()
