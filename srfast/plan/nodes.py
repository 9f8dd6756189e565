"""The operations of a plan: frozen dataclasses that name the activations they read and the one they write.

What each has to say of itself is declared in ``base``. What a backend or a file format makes of an operation stands in a table
there, each complete by ``tests/plan/test_tables.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from srfast.plan.base import Node, OfTwo, PixelByPixel, Resampling
from srfast.plan.shapes import Ratio, Shape, Span, joined_channels, ratio, shuffled, with_vectors

Act = Literal["none", "prelu", "tanh", "sigmoid", "silu", "gelu", "mish"]
ResizeMode = Literal["nearest", "bilinear", "bicubic"]
PoolKind = Literal["average", "max"]
GateMoment = Literal["mean", "contrast"]
GateCurve = Literal["sigmoid", "hardsigmoid"]

# Input pixels that an output phase of the resize reads beyond its own, on each side.
_RESIZE_REACH: dict[ResizeMode, int] = {"nearest": 0, "bilinear": 1, "bicubic": 2}


@dataclass(frozen=True, eq=False)
class Conv(Node):
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

    weight: Tensor
    bias: Tensor
    act: Act = "none"
    slope: Tensor | None = None
    shuffle: int = 1
    gain: float = 1.0
    residual: str | None = None
    clamp: tuple[float, float] | None = None
    more: tuple[str, ...] = ()

    sees_whole_image: ClassVar[bool] = False

    @property
    def sources(self) -> tuple[str, ...]:
        """The activations whose channels the weights run over, in order."""
        return (self.input, *self.more)

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.sources if self.residual is None else (*self.sources, self.residual)

    @property
    def kernel(self) -> int:
        """Side of the kernel in pixels."""
        return self.weight.shape[-1]

    @property
    def bare(self) -> bool:
        """Whether the node is nothing but convolution and bias."""
        return self.act == "none" and self.shuffle == 1 and self.gain == 1.0 and not self.residual and not self.clamp

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        out, channels, kernel, width = self.weight.shape
        given = joined_channels(self.output, self.sources, shapes)
        if channels != given or kernel != width or kernel % 2 == 0 or self.bias.shape != (out,):
            raise ValueError(
                f"{self.output!r}: weight {list(self.weight.shape)} and bias {list(self.bias.shape)} on {given} channels"
            )
        if self.act == "prelu" and (self.slope is None or self.slope.shape not in ((1,), (out,))):
            raise ValueError(f"{self.output!r}: a PReLU of {out} channels needs 1 or {out} slopes")
        shape = shuffled(self.output, shapes[self.input], out, self.shuffle)
        if self.residual is not None and shapes[self.residual] != shape:
            raise ValueError(
                f"{self.output!r} of {shape} adds the residual {self.residual!r} of {shapes[self.residual]}"
            )
        return shape

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        low, high = span
        half, step = self.kernel // 2, self.shuffle * block
        source = (low // step * block - half, -(-high // step) * block + half)
        return [source] * len(self.sources) + ([] if self.residual is None else [span])

    def multiply_adds(self, shapes: Mapping[str, Shape]) -> Ratio:
        return ratio(self.weight.numel() * shapes[self.input].scale ** 2)


@dataclass(frozen=True, eq=False)
class Depthwise(Node):
    """``y = act(conv(x) + bias)``, each channel with a kernel of its own; stride 1, zero padding k // 2.

    Attributes:
        weight: [C, 1, k, k], k odd.
        bias: [C].
        act, slope: as in ``Conv``.
    """

    weight: Tensor
    bias: Tensor
    act: Act = "none"
    slope: Tensor | None = None

    sees_whole_image: ClassVar[bool] = False

    @property
    def kernel(self) -> int:
        """Side of the kernel in pixels."""
        return self.weight.shape[-1]

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        source, kernel = shapes[self.input], self.kernel
        if list(self.weight.shape) != [source.channels, 1, kernel, kernel] or kernel % 2 == 0:
            raise ValueError(
                f"{self.output!r}: depthwise weight {list(self.weight.shape)} on {source.channels} channels"
            )
        if self.bias.shape != (source.channels,):
            raise ValueError(f"{self.output!r} has {list(self.bias.shape)} biases for {source.channels} channels")
        if (self.act == "prelu") != (self.slope is not None):
            raise ValueError(f"{self.output!r}: a PReLU has slopes, and nothing else has")
        return with_vectors(self.output, source, *(() if self.slope is None else (self.slope,)))

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        half = self.kernel // 2
        return [(span[0] - half, span[1] + half)]

    def multiply_adds(self, shapes: Mapping[str, Shape]) -> Ratio:
        return ratio(self.weight.numel() * shapes[self.input].scale ** 2)

    def dense(self) -> Conv:
        """Return the same as a convolution with zeros between the channels, for kernels that have no groups."""
        rows = torch.arange(len(self.bias), device=self.weight.device)
        weight = self.weight.new_zeros(len(self.bias), *self.weight.shape[:1], self.kernel, self.kernel)
        weight[rows, rows] = self.weight[:, 0]
        return Conv(self.output, self.input, weight, self.bias, self.act, self.slope)


@dataclass(frozen=True, eq=False)
class Affine(PixelByPixel):
    """``y = scale * x + shift`` per channel ([1] or [C]): batch normalisation, value ranges, constant gains."""

    scale: Tensor
    shift: Tensor

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return with_vectors(self.output, shapes[self.input], self.scale, self.shift)


@dataclass(frozen=True, eq=False)
class Activate(PixelByPixel):
    """An activation that no convolution has absorbed; ``slope`` as in ``Conv``."""

    act: Act
    slope: Tensor | None = None

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return with_vectors(self.output, shapes[self.input], *(() if self.slope is None else (self.slope,)))


@dataclass(frozen=True, eq=False)
class Clamp(PixelByPixel):
    """Limits every value to ``low``..``high``."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Add(OfTwo):
    """Sum of two activations of one shape."""

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        if shapes[self.other] != shapes[self.input]:
            raise ValueError(f"{self.output!r} adds {shapes[self.input]} and {shapes[self.other]}")
        return shapes[self.input]


