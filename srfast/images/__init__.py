"""Still images: arrays in the forms that users have, and image files with their metadata."""

from __future__ import annotations

from srfast.images.declared import declared_size
from srfast.images.files import (
    DEEP,
    LARGEST_SIDES,
    NO_ALPHA,
    READABLE,
    SUFFIXES,
    Picture,
    check_format,
    check_image_output,
    check_size,
    encode_image,
    picture_of,
    read_image,
    read_picture,
    write_image,
)

__all__ = [
    "DEEP",
    "LARGEST_SIDES",
    "NO_ALPHA",
    "READABLE",
    "SUFFIXES",
    "Picture",
    "check_format",
    "check_image_output",
    "check_size",
    "declared_size",
    "encode_image",
    "picture_of",
    "read_image",
    "read_picture",
    "write_image",
]
