"""State files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from srfast.errors import CheckpointError


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Writes ``path`` anew; whatever fails on the way, the file that was there stays as it was.

    Raises:
        CheckpointError: the file could not be written, for instance because the disk is full.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        kept = "the state before it is kept" if path.exists() else "there is none yet"
        raise CheckpointError(f"cannot write {path}: {error}; {kept}") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load_state(path: Path) -> dict[str, Any]:
    """Reads a state that ``save_state`` wrote, to the CPU.

    Raises:
        CheckpointError: not such a file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail anywhere in the unpickler
        raise CheckpointError(f"{path} is not the state of a training, or is damaged: {error}") from error
    if not isinstance(state, dict) or not {"config", "step", "networks"} <= set(state):
        raise CheckpointError(f"{path} is not the state of a training; give an empty folder to start anew")
    return state
