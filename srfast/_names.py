"""File names for libraries that take them as UTF-8, whatever bytes they are."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from srfast.errors import InputError

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def shown(text: object) -> str:
    """A message or name that a terminal can show: control characters and bytes that are no UTF-8 are escaped.

    >>> shown("bad\\udcff.png")
    'bad\\\\xff.png'
    """
    return _CONTROLS.sub(_escaped, str(text))


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0  # how Python keeps a byte that it cannot decode
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


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
        raise InputError(f"the name {shown(path)} is not UTF-8; rename the file")
    whole = Path(path)
    last, handle = utf8(whole.name), None
    if last is not None:  # the folder's name is what cannot be said
        handle = os.open(whole.parent, os.O_RDONLY | os.O_DIRECTORY)
        last = f"/{last}"
    else:
        handle, last = os.open(whole, os.O_RDWR if write else os.O_RDONLY), ""
    try:
        yield f"/proc/self/fd/{handle}{last}"
    finally:
        os.close(handle)
