"""Sizes of activations, and ranges of pixels along one side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from torch import Tensor

Ratio: TypeAlias = int | Fraction  # an int wherever it is whole
# The first pixel and the one past the last, along one side of an activation.
Span: TypeAlias = tuple[Ratio, Ratio]


@dataclass(frozen=True)
class Shape:
    """Channels of an activation, and its pixels per input pixel along one side (a fraction below a pool)."""

    channels: int
    scale: Ratio

    def enlarged(self, factor: Ratio, channels: int) -> Shape:
        """Return the shape with ``factor`` times the pixels along a side, and other channels."""
        return Shape(channels, ratio(self.scale * factor))


def ratio(value: Ratio) -> Ratio:
    """Return an int where the value is whole."""
    return int(value) if Fraction(value).denominator == 1 else Fraction(value)


def joined_channels(name: str, sources: tuple[str, ...], shapes: Mapping[str, Shape]) -> int:
    """Count the channels of several activations of one size, put in a row for the node that writes ``name``.

    Raises:
        ValueError: the activations have different sizes.
    """
    scales = {shapes[source].scale for source in sources}
    if len(scales) > 1:
        raise ValueError(
            f"{name!r} reads activations of different sizes: {', '.join(str(s) for s in scales)} per input pixel"
        )
    return sum(shapes[source].channels for source in sources)


def shuffled(name: str, source: Shape, channels: int, factor: int) -> Shape:
    """Return the shape of ``channels`` at the pixels of ``source`` after a pixel shuffle."""
    if channels % factor**2:
        raise ValueError(f"{name!r} shuffles {channels} channels by {factor}")
    return source.enlarged(factor, channels // factor**2)


def with_vectors(name: str, source: Shape, *vectors: Tensor) -> Shape:
    """Return ``source`` if each vector has one value or one for each channel."""
    for values in vectors:
        if values.ndim != 1 or values.numel() not in (1, source.channels):
            raise ValueError(f"{name!r} has {list(values.shape)} values for {source.channels} channels")
    return source
