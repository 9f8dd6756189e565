"""Signals that end a process from outside, as Ctrl-C does."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM (a container or a service is stopped) or SIGHUP (the terminal is gone).

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextlib.contextmanager
def ends_in_order() -> Iterator[None]:
    """Within the block these signals are raised as ``Terminated`` in the main thread; one that is ignored (nohup) stays so."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                # Python's default for them is to end at once, without the finally blocks that keep a journal whole.
                before[number] = signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(error: KeyboardInterrupt) -> int:
    """As a shell tells it: 128 and the signal's number; 130 is Ctrl-C."""
    while error is not None:
        if isinstance(error, Terminated):
            return 128 + error.number
        error = error.__cause__  # type: ignore[assignment]
    return 130


def _end(number: int, frame: FrameType | None) -> None:
    raise Terminated(number)
