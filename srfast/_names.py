"""File names for libraries that take them as UTF-8, whatever bytes they are."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from srfast.errors import InputError, escaped


def utf8(path: str | os.PathLike[str]) -> str | None:
    """The name as UTF-8 text, though the locale may be another; None if it is none."""
    try:
        return os.fsencode(path).decode()
    except UnicodeError:
        return None


@contextlib.contextmanager
def openable(path: str | os.PathLike[str], write: bool = False) -> Iterator[str]:
    """A name that a library can open the file under, within the block.

    Args:
        path: of a file that exists, or of a pattern in a folder that does.
        write: it will be written.

    Raises:
        InputError: the system has no such names.
    """
    name = utf8(path)
    if name is not None:
        yield name
        return
    if not sys.platform.startswith("linux"):
        raise InputError(f"the name {escaped(path)} is not UTF-8; rename the file")
    whole = Path(path)
    last, handle = utf8(whole.name), None
    if last is not None:  # the folder's name is what cannot be said
        # An open folder or file has a second name in /proc, all of ASCII, that works whatever its own is.
        handle = os.open(whole.parent, os.O_RDONLY | os.O_DIRECTORY)
        last = f"/{last}"
    else:
        handle, last = os.open(whole, os.O_RDWR if write else os.O_RDONLY), ""
    try:
        yield f"/proc/self/fd/{handle}{last}"
    finally:
        os.close(handle)
