"""What every operation of a plan says of itself, and what several of them say alike.

What only an operation can know stands on its class, and has no default that could be wrong in silence: the shape of its
result, which pixels it reads (from which halos of tiles follow), its work, and whether it looks at the whole image. A
class that leaves one of them out cannot be instantiated. The operations themselves are in ``nodes``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from srfast.plan.shapes import Ratio, Shape, Span


@dataclass(frozen=True, eq=False)
class Node(ABC):
    """An operation that writes the activation ``output`` from ``input``, and from others where its class says so.

    Attributes:
        sees_whole_image: every output pixel depends on the whole image, so that no tile of it gives the exact result.
    """

    output: str
    input: str

    sees_whole_image: ClassVar[bool]  # without a default: each kind of operation says it

    @property
    def inputs(self) -> tuple[str, ...]:
        """The activations that the operation reads, ``input`` first."""
        return (self.input,)

    @abstractmethod
    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Return the shape of the result.

        Args:
            shapes: of the inputs, by name.

        Raises:
            ValueError: the operation does not fit its inputs; the message names the activation.
        """

    @abstractmethod
    def reads(self, span: Span, block: int = 1) -> list[Span]:
        """Return, for each of ``inputs``, the pixels that the output's pixels ``span`` depend on, along one side.

        Args:
            span: first pixel, and one past the last.
            block: side of the squares that a convolution computes at once; all pixels that a square reads count.
        """

    @abstractmethod
    def multiply_adds(self, shapes: Mapping[str, Shape]) -> Ratio:
        """Count the multiply-adds of convolutions per pixel of the plan's input."""


@dataclass(frozen=True, eq=False)
class PixelByPixel(Node):
    """An operation whose output pixel depends on the same pixel of its inputs, and that keeps the input's shape."""

    sees_whole_image: ClassVar[bool] = False

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return shapes[self.input]

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        return [span for _ in self.inputs]

    def multiply_adds(self, shapes: Mapping[str, Shape]) -> Ratio:
        return 0


@dataclass(frozen=True, eq=False)
class OfTwo(PixelByPixel):
    """An operation on two activations."""

    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)


@dataclass(frozen=True, eq=False)
class Resampling(Node):
    """An operation that changes the number of pixels by ``factor`` and multiplies nothing."""

    factor: int

    sees_whole_image: ClassVar[bool] = False

    def multiply_adds(self, shapes: Mapping[str, Shape]) -> Ratio:
        return 0
