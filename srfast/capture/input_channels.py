"""Channels of the input image, from what the nodes of a plan ask of the activations that they read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from srfast.plan.nodes import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Concat,
    Conv,
    GroupNorm,
    InstanceNorm,
    Node,
    PixelNorm,
    Shuffle,
    Slice,
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


def possible_channels(nodes: list[Node], name: str) -> tuple[int, ...]:
    """The one number of channels of the input ``name`` that the nodes ask for; else those to try, the likeliest first."""
    channels = {name: _Channels(Fraction(1), Fraction(0))}
    for node in nodes:
        for given, asked in _demands(node, channels):
            if given.share:
                found = (asked - given.fixed) / given.share
                return (int(found),) if found.denominator == 1 and found > 0 else _USUAL
        channels[node.output] = _written(node, channels)
    return _USUAL


def _demands(node: Node, channels: dict[str, _Channels]) -> Iterator[tuple[_Channels, int]]:
    """Channels that the node reads, and how many these must be."""
    given = channels[node.input]
    if isinstance(node, Conv):
        yield given, node.weight.shape[1]
    elif isinstance(node, ChannelGate):
        yield given, node.squeeze.shape[1]
    elif isinstance(node, Add):
        yield given + channels[node.other] * -1, 0
    elif isinstance(node, (Affine, Activate, InstanceNorm, PixelNorm, GroupNorm)):
        for values in tensors(node).values():
            if values.numel() > 1:
                yield given, values.numel()


def _written(node: Node, channels: dict[str, _Channels]) -> _Channels:
    given = channels[node.input]
    if isinstance(node, Conv):
        return _Channels(Fraction(0), Fraction(node.weight.shape[0], node.shuffle**2))
    if isinstance(node, Slice):
        return _Channels(Fraction(0), Fraction(node.count))
    if isinstance(node, Concat):
        return sum((channels[name] for name in node.more), given)
    if isinstance(node, Shuffle):
        return given * Fraction(1, node.factor**2)
    return given * (node.factor**2 if isinstance(node, Unshuffle) else 1)
