"""Alpha of TIFF files: colours are stored as they are, or multiplied by it; OpenCV gives both as multiplied."""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from srfast.images.metadata import tiff_entry

Array: TypeAlias = npt.NDArray[Any]

_PHOTOMETRIC, _SAMPLES, _EXTRA = 0x0106, 0x0115, 0x0152  # tags
_RGB = 2
_MULTIPLIED, _APART = 1, 2  # by ``_EXTRA``: the colours are multiplied by the fourth number, or apart from it


def as_stored(data: Array) -> tuple[Array, bool]:
    """The bytes of an image file as OpenCV should get them, and whether the colours that it gives are multiplied by alpha."""
    content = data.tobytes()
    extra = tiff_entry(content, _EXTRA)
    if extra is None or (_number(content, _PHOTOMETRIC), _number(content, _SAMPLES)) != (_RGB, 4):
        return data, False
    kind = _number(content, _EXTRA)
    if kind != _APART:
        return data, kind == _MULTIPLIED
    # Told that they are multiplied already, libtiff gives the numbers of the file; else it multiplies those of 8 bits.
    changed = bytearray(content)
    struct.pack_into(extra.order + "H", changed, extra.at, _MULTIPLIED)
    return np.frombuffer(changed, np.uint8), False


def _number(content: bytes, tag: int) -> int | None:
    """The first number of a tag of 16-bit numbers, if it is there."""
    found = tiff_entry(content, tag)
    return found.number(content) if found else None


def divided(image: Array) -> Array:
    """[H, W, 4] whose colours are multiplied by alpha, with the colours themselves; black where alpha is 0."""
    most, alpha = np.iinfo(image.dtype).max, image[..., 3:].astype(np.float64)
    colours = np.divide(image[..., :3] * float(most), alpha, out=np.zeros(image[..., :3].shape), where=alpha > 0)
    return np.dstack([np.rint(colours.clip(0, most)).astype(image.dtype), image[..., 3]])
