"""Sizes of activations, and ranges of pixels along one side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

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
