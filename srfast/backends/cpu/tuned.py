"""The file that ``srfast tune`` writes: what was measured on the user's machine, for ``auto`` to obey until it is deleted."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from srfast._files import FileState, file_state, small_json, whole_file
from srfast.backends.cpu.ways import Measurement, parse_measurements
from srfast.errors import OutputError, escaped
from srfast.kernels.cpu.classes import cpu_name, real_class, real_vendor

VARIABLE = "SRFAST_TUNED"
_FORMAT = "srfast tune 1"
_LARGEST = 1 << 20  # bytes: a file that is larger is another program's
_log = logging.getLogger("srfast")


@dataclass(frozen=True)
class Tuned:
    """What a user's file holds."""

    path: Path
    measurements: tuple[Measurement, ...]


def tuned_path() -> Path | None:
    """Where the file lies: what ``SRFAST_TUNED`` names, else ``srfast/cpu.json`` in the user's folder of settings.

    None where neither is known.
    """
    if name := os.environ.get(VARIABLE):
        return Path(name)
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(folder):  # by its specification others are ignored
        return Path(folder) / "srfast" / "cpu.json"
    try:
        return Path.home() / ".config" / "srfast" / "cpu.json"
    except RuntimeError:  # a user without a home
        return None


def machine() -> dict[str, str]:
    """What the file's numbers hold for."""
    return {"cpu": cpu_name(), "class": f"{real_vendor()} {real_class()}"}


def load() -> Tuned | None:
    """The file, if there is one for this machine; one that cannot be used is named in the log, once for each state of it."""
    path = tuned_path()
    found = None if path is None else _read(path, file_state(path))
    return found if isinstance(found, Tuned) else None


def problem() -> str | None:
    """Why a file that is there is not used; None without a file and where it is used."""
    path = tuned_path()
    found = None if path is None else _read(path, file_state(path))
    return found if isinstance(found, str) else None


def save(measurements: list[Measurement]) -> Path:
    """Writes the file, whole or not at all; returns its path.

    Raises:
        OutputError: it cannot be written.
    """
    path = tuned_path()
    if path is None:
        raise OutputError(f"there is no home to write to: name a file in the environment variable {VARIABLE}")
    content = {"format": _FORMAT, "machine": machine(), "measured": [asdict(m) for m in measurements]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    with whole_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path


def delete() -> Path | None:
    """Deletes the file, whatever it holds; returns its path, or None where there was none.

    Raises:
        OutputError: it cannot be deleted.
    """
    path = tuned_path()
    if path is None:
        return None
    try:
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"cannot delete {path}: {error.strerror}") from error
    return path


# By the file's state: one that was written anew is read again, and what is wrong with one is said once.
@lru_cache(maxsize=4)
def _read(path: Path, state: FileState) -> Tuned | str | None:
    """What it holds, or why it cannot be used."""
    if state is None:
        return None
    try:
        if isinstance(state, str):
            raise ValueError(state)
        return _parsed(path)
    except (OSError, ValueError, RecursionError) as error:
        said = f"{escaped(path)} is not used: {escaped(error)[:400]}"
        _log.warning("%s; 'srfast tune' makes it anew, 'srfast tune --delete' removes it", said)
        return said


def _parsed(path: Path) -> Tuned:
    """The file's content.

    Raises:
        ValueError: what is wrong with it.
    """
    content = small_json(path, _LARGEST)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError("it is nothing that this version's 'srfast tune' wrote")
    # A home folder may be shared between machines, and a disk moved to another one.
    if content.get("machine") != machine():
        theirs = content.get("machine")
        name = f"{theirs.get('cpu')} ({theirs.get('class')})" if isinstance(theirs, dict) else "an unknown machine"
        here = machine()
        raise ValueError(f"it is of {name:.120}, and this is {here['cpu']} ({here['class']})")
    try:
        return Tuned(path, tuple(parse_measurements(content.get("measured"))))
    except ValueError as error:
        raise ValueError(f"it is damaged ({error})") from error
