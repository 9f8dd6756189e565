"""Channels of the input image, from what the nodes of a plan ask of the activations that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import singledispatch

from srfast.plan.base import Node
from srfast.plan.nodes import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Clamp,
    Concat,
    Conv,
    Depthwise,
    Eager,
    GroupNorm,
    InstanceNorm,
    Multiply,
    PixelNorm,
    Pool,
    Resize,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
    tensors,
)

# RGB, then grey, then anything that fits: for networks that take images of any number of channels.
_USUAL = (3, 1, *range(2, 65))


@dataclass(frozen=True)
class _Channels:
    """``share`` times the channels of the input, and ``fixed`` more."""

    share: Fraction
    fixed: Fraction

    def __add__(self, other: _Channels) -> _Channels:
        return _Channels(self.share + other.share, self.fixed + other.fixed)

    def __mul__(self, factor: Fraction | int) -> _Channels:
        return _Channels(self.share * factor, self.fixed * factor)


_Known = Mapping[str, _Channels]


def possible_channels(nodes: list[Node], name: str) -> tuple[int, ...]:
    """Return the one number of channels of the input ``name`` that the nodes ask for; else those to try, likeliest first."""
    channels = {name: _Channels(Fraction(1), Fraction(0))}
    for node in nodes:
        asked, channels[node.output] = channels_of(node, channels)
        for given, count in asked:
            # The first node that fixes a number decides: two that disagree make no plan, which is found when it is
            # made.
            if given.share:
                found = (count - given.fixed) / given.share
                return (int(found),) if found.denominator == 1 and found > 0 else _USUAL
    return _USUAL


@singledispatch
def channels_of(node: Node, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    """Return the channels that a node reads with what their number must be, and the channels that it writes."""
    raise NotImplementedError(f"nobody has said how many channels a {type(node).__name__} takes")


@channels_of.register
def _(node: Conv, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    written = _Channels(Fraction(0), Fraction(node.weight.shape[0], node.shuffle**2))
    return [(known[node.input], node.weight.shape[1])], written


@channels_of.register
def _(node: Depthwise, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    return [(known[node.input], len(node.bias))], known[node.input]


@channels_of.register
def _(node: Eager, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    asked = [(known[name], count) for name, count in zip(node.inputs, node.given, strict=True)]
    return asked, _Channels(Fraction(0), Fraction(node.channels))


@channels_of.register(Affine)
@channels_of.register(Activate)
@channels_of.register(InstanceNorm)
@channels_of.register(PixelNorm)
@channels_of.register(GroupNorm)
def _(node: Node, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    """With vectors of a value for each channel."""
    given = known[node.input]
    return [(given, values.numel()) for values in tensors(node).values() if values.numel() > 1], given


@channels_of.register
def _(node: Add, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    # Both sides have as many channels: their difference, which is 0, tells the input's where only one side depends on it.
    return [(known[node.input] + known[node.other] * -1, 0)], known[node.input]


@channels_of.register
def _(node: ChannelGate, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    return [(known[node.input], node.squeeze.shape[1])], known[node.input]


@channels_of.register
def _(node: Concat, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    return [], sum((known[name] for name in node.more), known[node.input])


@channels_of.register
def _(node: Slice, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    return [], _Channels(Fraction(0), Fraction(node.count))


@channels_of.register
def _(node: Shuffle, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    return [], known[node.input] * Fraction(1, node.factor**2)


@channels_of.register
def _(node: Unshuffle, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    return [], known[node.input] * node.factor**2


@channels_of.register(Multiply)  # whose other factor may have one channel
@channels_of.register(Clamp)
@channels_of.register(Pool)
@channels_of.register(Resize)
@channels_of.register(SpatialGate)
def _(node: Node, known: _Known) -> tuple[list[tuple[_Channels, int]], _Channels]:
    """Any number of channels, and as many come out."""
    return [], known[node.input]
