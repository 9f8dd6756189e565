"""Standard error as JSON, one object a line, for programs that read it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any, TextIO


class _JsonLines:
    """Hands objects on as they are and makes ``{"message": ...}`` of every other line."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._line = file, ""

    def write(self, text: str) -> int:
        """Takes any part of a text; lines go out when they are whole."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.strip():
                self._file.write((line if line.startswith("{") else json.dumps({"message": line})) + "\n")
        return len(text)

    def flush(self) -> None:
        """Hands on to the file."""
        self._file.flush()

    def end(self) -> None:
        """Writes what has no end of line."""
        if self._line:
            self.write("\n")
        self.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextlib.contextmanager
def lines_of_json() -> Iterator[None]:
    """Makes all that Python writes to the standard error JSON meanwhile; encoders are told to be silent elsewhere."""
    before = sys.stderr
    made = _JsonLines(before)
    sys.stderr = made  # type: ignore[assignment]
    # A logging handler holds the stream that was there when it was made, so putting another one in its place is not enough.
    handlers = _stream_handlers(before)
    for handler in handlers:
        handler.setStream(made)
    try:
        yield
    finally:
        made.end()
        sys.stderr = before
        for handler in handlers:
            handler.setStream(before)


def _stream_handlers(file: TextIO) -> list[Any]:
    import logging

    return [h for h in logging.getLogger().handlers if isinstance(h, logging.StreamHandler) and h.stream is file]
