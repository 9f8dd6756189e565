"""Frames as a player shows them: turned and mirrored by the display matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from srfast.images.arrays import Array

_ONE = 1 << 16  # 1.0 in the matrix's fixed point


@dataclass(frozen=True)
class Turn:
    """An exchange of rows and columns, then mirroring from left to right and from top to bottom."""

    swapped: bool
    horizontally: bool
    vertically: bool

    @property
    def mirrored(self) -> bool:
        """True where it is no pure rotation."""
        return self.swapped ^ self.horizontally ^ self.vertically

    def __call__(self, image: Array) -> Array:
        """[H, W, C] -> the same pixels as they are shown."""
        if self.swapped:
            image = cv2.transpose(image)
        if self.horizontally or self.vertically:
            # OpenCV's codes: -1 turns both sides, 1 left and right, 0 top and bottom.
            image = cv2.flip(image, -1 if self.horizontally and self.vertically else int(self.horizontally))
        return np.asarray(image)


def turn_of(matrix: Sequence[int]) -> Turn | None:
    """The turn that a display matrix asks for; None where its angle is no multiple of 90 degrees.

    Args:
        matrix: nine integers (a b u, c d v, x y w); the point (p, q) is shown at (a p + c q, b p + d q).
    """
    a, b, c, d = (_sign(matrix[i]) for i in (0, 1, 3, 4))
    if a and d and not b and not c:
        return Turn(False, a < 0, d < 0)
    if b and c and not a and not d:
        return Turn(True, c < 0, b < 0)
    return None


def _sign(value: int) -> int:
    """-1, 0 or 1 of a number that is nearly so; 2 for others, which none of the turns has."""
    rounded = round(value / _ONE)
    return rounded if abs(value - rounded * _ONE) < 64 and abs(rounded) <= 1 else 2
