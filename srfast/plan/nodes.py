"""The operations of a plan: frozen dataclasses that name the activations they read and the one they write."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Act = Literal["none", "prelu", "tanh", "sigmoid"]
ResizeMode = Literal["nearest", "bilinear", "bicubic"]
PoolKind = Literal["average", "max"]


@dataclass(frozen=True, eq=False)
class Conv:
    """``y = clamp(shuffle(act(conv(x) + bias)) * gain + residual)``; stride 1, zero padding k // 2.

    Attributes:
        input: the activation x, or the first of the activations whose channels in a row are x.
        weight: [O, C, k, k], k odd; C counts the channels of ``input`` and of ``more``.
        bias: [O].
        slope: of the PReLU, [1] or [O]; ReLU is slope 0.
        shuffle: pixel-shuffle factor r; the output has O / (r * r) channels.
        residual: activation of the output's shape, added after the gain.
        clamp: lower and upper bound of the output.
        more: further activations of the size of ``input`` whose channels follow its own, as in a dense block; nobody has to
            copy them together.
    """

    output: str
    input: str
    weight: Tensor
    bias: Tensor
    act: Act = "none"
    slope: Tensor | None = None
    shuffle: int = 1
    gain: float = 1.0
    residual: str | None = None
    clamp: tuple[float, float] | None = None
    more: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The activations whose channels the weights run over, in order."""
        return (self.input, *self.more)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.sources if self.residual is None else (*self.sources, self.residual)

    @property
    def kernel(self) -> int:
        return self.weight.shape[-1]

    @property
    def bare(self) -> bool:
        """Nothing but convolution and bias."""
        return self.act == "none" and self.shuffle == 1 and self.gain == 1.0 and not self.residual and not self.clamp


@dataclass(frozen=True, eq=False)
class _Unary:
    output: str
    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Affine(_Unary):
    """``y = scale * x + shift`` per channel ([1] or [C]): batch normalisation, value ranges, constant gains."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True, eq=False)
class Activate(_Unary):
    """An activation that no convolution has absorbed; ``slope`` as in ``Conv``. No convolution absorbs silu, gelu or mish."""

    act: Act | Literal["silu", "gelu", "mish"]
    slope: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Shuffle(_Unary):
    """Pixel shuffle: [N, C * r * r, H, W] -> [N, C, r * H, r * W]."""

    factor: int


@dataclass(frozen=True, eq=False)
class Unshuffle(_Unary):
    """Its inverse: [N, C, r * H, r * W] -> [N, C * r * r, H, W]."""

    factor: int


@dataclass(frozen=True, eq=False)
class Pool(_Unary):
    """Mean or largest value of each ``factor`` x ``factor`` square."""

    factor: int
    kind: PoolKind


@dataclass(frozen=True, eq=False)
class Add(_Unary):
    """Sum of two activations of one shape."""

    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)


@dataclass(frozen=True, eq=False)
class Multiply(_Unary):
    """Product of two activations of one shape, or of one with an ``other`` of one channel."""

    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)


@dataclass(frozen=True, eq=False)
class Concat(_Unary):
    """The channels of ``input`` and of ``more`` in a row; only what is not read by a convolution stays in a plan."""

    more: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, *self.more)


@dataclass(frozen=True, eq=False)
class Slice(_Unary):
    """``count`` channels from ``first`` on."""

    first: int
    count: int


@dataclass(frozen=True, eq=False)
class PixelNorm(_Unary):
    """``y = scale * (x - mean) / sqrt(variance + eps) + shift`` with the moments over the channels of each pixel."""

    scale: Tensor
    shift: Tensor
    eps: float


@dataclass(frozen=True, eq=False)
class GroupNorm(_Unary):
    """The same with the moments of ``groups`` groups of channels over each image (https://arxiv.org/abs/1803.08494)."""

    scale: Tensor
    shift: Tensor
    eps: float
    groups: int


@dataclass(frozen=True, eq=False)
class Clamp(_Unary):
    """Limits every value to ``low``..``high``."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resize(_Unary):
    """Resizes as ``torch.nn.functional.interpolate`` does (align_corners=False, no antialiasing).

    ``factor`` is whole, or a fraction of small numbers where the mode is not nearest.
    """

    factor: int | Fraction
    mode: ResizeMode


@dataclass(frozen=True, eq=False)
class InstanceNorm(_Unary):
    """``y = scale * (x - mean) / sqrt(variance + eps) + shift`` with the moments of each channel of each image."""

    scale: Tensor
    shift: Tensor
    eps: float


@dataclass(frozen=True, eq=False)
class ChannelGate(_Unary):
    """Squeeze-excitation (Hu et al. 2018, https://arxiv.org/abs/1709.01507): ``y = x * g``, one gain per channel.

    ``g = sigmoid(expand @ act(squeeze @ mean(x) + squeeze_bias) + expand_bias)``, the mean over the whole image.

    Attributes:
        inset: rows and columns that the mean leaves out, at the top and left, and at the bottom and right: those that the
            network itself does not have, as its convolutions are not padded.
        squeeze: [M, C]; squeeze_bias: [M].
        expand: [C, M]; expand_bias: [C].
        slope: of the PReLU between, [1] or [M].
    """

    squeeze: Tensor
    squeeze_bias: Tensor
    expand: Tensor
    expand_bias: Tensor
    slope: Tensor
    inset: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class SpatialGate(_Unary):
    """Spatial attention (Woo et al. 2018, https://arxiv.org/abs/1807.06521): ``y = x * g``, one gain per pixel.

    ``g = sigmoid(conv([mean over channels, max over channels]) + bias)``.

    Attributes:
        weight: [1, 2, k, k], k odd, zero padding k // 2; bias: [1].
    """

    weight: Tensor
    bias: Tensor


Node: TypeAlias = (
    Conv
    | Affine
    | Activate
    | Shuffle
    | Unshuffle
    | Pool
    | Add
    | Multiply
    | Concat
    | Slice
    | PixelNorm
    | GroupNorm
    | Clamp
    | Resize
    | InstanceNorm
    | ChannelGate
    | SpatialGate
)

# Nodes whose every output pixel depends on the whole image.
GLOBAL_NODES = (InstanceNorm, GroupNorm, ChannelGate)


def describe(node: Node) -> str:
    """The operation in a few words."""
    if not isinstance(node, Conv):
        hidden = ("input", "output", "other", "more")
        details = [
            str(v) for k, v in vars(node).items() if isinstance(v, (int, float, str, Fraction)) and k not in hidden
        ]
        return " ".join([type(node).__name__.lower(), *details])
    parts = [f"conv {node.kernel}x{node.kernel}"]
    if node.act != "none":
        per_channel = node.slope is not None and node.slope.numel() > 1
        parts.append(node.act + ("/channel" if per_channel else ""))
    parts += [f"shuffle {node.shuffle}"] if node.shuffle > 1 else []
    parts += [f"gain {node.gain:g}"] if node.gain != 1 else []
    parts += ["+residual"] if node.residual else []
    parts += [f"clamp {node.clamp[0]:g}..{node.clamp[1]:g}"] if node.clamp else []
    return " ".join(parts)


def tensors(node: Node) -> dict[str, Tensor]:
    """Weights, biases, slopes, scales and shifts by field name."""
    return {name: value for name, value in vars(node).items() if isinstance(value, torch.Tensor)}
