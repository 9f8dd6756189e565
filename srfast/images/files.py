"""Image files in and out."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from srfast._files import check_output, whole_file
from srfast._names import openable
from srfast.errors import InputError, OutputError
from srfast.images.arrays import Array, eight_bits
from srfast.images.boxes import white_of_boxes
from srfast.images.lab import is_inks, read_lab
from srfast.images.metadata import Metadata, gray_transparency, left_out, read_metadata, with_metadata
from srfast.images.netpbm import read_pam, scaled, with_white
from srfast.images.tiff_alpha import as_stored, divided

_log = logging.getLogger("srfast")
SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".tif", ".tiff", ".jp2")
# Formats that are read and not written: results of them become PNG.
READABLE = (*SUFFIXES, ".gif", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".pam")
_ENCODERS = {".jfif": ".jpg", ".jpe": ".jpg"}  # OpenCV's names of formats with others
# Pixels that a side may have: of WebP itself, of OpenCV's JPEG writer, of libpng.
LARGEST_SIDES = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500, ".jfif": 65500, ".jpe": 65500, ".png": 1_000_000}
SMALLEST_SIDES = {".jp2": 32}  # of OpenCV's writer, which halves a picture five times
NO_ALPHA = (".jpg", ".jpeg", ".jfif", ".jpe", ".jp2")
DEEP = (".png", ".tif", ".tiff")  # suffixes of formats that hold 16 bits
# How EXIF's orientations become upright: mirrored in which directions after an exchange of rows and columns.
_TURNS = {2: (False, 1), 3: (False, -1), 4: (False, 0), 5: (True, None), 6: (True, 1), 7: (True, -1), 8: (True, 0)}


@dataclass(frozen=True)
class Picture:
    """An image as its file has it: pixels that are turned upright, and what comes with them."""

    image: Array
    metadata: Metadata


def read_image(path: Path) -> Array:
    """The pixels of ``read_picture``."""
    return read_picture(path).image


def read_picture(path: Path) -> Picture:
    """Reads [H, W] gray, [H, W, 3] BGR or [H, W, 4] BGRA of uint8 or uint16, turned as its EXIF orientation says.

    Raises:
        InputError: not a readable image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or 'it is a pipe or a device, not a file'}") from error
    picture = picture_of(data, str(path))
    with contextlib.suppress(cv2.error, OSError, InputError), openable(path) as name:
        images = cv2.imcount(name)
        if images > 1:
            _log.warning("%s holds %d images; only the first is upscaled", path, images)
    return picture


def picture_of(data: Array, name: str) -> Picture:
    """Decodes the bytes of an image file, as ``read_picture`` does; ``name`` is for messages.

    Raises:
        InputError: not a readable image.
    """
    metadata = read_metadata(data.tobytes())
    try:
        image = _decoded(data, metadata)
    except (cv2.error, MemoryError) as error:
        reason = getattr(error, "err", "") or "there is no memory for it"
        raise InputError(f"{name} cannot be decoded; it may be damaged or too large ({reason})") from error
    if image is None:
        raise InputError(f"{name} is not an image that can be read ({data.size} bytes)")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{name} holds {image.dtype} pixels; 8 and 16 bit unsigned are supported")
    upright = metadata.upright(1 if image.ndim == 2 else image.shape[2])
    if metadata.icc and not upright.icc:
        kind = metadata.icc[16:20].decode("ascii", "replace").strip()
        _log.warning("%s: its %s colour profile does not fit the converted pixels and is left out", name, kind)
    return Picture(image, upright)


