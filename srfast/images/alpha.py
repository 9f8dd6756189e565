"""Alpha beside colour: what is hidden does not bleed into what is seen, and what is solid stays solid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


Region: TypeAlias = tuple[int, int, int, int]  # top, left, height, width


def upscale_with_alpha(
    image: Array, colour: Callable[[Array], Array], gray: Callable[[Array], Array], region: Region | None = None
) -> Array:
    """Upscales an image of colour and alpha, each by itself.

    Args:
        image: [H, W, 4], alpha last, uint8 or uint16.
        colour: [H, W, 3] -> [s*H, s*W, 3].
        gray: [H, W] -> [s*H, s*W].
        region: the part of the image that ``colour`` and ``gray`` give; all of it by default.
    """
    alpha = np.ascontiguousarray(image[:, :, 3])
    large = colour(fill_hidden(np.ascontiguousarray(image[:, :, :3]), alpha))
    return np.dstack([large, within_neighbours(gray(alpha), alpha, region)])


def fill_hidden(colour: Array, alpha: Array) -> Array:
    """Gives pixels of alpha 0 the colour of the nearest one that is seen, so that the network never meets what they hold."""
    hidden = (alpha == 0).astype(np.uint8)
    if not hidden.any() or hidden.all():
        return colour
    # OpenCV labels every pixel with the nearest zero of the mask, which is the nearest pixel that is seen.
    _, labels = cv2.distanceTransformWithLabels(hidden, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    seen = hidden == 0
    nearest = np.zeros((int(labels.max()) + 1, colour.shape[2]), colour.dtype)
    nearest[labels[seen]] = colour[seen]
    return np.asarray(nearest[labels])


def within_neighbours(large: Array, alpha: Array, region: Region | None = None) -> Array:
    """Limits an enlarged alpha to the range of the 3x3 input pixels around: what is constant stays so, edges keep in it."""
    kernel = np.ones((3, 3), np.uint8)
    size = (large.shape[1], large.shape[0])
    top, left, height, width = region or (0, 0, *alpha.shape)
    part = slice(top, top + height), slice(left, left + width)
    low, high = (
        cv2.resize(f(alpha, kernel)[part], size, interpolation=cv2.INTER_NEAREST) for f in (cv2.erode, cv2.dilate)
    )
    return np.asarray(np.clip(large, low, high))
