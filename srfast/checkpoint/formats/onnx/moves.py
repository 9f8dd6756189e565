"""Reshapes and transposes of an image, followed without touching a pixel: pixel (un)shuffle is recognised by what they do.

Every exporter writes another sequence of them. An image is followed as the strides of its axes, as they lie on the image that
they began with; where these are the strides that a pixel shuffle leaves, the sequence is one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from srfast.checkpoint.formats.graph import MAX_FACTOR
from srfast.errors import CheckpointError

Part: TypeAlias = tuple[int, int]  # stride on the original, and how many
_MAX_AXES = 8
_MAX_PIXELS = 1 << 40  # only counted


@dataclass(frozen=True)
class Moved:
    """The axes of an image of one size after moves; each is a row of parts, the outermost first.

    Examples:
        >>> blocks = Moved.of([1, 8, 3, 5]).reshaped([1, 2, 2, 2, 3, 5])
        >>> blocks.transposed([0, 1, 4, 2, 5, 3]).reshaped([1, 2, 6, 10]).kind([1, 8, 3, 5])
        ('shuffle', 2)
    """

    axes: tuple[tuple[Part, ...], ...]

    @classmethod
    def of(cls, shape: Sequence[int]) -> Moved:
        """An image as it is.

        Raises:
            CheckpointError: it has no pixels, or more than can be counted.
        """
        if min(shape, default=0) < 1 or math.prod(shape) > _MAX_PIXELS:
            raise CheckpointError(f"an image of {list(shape)} is moved")
        return cls(tuple(_merged([(math.prod(shape[i + 1 :]), n)]) for i, n in enumerate(shape)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the sizes of the axes."""
        return tuple(math.prod(n for _, n in axis) for axis in self.axes)

    def transposed(self, order: Sequence[int]) -> Moved:
        """With the axes in another order.

        Raises:
            CheckpointError: ``order`` is none of these axes.
        """
        if sorted(order) != list(range(len(self.axes))):
            raise CheckpointError(f"a Transpose of {len(self.axes)} axes has the order {list(order)[:9]}")
        return Moved(tuple(self.axes[i] for i in order))

    def reshaped(self, sizes: Sequence[int], keep_zero: bool = False) -> Moved:
        """With other axes over the same row of pixels.

        Args:
            sizes: one may be -1, for what is left; 0 keeps the size of that axis unless ``keep_zero``.

        Raises:
            CheckpointError: the sizes do not fit, or cut through what was moved before.
        """
        shape, wanted = self.shape, list(sizes)
        if not keep_zero:
            wanted = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(wanted)]
        rest = math.prod(n for n in wanted if n != -1)
        if wanted.count(-1) == 1 and rest > 0 and math.prod(shape) % rest == 0:
            wanted[wanted.index(-1)] = math.prod(shape) // rest
        if len(wanted) > _MAX_AXES or min(wanted, default=1) < 1 or math.prod(wanted) != math.prod(shape):
            raise CheckpointError(f"a Reshape makes {list(sizes)[:9]} of {list(shape)}")
        parts = list(_merged([part for axis in self.axes for part in axis]))
        return Moved(tuple(_taken(parts, n) for n in wanted))

    def kind(self, source: Sequence[int]) -> tuple[str, int] | None:
        """What the moves are for an image of the shape ``source``, with its factor; None for anything else.

        "same", "shuffle" and "unshuffle" as PyTorch does them, "shuffle DCR" and "unshuffle DCR" with the channels of a
        block's pixels outside of the image's, as TensorFlow does.
        """
        shape = self.shape
        if len(shape) != 4 or len(source) != 4:
            return None
        for name, factor, form in _forms(source, shape):
            if form == self:
                return name, factor
        return None


def _forms(source: Sequence[int], shape: Sequence[int]) -> list[tuple[str, int, Moved]]:
    """The moves that are known, of those sizes."""
    n, c, h, w = source
    image = Moved.of(source)
    if tuple(shape) == tuple(source):
        return [("same", 1, image)]
    if shape[2] > h and shape[2] % h == 0 and shape[2] // h <= MAX_FACTOR and c % (shape[2] // h) ** 2 == 0:
        r = shape[2] // h
        k = c // r**2
        return [
            (
                "shuffle",
                r,
                image.reshaped([n, k, r, r, h, w]).transposed([0, 1, 4, 2, 5, 3]).reshaped([n, k, h * r, w * r]),
            ),
            (
                "shuffle DCR",
                r,
                image.reshaped([n, r, r, k, h, w]).transposed([0, 3, 4, 1, 5, 2]).reshaped([n, k, h * r, w * r]),
            ),
        ]
    r = h // max(1, shape[2])
    if 1 < r <= MAX_FACTOR and h % r == 0 and w % r == 0:
        blocks = image.reshaped([n, c, h // r, r, w // r, r])
        result = [n, c * r * r, h // r, w // r]
        return [
            ("unshuffle", r, blocks.transposed([0, 1, 3, 5, 2, 4]).reshaped(result)),
            ("unshuffle DCR", r, blocks.transposed([0, 3, 5, 1, 2, 4]).reshaped(result)),
        ]
    return []


def _merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Without parts of one, and with those as one that follow each other without a gap: then equal moves are equal."""
    result: list[Part] = []
    for stride, count in parts:
        if count == 1:
            continue
        if result and result[-1][0] == stride * count:
            result[-1] = (stride, result[-1][1] * count)
        else:
            result.append((stride, count))
    return tuple(result)


def _taken(parts: list[Part], count: int) -> tuple[Part, ...]:
    """An axis of ``count`` from the front of the row ``parts``, which it takes away there."""
    taken: list[Part] = []
    while count > 1:
        stride, there = parts.pop(0)
        if count % there == 0:
            taken.append((stride, there))
            count //= there
        elif there % count == 0:
            taken.append((stride * (there // count), count))
            parts.insert(0, (stride, there // count))
            count = 1
        else:
            raise CheckpointError("a Reshape cuts through what was moved before it, which is no pixel shuffle")
    return _merged(taken)