@dataclass(frozen=True, eq=False)
class Multiply(OfTwo):
    """Product of two activations of one shape, or of one with an ``other`` of one channel."""

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        source = shapes[self.input]
        if shapes[self.other] not in (source, Shape(1, source.scale)):
            raise ValueError(f"{self.output!r} multiplies {source} and {shapes[self.other]}")
        return source


@dataclass(frozen=True, eq=False)
class Concat(PixelByPixel):
    """The channels of ``input`` and of ``more`` in a row; only what is not read by a convolution stays in a plan."""

    more: tuple[str, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, *self.more)

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return Shape(joined_channels(self.output, self.inputs, shapes), shapes[self.input].scale)


@dataclass(frozen=True, eq=False)
class Slice(PixelByPixel):
    """``count`` channels from ``first`` on."""

    first: int
    count: int

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        source = shapes[self.input]
        if self.first < 0 or self.count < 1 or self.first + self.count > source.channels:
            raise ValueError(f"{self.output!r} takes {self.count} channels from {self.first} on of {source.channels}")
        return Shape(self.count, source.scale)


@dataclass(frozen=True, eq=False)
class PixelNorm(PixelByPixel):
    """``y = scale * (x - mean) / sqrt(variance + eps) + shift`` with the moments over the channels of each pixel.

    Attributes:
        centred: False divides by the root of the mean square alone, ``y = scale * x / (sqrt(mean of x * x) + eps) + shift``.
    """

    scale: Tensor
    shift: Tensor
    eps: float
    centred: bool = True

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return with_vectors(self.output, shapes[self.input], self.scale, self.shift)


