"""TIFF files whose numbers are no RGB: L*a*b*, which OpenCV reads with another white than the one they are written for."""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from srfast.images.metadata import tiff_entry

Array: TypeAlias = npt.NDArray[Any]

_PHOTOMETRIC = 0x0106  # the tag that says what the numbers are
_RGB, _SEPARATED, _CIELAB, _ICCLAB = 2, 5, 8, 9
_D50 = np.array([0.9642, 1.0, 0.8249])  # the white of the TIFF specification and of ICC profiles
# From XYZ under D50 to linear sRGB: IEC 61966-2-1's matrix after Bradford's adaptation.
_TO_RGB = np.array(
    [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]]
)
_LINEAR = 6 / 29  # below it L*a*b*'s cube root is a line


def photometric(data: bytes) -> int | None:
    """What the numbers of a TIFF file are, by its own tag; None for other files."""
    found = tiff_entry(data, _PHOTOMETRIC)
    return found.number(data) if found else None


def is_inks(data: bytes) -> bool:
    """True for a TIFF file of inks (CMYK), whose four numbers are no colour with alpha."""
    return photometric(data) == _SEPARATED


def read_lab(data: Array) -> Array | None:
    """[H, W, 3] BGR of the bytes of a TIFF file in L*a*b*, uint8 or uint16 as it is; None for other files."""
    content = data.tobytes()
    found, kind = tiff_entry(content, _PHOTOMETRIC), photometric(content)
    if found is None or kind not in (_CIELAB, _ICCLAB):
        return None
    changed = bytearray(content)
    struct.pack_into(found.order + "H", changed, found.at, _RGB)  # OpenCV then gives the numbers as they are
    image = cv2.imdecode(np.frombuffer(changed, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        return None
    return _bgr(image, signed=kind == _CIELAB)


def _bgr(image: Array, *, signed: bool) -> Array:
    """Numbers of the file, in the order b*, a*, L*, as sRGB."""
    most = np.iinfo(image.dtype).max
    lightness = image[..., 2] / most * 100.0
    both = image[..., 1::-1]  # a*, b*
    if signed:
        both = both.view(np.dtype(f"i{image.itemsize}"))
        chroma = both / 2.0 ** (8 * (image.itemsize - 1))
    else:
        chroma = both / 2.0 ** (8 * (image.itemsize - 1)) - 128.0
    height = (lightness + 16) / 116
    cubes = np.stack([height + chroma[..., 0] / 500, height, height - chroma[..., 1] / 200], -1)
    xyz = np.where(cubes > _LINEAR, cubes**3, 3 * _LINEAR**2 * (cubes - 4 / 29)) * _D50
    linear = np.clip(xyz @ _TO_RGB.T, 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(coded[..., ::-1] * most), image.dtype)
