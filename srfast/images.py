"""Image files in and out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from srfast.errors import InputError, OutputError
from srfast.frames import Array
from srfast.output import whole_file

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def read_image(path: Path) -> Array:
    """Reads [H, W] gray, [H, W, 3] BGR or [H, W, 4] BGRA of uint8 or uint16, turned as its EXIF orientation says.

    Raises:
        InputError: not a readable image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is not None and not (image.ndim == 3 and image.shape[2] == 4):
        # Without alpha: again in the mode that applies the orientation.
        image = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise InputError(f"{path} is not an image that can be read ({data.size} bytes)")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path} holds {image.dtype} pixels; 8 and 16 bit unsigned are supported")
    return image


def write_image(path: Path, image: Array, overwrite: bool) -> None:
    """Writes an image in the format of the suffix.

    Raises:
        OutputError: unknown suffix, existing file, or a disk that is full or read-only.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"cannot tell an image format from {path.name!r}; use one of {', '.join(SUFFIXES)}")
    if image.dtype == np.uint16 and path.suffix.lower() not in (".png", ".tif", ".tiff"):
        image = (image // 257).astype(np.uint8)
    done, data = cv2.imencode(path.suffix, image)
    if not done:
        raise OutputError(f"cannot encode a {list(image.shape)} image as {path.suffix}")
    try:
        with whole_file(path, overwrite) as partial:
            partial.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def find_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name.

    Raises:
        InputError: there are none.
    """
    images = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not images:
        raise InputError(f"{folder} has no images ({', '.join(SUFFIXES)})")
    return images