@dataclass(frozen=True, eq=False)
class GroupNorm(PixelByPixel):
    """The same with the moments of ``groups`` groups of channels over each image (https://arxiv.org/abs/1803.08494)."""

    scale: Tensor
    shift: Tensor
    eps: float
    groups: int

    sees_whole_image: ClassVar[bool] = True

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        channels = shapes[self.input].channels
        if self.groups < 1 or channels % self.groups:
            raise ValueError(f"{self.output!r} has {self.groups} groups of {channels} channels")
        return with_vectors(self.output, shapes[self.input], self.scale, self.shift)


@dataclass(frozen=True, eq=False)
class Shuffle(Resampling):
    """Pixel shuffle: [N, C * r * r, H, W] -> [N, C, r * H, r * W]."""

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return shuffled(self.output, shapes[self.input], shapes[self.input].channels, self.factor)

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        return [(span[0] // self.factor, -(-span[1] // self.factor))]  # rounded outwards


@dataclass(frozen=True, eq=False)
class Unshuffle(Resampling):
    """Its inverse: [N, C, r * H, r * W] -> [N, C * r * r, H, W]."""

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        source = shapes[self.input]
        return source.enlarged(Fraction(1, self.factor), source.channels * self.factor**2)

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        return [(span[0] * self.factor, span[1] * self.factor)]


@dataclass(frozen=True, eq=False)
class Pool(Resampling):
    """Mean or largest value of each ``factor`` x ``factor`` square."""

    kind: PoolKind

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        source = shapes[self.input]
        return source.enlarged(Fraction(1, self.factor), source.channels)

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        return [(span[0] * self.factor, span[1] * self.factor)]


@dataclass(frozen=True, eq=False)
class Resize(PixelByPixel):
    """Resizes as ``torch.nn.functional.interpolate`` does (align_corners=False, no antialiasing).

    ``factor`` is whole, or a fraction of small numbers where the mode is not nearest.
    """

    factor: int | Fraction
    mode: ResizeMode

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        source = shapes[self.input]
        return source.enlarged(Fraction(self.factor), source.channels)

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        factor, reach = Fraction(self.factor), _RESIZE_REACH[self.mode]
        return [(math.floor(span[0] / factor) - reach, math.ceil(span[1] / factor) + reach)]


@dataclass(frozen=True, eq=False)
class InstanceNorm(PixelByPixel):
    """``y = scale * (x - mean) / sqrt(variance + eps) + shift`` with the moments of each channel of each image."""

    scale: Tensor
    shift: Tensor
    eps: float

    sees_whole_image: ClassVar[bool] = True

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return with_vectors(self.output, shapes[self.input], self.scale, self.shift)


@dataclass(frozen=True, eq=False)
class ChannelGate(PixelByPixel):
    """Squeeze-excitation (Hu et al. 2018, https://arxiv.org/abs/1709.01507): ``y = x * g``, one gain per channel.

    ``g = curve(expand @ prelu(squeeze @ moment(x) + squeeze_bias) + expand_bias)``, the moment over the whole image.

    Attributes:
        inset: rows and columns that the moment leaves out, at the top and left, and at the bottom and right: those that the
            network itself does not have, as its convolutions are not padded.
        squeeze: [M, C]; squeeze_bias: [M].
        expand: [C, M]; expand_bias: [C].
        slope: of the PReLU between, [1] or [M].
        moment: the mean of each channel, or its "contrast", the standard deviation plus the mean.
        curve: at the end.
    """

    squeeze: Tensor
    squeeze_bias: Tensor
    expand: Tensor
    expand_bias: Tensor
    slope: Tensor
    inset: tuple[int, int] = (0, 0)
    moment: GateMoment = "mean"
    curve: GateCurve = "sigmoid"

    sees_whole_image: ClassVar[bool] = True

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        channels, middle = shapes[self.input].channels, self.squeeze.shape[0]
        given = [list(t.shape) for t in (self.squeeze, self.squeeze_bias, self.expand, self.expand_bias)]
        wanted = [[middle, channels], [middle], [channels, middle], [channels]]
        if given != wanted or self.slope.numel() not in (1, middle):
            raise ValueError(f"{self.output!r} gates {channels} channels by weights of {given}")
        return shapes[self.input]


@dataclass(frozen=True, eq=False)
class SpatialGate(Node):
    """Spatial attention (Woo et al. 2018, https://arxiv.org/abs/1807.06521): ``y = x * g``, one gain per pixel.

    ``g = sigmoid(conv([mean over channels, max over channels]) + bias)``.

    Attributes:
        weight: [1, 2, k, k], k odd, zero padding k // 2; bias: [1].
    """

    weight: Tensor
    bias: Tensor

    sees_whole_image: ClassVar[bool] = False

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        kernel = self.weight.shape[-1]
        if list(self.weight.shape) != [1, 2, kernel, kernel] or kernel % 2 == 0 or self.bias.numel() != 1:
            raise ValueError(
                f"{self.output!r} gates pixels by a weight of {list(self.weight.shape)}, not [1, 2, k, k], k odd"
            )
        return shapes[self.input]

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        half = self.weight.shape[-1] // 2
        return [(span[0] - half, span[1] + half)]

    def multiply_adds(self, shapes: Mapping[str, Shape]) -> Ratio:
        return ratio(self.weight.numel() * shapes[self.input].scale ** 2)


@dataclass(frozen=True, eq=False)
class Eager(Node):
    """What no other operation covers: a module that PyTorch runs as it is, on activations of the plan.

    Which pixels it reads is not known, so that no tile of it is exact. Its work is not known either and counts as none.

    Attributes:
        more: the activations that the module takes after ``input``.
        module: takes them as [N, C, H, W] tensors, leaves them as they are, and returns one.
        given: channels of the inputs.
        channels: of the result.
        factor: pixels of the result for each pixel of ``input`` along a side.
        what: the operations in a few words.
        digest: of the module's code and weights, by which plans are told apart.
    """

    more: tuple[str, ...]
    module: nn.Module
    given: tuple[int, ...]
    channels: int
    factor: Ratio
    what: str
    digest: str

    sees_whole_image: ClassVar[bool] = True

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, *self.more)

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        found = tuple(shapes[name].channels for name in self.inputs)
        if found != self.given:
            raise ValueError(f"{self.output!r} takes images of {self.given} channels, not {found}")
        return shapes[self.input].enlarged(self.factor, self.channels)

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        factor = Fraction(self.factor)
        return [(math.floor(span[0] / factor), math.ceil(span[1] / factor)) for _ in self.inputs]

    def multiply_adds(self, shapes: Mapping[str, Shape]) -> Ratio:
        return 0


def node_types() -> list[type[Node]]:
    """List every kind of operation that a plan can hold: the classes of this module."""
    # The list grows while it is walked, so that subclasses of subclasses come too. Those of other modules are mere bases.
    found: list[type[Node]] = [Node]  # type: ignore[type-abstract]  # only to ask for its subclasses
    for kind in found:
        found += kind.__subclasses__()
    return [kind for kind in found if kind.__module__ == __name__]


def describe(node: Node) -> str:
    """Return the operation in a few words."""
    if isinstance(node, Depthwise):
        act = [] if node.act == "none" else [node.act]
        return " ".join([f"depthwise {node.kernel}x{node.kernel}", *act])
    if not isinstance(node, Conv):
        hidden = ("input", "output", "other", "more")
        details = [
            (k if v else f"not {k}") if isinstance(v, bool) else str(v)
            for k, v in vars(node).items()
            if isinstance(v, (int, float, str, Fraction)) and k not in hidden
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
    """Return weights, biases, slopes, scales and shifts by field name."""
    return {name: value for name, value in vars(node).items() if isinstance(value, Tensor)}