def _decoded(data: Array, metadata: Metadata) -> Array | None:
    pam = read_pam(data)
    if pam is not None:
        return pam
    stored, multiplied = as_stored(data)
    image = cv2.imdecode(stored, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        return None
    if multiplied and image.ndim == 3 and image.shape[2] == 4:
        image = divided(image)
    lab = read_lab(data)
    if lab is not None:
        image = lab
    elif not (image.ndim == 3 and image.shape[2] == 4) or is_inks(data.tobytes()):
        # Without alpha: palettes and CMYK as colours. Not every OpenCV turns every format, so that is done here.
        mode = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        image = with_white(data, np.asarray(cv2.imdecode(data, mode)))
    image = scaled(image, white_of_boxes(data.tobytes()))
    clear = gray_transparency(data.tobytes()) if image.ndim == 2 else None
    if clear is not None:  # OpenCV reads the transparent colour of others, not of gray
        alpha = np.where(image == clear, 0, 255 if image.dtype == np.uint8 else 65_535).astype(image.dtype)
        image = np.dstack([image, image, image, alpha])
    swapped, mirrored = _TURNS.get(metadata.orientation, (False, None))
    image = cv2.transpose(image) if swapped else image
    return image if mirrored is None else cv2.flip(image, mirrored)


def check_format(path: Path) -> None:
    """Refuses a name whose suffix is that of no image format.

    Raises:
        OutputError: it is.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"cannot tell an image format from {path.name!r}; use one of {', '.join(SUFFIXES)}")


def check_image_output(path: Path, overwrite: bool) -> None:
    """Refuses, before any work is done, a name that no image can be written under.

    Raises:
        OutputError: its suffix is that of no image format, or ``check_output`` refuses it.
    """
    check_output(path, overwrite)
    check_format(path)


def check_size(path: Path, height: int, width: int) -> None:
    """Refuses, before any work is done, an image that the format of the suffix cannot hold.

    Raises:
        OutputError: it cannot.
    """
    suffix = path.suffix.lower()
    least = SMALLEST_SIDES.get(suffix, 1)
    if min(height, width) < least:
        raise OutputError(
            f"{path} would be {width}x{height}, but a side of a {suffix} image has at least {least} pixels: "
            "use another format, such as .png, or a larger -s"
        )
    limit = LARGEST_SIDES.get(suffix)
    if limit is not None and max(height, width) > limit:
        raise OutputError(
            f"{path} would be {width}x{height}, but a side of a {path.suffix} image has at most {limit} pixels: "
            "use another format, such as .tif, or a smaller -s"
        )


def _resolution(suffix: str, metadata: Metadata | None) -> list[int]:
    """What OpenCV's TIFF writer takes of the resolution; other formats get it with the rest of the metadata."""
    if metadata is None or metadata.dpi is None or suffix not in (".tif", ".tiff"):
        return []
    across, down = (max(1, round(value)) for value in metadata.dpi)
    return [cv2.IMWRITE_TIFF_RESUNIT, 2, cv2.IMWRITE_TIFF_XDPI, across, cv2.IMWRITE_TIFF_YDPI, down]


def write_image(path: Path, image: Array, overwrite: bool, metadata: Metadata | None = None) -> None:
    """Writes an image in the format of the suffix, with ``metadata`` where the format takes it.

    Raises:
        OutputError: unknown suffix, too large for the format, existing file, or a disk that is full or read-only.
    """
    content = encode_image(path, image, metadata)
    try:
        with whole_file(path, overwrite) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def encode_image(path: Path, image: Array, metadata: Metadata | None = None) -> bytes:
    """Makes the content of an image file in the format of the suffix; ``path`` is for messages else.

    Raises:
        OutputError: unknown suffix, or too large for the format.
    """
    suffix = path.suffix.lower()
    check_format(path)
    check_size(path, *image.shape[:2])
    if suffix not in DEEP:
        image = eight_bits(image)
    alpha = image.ndim == 3 and image.shape[2] == 4
    if alpha and suffix in NO_ALPHA:
        _log.warning("%s has no alpha, so that of %s is left out; .png and .webp keep it", suffix, path)
    if metadata is not None and (missing := left_out(suffix, metadata)):
        _log.warning("%s will lack %s; .png and .jpg keep most", path, ", ".join(missing))
    try:
        done, data = cv2.imencode(_ENCODERS.get(suffix, suffix), image, _resolution(suffix, metadata))
    except (cv2.error, MemoryError):
        done = False
    if not done:
        raise OutputError(f"cannot encode a {list(image.shape)} image as {path.suffix}")
    return with_metadata(data.tobytes(), metadata or Metadata(), (image.shape[0], image.shape[1]), alpha)
