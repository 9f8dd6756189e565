"""Pictures side by side, each with its name."""

from __future__ import annotations

from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from srfast.errors import escaped

Array: TypeAlias = npt.NDArray[Any]


def side_by_side(pictures: list[tuple[Array, str]]) -> Array:
    """Joins pictures of one height, left to right, with their names in the corners.

    Args:
        pictures: [H, W, 3] of uint8, each with its name.
    """
    named = []
    for picture, label in pictures:
        picture, label = np.ascontiguousarray(picture).copy(), escaped(label)  # OpenCV crashes on what is no UTF-8
        cv2.rectangle(picture, (0, 0), (24 + 12 * len(label), 36), (0, 0, 0), cv2.FILLED)
        cv2.putText(picture, label, (12, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1, cv2.LINE_AA)
        named.append(picture)
    return np.hstack(named)


def middle(picture: Array, height: int, width: int) -> Array:
    """The middle of a picture, of at most that size."""
    tall, wide = min(height, picture.shape[0]), min(width, picture.shape[1])
    top, left = (picture.shape[0] - tall) // 2, (picture.shape[1] - wide) // 2
    return picture[top : top + tall, left : left + wide]
