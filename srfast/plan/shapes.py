"""Sizes of the activations of a plan: what each node makes of the shapes it reads, and which pixels it reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from torch import Tensor

from srfast.plan.nodes import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Concat,
    Conv,
    GroupNorm,
    InstanceNorm,
    Multiply,
    Node,
    PixelNorm,
    Pool,
    Resize,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
)

Ratio: TypeAlias = int | Fraction  # an int wherever it is whole


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
    if isinstance(node, Slice):
        if node.first < 0 or node.count < 1 or node.first + node.count > source.channels:
            raise ValueError(f"{node.output!r} takes {node.count} channels from {node.first} on of {source.channels}")
        return Shape(node.count, source.scale)
    if isinstance(node, Shuffle):
        if source.channels % node.factor**2:
            raise ValueError(f"{node.output!r} shuffles {source.channels} channels by {node.factor}")
        return Shape(source.channels // node.factor**2, ratio(source.scale * node.factor))
    if isinstance(node, Unshuffle):
        return Shape(source.channels * node.factor**2, ratio(Fraction(source.scale) / node.factor))
    if isinstance(node, Pool):
        return Shape(source.channels, ratio(Fraction(source.scale) / node.factor))
    if isinstance(node, Resize):
        return Shape(source.channels, ratio(source.scale * Fraction(node.factor)))
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
    if isinstance(node, GroupNorm) and (node.groups < 1 or channels % node.groups):
        raise ValueError(f"{node.output!r} has {node.groups} groups of {channels} channels")
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
        return [(math.floor(low / Fraction(node.factor)) - reach, math.ceil(high / Fraction(node.factor)) + reach)]
    return [span for _ in node.inputs]


def multiply_adds(node: Node, shapes: dict[str, Shape]) -> Ratio:
    """Multiply-adds of the convolutions of a node, per input pixel."""
    if isinstance(node, (Conv, SpatialGate)):
        return ratio(node.weight.numel() * shapes[node.input].scale ** 2)
    return 0


def _vectors(node: Node) -> list[Tensor]:
    if isinstance(node, (Affine, InstanceNorm, PixelNorm, GroupNorm)):
        return [node.scale, node.shift]
    if isinstance(node, Activate) and node.slope is not None:
        return [node.slope]
    return []
