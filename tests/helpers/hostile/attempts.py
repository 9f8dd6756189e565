"""One hostile file handed to the loader: what is wrong with how it is refused."""

from __future__ import annotations

import contextlib
import resource
import time
import warnings
from pathlib import Path

from srfast.checkpoint import load_model
from srfast.errors import CheckpointError

LIMIT = 1.0  # CPU seconds
MEMORY = 160_000  # kB
LINES = 3


def start_measuring() -> None:
    """Forgets the largest memory so far, where the system can (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """Largest resident memory since then, in kB."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def refuse(name: str, path: Path) -> str | None:
    """None where the file is refused as it should be, else what is wrong; what takes long is tried thrice, as cores vary."""
    for _ in range(3):
        wrong, seconds = attempt(name, path)
        if wrong or seconds <= LIMIT:
            return wrong
    return f"{name}: took {seconds:.1f} s"


def attempt(name: str, path: Path) -> tuple[str | None, float]:
    """What is wrong, but for the time, and CPU seconds."""
    start_measuring()
    before, started = peak(), time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load_model(path)
    except CheckpointError as error:
        seconds, grown, text = time.process_time() - started, peak() - before, str(error)
        if grown > MEMORY:
            return f"{name}: took {grown / 1000:.0f} MB", seconds
        clear = path.stem in text or "checkpoint" in text
        return None if clear and is_plain(text) else f"{name}: unclear: {text[:200]!r}", seconds
    except BaseException as error:
        return f"{name}: {type(error).__name__}: {error}", 0.0
    return f"{name}: was loaded", 0.0


def is_plain(text: str) -> bool:
    """Whether a message has few lines and nothing that a terminal obeys."""
    lines = text.split("\n")
    return len(lines) <= LINES and all(line.isprintable() for line in lines)
