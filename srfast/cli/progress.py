"""Progress on stderr: a bar for people, JSON lines for programs."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType
from typing import Any, Literal

Style = Literal["bar", "json", "none"]


class Reporter:
    """Shows how far a run is. ``bar`` is a line a second where stderr is no terminal.

    Args:
        style: 'bar', 'json' (one object per second and one at the end) or 'none'.
        unit: what is counted.
    """

    def __init__(self, style: Style, unit: str = "frames") -> None:
        self._style, self._unit = style, unit
        self._bar: Any = None
        self._last = 0.0

    def __enter__(self) -> Reporter:
        if self._style == "bar" and sys.stderr.isatty():
            self._bar = _rich_bar(self._unit)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int, seconds: float, resumed: int = 0) -> None:
        """Reports ``done`` of ``total`` (0 if unknown) after ``seconds``; ``resumed`` of them were done before."""
        if self._style == "none":
            return
        fps = (done - resumed) / seconds if seconds else 0.0
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, total=total or None, fps=f"{fps:.2f}")
            return
        now = time.monotonic()
        # A line a second: a log of a long run stays readable, and the last line always comes.
        if now - self._last < 1 and done != total:
            return
        self._last = now
        eta = (total - done) / fps if total and fps else None
        if self._style == "json":
            state = {"done": done, "total": total or None, "seconds": round(seconds, 3), "fps": round(fps, 3)}
            state["eta_seconds"] = None if eta is None else round(eta, 1)
            print(json.dumps(state), file=sys.stderr, flush=True)
        else:
            of = f"/{total}" if total else ""
            left = "" if eta is None else f", {_clock(eta)} left"
            print(f"{done}{of} {self._unit}, {fps:.2f} fps{left}", file=sys.stderr, flush=True)


def _rich_bar(unit: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}  {{task.fields[fps]}} fps  ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    bar.add_task("upscale", total=None, fps="0.00")
    bar.start()
    return bar


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
