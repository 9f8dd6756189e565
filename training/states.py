"""State files that are whole or not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from srfast._files import whole_file
from srfast.errors import CheckpointError, OutputError


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Write ``path`` anew; whatever fails on the way, the file that was there stays as it was.

    Raises:
        OutputError: the file could not be written, for instance because the disk is full.
    """
    try:
        with whole_file(path, overwrite=True, durable=True) as partial:
            torch.save(dict(state), partial)
    except (OSError, RuntimeError) as error:  # torch raises RuntimeError where the disk is full
        kept = "the state before it is kept" if path.exists() else "there is none yet"
        raise OutputError(f"cannot write {path}: {error}; {kept}") from error


def load_state(path: Path, needs: Sequence[str] = ("config", "step", "networks")) -> dict[str, Any]:
    """Reads a state that ``save_state`` wrote, with the entries that it ``needs``, to the CPU.

    Raises:
        CheckpointError: not such a file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail anywhere in the unpickler
        raise CheckpointError(f"{path} is not the state of a training, or is damaged: {error}") from error
    if not isinstance(state, dict) or not set(needs) <= set(state):
        raise CheckpointError(f"{path} is not the state of a training; give an empty folder to start anew")
    return state
