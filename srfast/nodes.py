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
Ratio: TypeAlias = int | Fraction  # an int wherever it is whole


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
    """An activation that no convolution has absorbed; ``slope`` as in ``Conv``. No convolution absorbs silu or gelu."""

    act: Act | Literal["silu", "gelu"]
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
class Clamp(_Unary):
    """Limits every value to ``low``..``high``."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resize(_Unary):
    """Enlarges by a whole factor as ``torch.nn.functional.interpolate`` does (align_corners=False)."""

    factor: int
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
        squeeze: [M, C]; squeeze_bias: [M].
        expand: [C, M]; expand_bias: [C].
        slope: of the PReLU between, [1] or [M].
    """

    squeeze: Tensor
    squeeze_bias: Tensor
    expand: Tensor
    expand_bias: Tensor
    slope: Tensor


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
    | Clamp
    | Resize
    | InstanceNorm
    | ChannelGate
    | SpatialGate
)

# Nodes whose every output pixel depends on the whole image.
GLOBAL_NODES = (InstanceNorm, ChannelGate)


@dataclass(frozen=True)
class Shape:
    """Channels of an activation, and its pixels per input pixel along one side (a fraction below a pool)."""

    channels: int
    scale: Ratio


def ratio(value: Ratio) -> Ratio:
    """An int where the value is whole."""
    return int(value) if Fraction(value).denominator == 1 else Fraction(value)


# Input pixels that an output phase of the resize reads beyond its own, on each side.
_RESIZE_REACH: dict[str, int] = {"nearest": 0, "bilinear": 1, "bicubic": 2}

Span: TypeAlias = tuple[Ratio, Ratio]


def shape_of(node: Node, shapes: dict[str, Shape]) -> Shape:
    """Shape of what the node writes.

    Raises:
        ValueError: the node does not fit its inputs.
    """
    source = shapes[node.input]
    if isinstance(node, Conv):
        return _conv_shape(node, shapes)
    if isinstance(node, Concat):
        return Shape(_joined(node.output, node.inputs, shapes), source.scale)
    if isinstance(node, Shuffle):
        if source.channels % node.factor**2:
            raise ValueError(f"{node.output!r} shuffles {source.channels} channels by {node.factor}")
        return Shape(source.channels // node.factor**2, ratio(source.scale * node.factor))
    if isinstance(node, Unshuffle):
        return Shape(source.channels * node.factor**2, ratio(Fraction(source.scale) / node.factor))
    if isinstance(node, Pool):
        return Shape(source.channels, ratio(Fraction(source.scale) / node.factor))
    if isinstance(node, Resize):
        return Shape(source.channels, ratio(source.scale * node.factor))
    _check_same_shape(node, shapes)
    return source


def _check_same_shape(node: Node, shapes: dict[str, Shape]) -> None:
    source = shapes[node.input]
    channels = source.channels
    if isinstance(node, Add) and shapes[node.other] != source:
        raise ValueError(f"{node.output!r} adds {source} and {shapes[node.other]}")
    if isinstance(node, Multiply) and shapes[node.other] not in (source, Shape(1, source.scale)):
        raise ValueError(f"{node.output!r} multiplies {source} and {shapes[node.other]}")
    if isinstance(node, ChannelGate):
        middle = node.squeeze.shape[0]
        given = [list(t.shape) for t in (node.squeeze, node.squeeze_bias, node.expand, node.expand_bias)]
        if given != [[middle, channels], [middle], [channels, middle], [channels]] or node.slope.numel() not in (
            1,
            middle,
        ):
            raise ValueError(f"{node.output!r} gates {channels} channels by weights of {given}")
    if isinstance(node, SpatialGate):
        kernel = node.weight.shape[-1]
        if list(node.weight.shape) != [1, 2, kernel, kernel] or kernel % 2 == 0 or node.bias.numel() != 1:
            raise ValueError(
                f"{node.output!r} gates pixels by a weight of {list(node.weight.shape)}, not [1, 2, k, k], k odd"
            )
    for values in _vectors(node):
        if values.ndim != 1 or values.numel() not in (1, channels):
            raise ValueError(f"{node.output!r} has {list(values.shape)} values for {channels} channels")


def _joined(name: str, sources: tuple[str, ...], shapes: dict[str, Shape]) -> int:
    """Channels of several activations of one size in a row."""
    scales = {shapes[source].scale for source in sources}
    if len(scales) > 1:
        raise ValueError(
            f"{name!r} reads activations of different sizes: {', '.join(str(s) for s in scales)} per input pixel"
        )
    return sum(shapes[source].channels for source in sources)


def _conv_shape(node: Conv, shapes: dict[str, Shape]) -> Shape:
    source = shapes[node.input]
    out, channels, kernel, width = node.weight.shape
    given = _joined(node.output, node.sources, shapes)
    if channels != given or kernel != width or kernel % 2 == 0 or node.bias.shape != (out,):
        raise ValueError(
            f"{node.output!r}: weight {list(node.weight.shape)} and bias {list(node.bias.shape)} on {given} channels"
        )
    if node.act == "prelu" and (node.slope is None or node.slope.shape not in ((1,), (out,))):
        raise ValueError(f"{node.output!r}: a PReLU of {out} channels needs 1 or {out} slopes")
    if out % node.shuffle**2:
        raise ValueError(f"{node.output!r} shuffles {out} channels by {node.shuffle}")
    shape = Shape(out // node.shuffle**2, ratio(source.scale * node.shuffle))
    if node.residual is not None and shapes[node.residual] != shape:
        raise ValueError(f"{node.output!r} of {shape} adds the residual {node.residual!r} of {shapes[node.residual]}")
    return shape


def reads(node: Node, span: Span, block: int = 1) -> list[Span]:
    """Pixels of each input that the output's pixels ``span`` (first, one past last) depend on, in one direction.

    ``block`` is the side of the squares that a convolution computes at once.
    """
    low, high = span
    if isinstance(node, Conv):
        half = node.kernel // 2
        step = node.shuffle * block
        source = (low // step * block - half, -(-high // step) * block + half)
        return [source] * len(node.sources) + ([] if node.residual is None else [span])
    if isinstance(node, Shuffle):
        return [(low // node.factor, -(-high // node.factor))]
    if isinstance(node, (Unshuffle, Pool)):
        return [(low * node.factor, high * node.factor)]
    if isinstance(node, SpatialGate):
        half = node.weight.shape[-1] // 2
        return [(low - half, high + half)]
    if isinstance(node, Resize):
        reach = _RESIZE_REACH[node.mode]
        return [(low // node.factor - reach, -(-high // node.factor) + reach)]
    return [span for _ in node.inputs]


def multiply_adds(node: Node, shapes: dict[str, Shape]) -> Ratio:
    """Multiply-adds of the convolutions of a node, per input pixel."""
    if isinstance(node, (Conv, SpatialGate)):
        return ratio(node.weight.numel() * shapes[node.input].scale ** 2)
    return 0


def describe(node: Node) -> str:
    """The operation in a few words."""
    if not isinstance(node, Conv):
        hidden = ("input", "output", "other", "more")
        details = [str(v) for k, v in vars(node).items() if isinstance(v, (int, float, str)) and k not in hidden]
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


def _vectors(node: Node) -> list[Tensor]:
    if isinstance(node, (Affine, InstanceNorm)):
        return [node.scale, node.shift]
    if isinstance(node, Activate) and node.slope is not None:
        return [node.slope]
    return []
