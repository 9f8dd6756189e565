"""The networks of OpenCV's dnn_superres models, read from their frozen TensorFlow graphs. All take one channel, 0..1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.errors import CheckpointError
from srfast.images.arrays import Array
from srfast.opencv.tensorflow import TfNode, read_graph

_LEAK = 0.2  # LapSRN's slope: its graph spells it out as relu(x) - 0.2 relu(-x)


def _conv(weight: Array, bias: Array | None = None) -> nn.Conv2d:
    """A convolution with TensorFlow's SAME padding from a kernel [k, k, C, O].

    An even kernel has one more tap after the centre than before it: a leading row and column of zeros makes it odd.
    """
    if weight.ndim != 4 or weight.shape[0] != weight.shape[1]:
        raise CheckpointError(
            f"a convolution of the graph has a kernel of shape {list(weight.shape)}, not [k, k, C, O]"
        )
    if weight.shape[0] % 2 == 0:
        weight = np.pad(weight, ((1, 0), (1, 0), (0, 0), (0, 0)))
    kernel, _, channels, out = weight.shape
    conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2)
    values = np.zeros(out, np.float32) if bias is None else np.broadcast_to(bias, (out,)).copy()
    # TensorFlow has [k, k, C, O], PyTorch [O, C, k, k].
    conv.weight = nn.Parameter(torch.from_numpy(weight.transpose(3, 2, 0, 1).copy()))
    conv.bias = nn.Parameter(torch.from_numpy(values))
    return conv


def _prelu(slope: Array) -> nn.PReLU:
    act = nn.PReLU(slope.size)
    with torch.no_grad():
        act.weight.copy_(torch.from_numpy(slope.copy()))
    return act


def _weights(graph: dict[str, TfNode], *names: str) -> list[Array]:
    missing = [name for name in names if name not in graph]
    if missing:
        raise CheckpointError(f"the graph has no {', '.join(missing)}; is the file of another algorithm?")
    return [graph[name].value for name in names]


def espcn(graph: dict[str, TfNode], scale: int) -> nn.Sequential:
    """ESPCN: three convolutions, the shuffle, tanh."""
    f1, b1, f2, b2, f3, b3 = _weights(graph, "f1", "b1", "f2", "b2", "f3", "b3")
    _check_scale(f3.shape[3], scale)
    layers = [_conv(f1, b1), nn.ReLU(), _conv(f2, b2), nn.ReLU(), _conv(f3, b3), nn.PixelShuffle(scale), nn.Tanh()]
    return nn.Sequential(*layers)


def fsrcnn(graph: dict[str, TfNode], scale: int) -> nn.Sequential:
    """FSRCNN: seven convolutions with PReLU, the last and the shuffle."""
    layers: list[nn.Module] = []
    for i in range(1, 8):
        weight, bias, slope = _weights(graph, f"f{i}", f"b{i}", f"alpha{i}")
        layers += [_conv(weight, bias), _prelu(slope)]
    weight, bias = _weights(graph, "f8", "b8")
    _check_scale(weight.shape[3], scale)
    return nn.Sequential(*layers, _conv(weight, bias), nn.PixelShuffle(scale))


class LapSRN(nn.Module):
    """LapSRN up to one of its levels, each of which doubles the image and adds what the features say.

    Args:
        graph: with all levels.
        levels: 1 for x2, 2 for x4, 3 for x8.
    """

    def __init__(self, graph: dict[str, TfNode], levels: int) -> None:
        super().__init__()
        # TensorFlow numbers variables without names in the order of their making, across all levels.
        names = iter(["Variable", *(f"Variable_{i}" for i in range(1, 100))])
        self.features, self.images = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            first, bias = _weights(graph, f"0_{level}f", f"0_{level}bias")
            layers: list[nn.Module] = [_conv(first, bias), nn.LeakyReLU(_LEAK)]
            for i in range(1, 10):
                weight, bias = _weights(graph, next(names), f"{i}_{level}bias")
                layers += [_conv(weight, bias), nn.LeakyReLU(_LEAK)]
            # The graph calls them deconvolutions, but they are convolutions to four channels and a depth-to-space.
            up, image = (_deconvolution(graph, 2 * level + i) for i in (0, 1))
            self.features.append(nn.Sequential(*layers, _conv(up), nn.PixelShuffle(2), nn.LeakyReLU(_LEAK)))
            self.images.append(nn.Sequential(_conv(image), nn.PixelShuffle(2)))

    def forward(self, x: Tensor) -> Tensor:
        feature, image = x, x
        for features, images in zip(self.features, self.images, strict=True):
            feature = features(feature)
            image = F.leaky_relu(images(image) + feature, _LEAK)
        return image


def _deconvolution(graph: dict[str, TfNode], number: int) -> Array:
    return _weights(graph, "reconstruction_2_deconv_f" + (f"_{number}" if number else ""))[0]


def _check_scale(channels: int, scale: int) -> None:
    if channels != scale * scale:
        raise CheckpointError(
            f"the file's model enlarges x{round(channels**0.5)}, not x{scale}; give setModel its scale"
        )


def load(path: Path, algorithm: str, scale: int) -> nn.Module:
    """The network of a .pb file.

    Raises:
        CheckpointError: the file is none of that algorithm and scale.
    """
    graph = read_graph(path)
    if algorithm == "espcn":
        return espcn(graph, scale).eval()
    if algorithm == "fsrcnn":
        return fsrcnn(graph, scale).eval()
    if algorithm == "lapsrn":
        if scale not in (2, 4, 8):
            raise CheckpointError(f"LapSRN enlarges x2, x4 or x8, not x{scale}")
        return LapSRN(graph, scale.bit_length() - 1).eval()
    raise CheckpointError(f"{path}: {algorithm} is not read from .pb; give a .pth or .safetensors file of it")
