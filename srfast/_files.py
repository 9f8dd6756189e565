"""Files that appear under their name only when they are whole, and small files of settings, read again when they change."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from srfast.errors import OutputError

# Of a file: changes when the file does; None where there is none, and why where it cannot be looked at.
FileState: TypeAlias = tuple[int, ...] | str | None


def check_output(path: Path, overwrite: bool) -> None:
    """Refuses, before any work is done, a path that cannot be written.

    Raises:
        OutputError: it exists (and may not be overwritten), is a folder, or its folder is missing or read-only.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file")
    if os.path.lexists(path) and not overwrite:  # a link to nowhere has the name, too
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
    disk before it takes the name, so that a loss of power leaves the old file or the new one. What a killed process left of
    the hidden file is used again by the next one that makes ``path``.
    """
    check_output(path, overwrite)
    partial, descriptor = _hidden(scratch or path.parent, path)
    try:
        yield partial
        if durable:
            flush(partial)
        # The hidden file is its owner's alone; a result gets what any other new file would.
        partial.chmod(0o666 & ~_umask())
        if overwrite:
            partial.replace(path)
        else:
            _move_to_free_name(partial, path)
    finally:
        if _is_still(
            partial, os.fstat(descriptor)
        ):  # else it has its name, and another process may hide behind this one
            partial.unlink()
        os.close(descriptor)


def _hidden(folder: Path, path: Path) -> tuple[Path, int]:
    """Makes an empty hidden file for ``path``, and what keeps it locked until it is closed."""
    # The suffix stays last: writers choose the format by it.
    name, suffix = shortened(path.stem, 200), f".srfast-partial{path.suffix}"
    usual = folder / f".{name}{suffix}"
    descriptor = _locked(usual)
    if descriptor is not None:
        return usual, descriptor
    descriptor, own = tempfile.mkstemp(prefix=f".{name}.", suffix=suffix, dir=folder)
    return Path(own), descriptor


def _locked(path: Path) -> int | None:
    """Makes an empty file, or empties one that was left; None where another process has it, or that cannot be known."""
    try:
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
                    raise OSError("not a file of our own")
                if not _is_still(path, facts):  # who had it gave it its name between our two steps
                    os.close(descriptor)
                    continue
                if facts.st_nlink > 1:  # whoever gave it its name was killed before this one was gone
                    path.unlink()
                    os.close(descriptor)
                    continue
                os.ftruncate(descriptor, 0)
                os.fchmod(descriptor, 0o600)
                return descriptor
            except OSError:
                os.close(descriptor)
                raise
    except OSError:  # a lock, a link, a folder, another user's, or a file system without locks
        return None


def _is_still(path: Path, facts: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), facts)
    except FileNotFoundError:
        return False


def flush(path: Path) -> None:
    """Returns when a file, or the names in a folder, are on the disk."""
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


def file_state(path: Path) -> FileState:
    """Looks at a file, for the key of a cache: one that was written anew or replaced is read anew, and the same one is not."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    if not stat.S_ISREG(found.st_mode):
        return "it is no file"
    return found.st_mtime_ns, found.st_size, found.st_ino


def small_json(path: Path, most: int) -> Any:
    """Reads a JSON file of settings.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or no JSON.
    """
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError("it is too large to be such a file")
    try:
        return json.loads(data)
    except ValueError as error:
        raise ValueError("it is damaged (no JSON)") from error
