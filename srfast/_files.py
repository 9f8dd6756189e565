"""Files that appear under their name only when they are whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from srfast.errors import OutputError


def check_output(path: Path, overwrite: bool) -> None:
    """Refuses, before any work is done, a path that cannot be written.

    Raises:
        OutputError: it exists (and may not be overwritten), is a folder, or its folder is missing or read-only.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists; give -y to overwrite it, or another name")
    folder = path.parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist; make it first")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"cannot write in {folder}: {error.strerror}") from error


@contextlib.contextmanager
def whole_file(path: Path, overwrite: bool, durable: bool = False, scratch: Path | None = None) -> Iterator[Path]:
    """Gives the name of a hidden file beside ``path``, or in ``scratch``, which takes its place at the end if nothing failed.

    Without ``overwrite`` a file that appeared in the meantime is not touched either. A ``durable`` file's bytes are on the
    disk before it takes the name, so that a loss of power leaves the old file or the new one.
    """
    check_output(path, overwrite)
    # The suffix stays last: writers choose the format by it.
    handle, name = tempfile.mkstemp(
        prefix=f".{shortened(path.stem, 200)}.", suffix=f".partial{path.suffix}", dir=scratch or path.parent
    )
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        if durable:
            _flush(partial)
        # mkstemp makes files that only their owner may read; a result gets what any other new file would.
        partial.chmod(0o666 & ~_umask())
        if overwrite:
            partial.replace(path)
        else:
            _move_to_free_name(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shortened(name: str, most: int) -> str:
    """A name of at most ``most`` bytes, for hidden files beside one of any length; a hash tells long ones apart."""
    data = os.fsencode(name)
    if len(data) <= most:
        return name
    return os.fsencode(name)[: most - 17].decode("utf-8", "ignore") + "-" + hashlib.sha256(data).hexdigest()[:16]


def _move_to_free_name(partial: Path, path: Path) -> None:
    try:
        # A hard link fails where the name is taken, in one step; a look before a rename would leave time for another
        # program.
        os.link(partial, path)
    except FileExistsError as error:
        raise OutputError(f"{path} has appeared meanwhile; give -y to overwrite it, or another name") from error
    except OSError:  # a file system without hard links
        check_output(path, overwrite=False)
        partial.replace(path)


def _umask() -> int:
    # The only way to read it is to set it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
