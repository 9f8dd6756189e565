"""Pipes under FFmpeg that a run can leave while the other end is silent."""

from __future__ import annotations

import contextlib
import os
import select
from typing import BinaryIO, TypeVar

from srfast._threads import StoppedError

T = TypeVar("T")
_LOOK = 100  # milliseconds between two looks at whether the run has ended
_START = 4096  # bytes that tell how long a Matroska file is


class _Callbacks:
    """What FFmpeg calls. PyAV prints and forgets Ctrl-C there, so it is kept, and raised by ``check``.

    FFmpeg sees an end instead, of the input or of what is left to write: it may call again after an error.
    """

    def __init__(self) -> None:
        self._error: BaseException | None = None

    def stop(self) -> None:
        """Ends every call from now on, also one that waits for input."""
        self._error = self._error or StoppedError()

    def check(self) -> None:
        """Raises what ended a call, if that was not the other side or the system."""
        if self._error is not None:
            raise self._error


class CountedPipe(_Callbacks):
    """The standard input or a named pipe, how many bytes came from it, and the first of them."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.start = 0, b""
        self.name = "pipe"
        self._file: BinaryIO | None = None
        self._poll: select.poll | None = None
        self._owned = False
        self._held = contextlib.ExitStack()

    def attach(self, file: BinaryIO, name: str | None = None) -> CountedPipe:
        """Reads from ``file``; one with a name is closed with this."""
        self._file, self._owned, self.name = file, name is not None, name or self.name
        try:
            handle = file.fileno()
        except OSError:  # no file of the system: it does not wait for anybody
            return self
        self._poll = select.poll()
        self._poll.register(handle, select.POLLIN)
        return self

    def note(self, file: BinaryIO) -> BinaryIO:
        """Counts a file that is the standard input, and is read without this."""
        with contextlib.suppress(OSError):  # no file of the system
            handle = file.fileno()
            self.bytes, self.start = os.fstat(handle).st_size, os.pread(handle, _START, 0)
        return file

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end, or when it is left."""
        assert self._file is not None
        try:
            self._wait()
            # Not read(), which waits for all bytes and keeps a lock that the interpreter's end wants.
            data: bytes = self._file.read1(size) if self._poll else self._file.read(size)  # type: ignore[attr-defined]
        except OSError:
            raise
        except BaseException as error:
            self._error = error
            return b""
        self.bytes += len(data)
        if len(self.start) < _START:
            self.start += data[:_START]
        return data

    def _wait(self) -> None:
        self.check()
        while self._poll is not None and not self._poll.poll(_LOOK):
            self.check()

    def hold(self, context: contextlib.AbstractContextManager[T]) -> T:
        """Enters what the source needs while it is read, and is left when this closes."""
        return self._held.enter_context(context)

    def close(self) -> None:
        """Closes a named pipe, and what is held."""
        self._held.close()
        if self._owned and self._file is not None:
            self._file.close()


class OutputPipe(_Callbacks):
    """The standard output where it is a pipe.

    Python's own buffer would keep its lock while nobody reads, and the interpreter could not end.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        file.flush()
        self._handle = file.fileno()

    def seekable(self) -> bool:
        """A pipe never is."""
        return False

    def write(self, data: bytes) -> int:
        """Writes all of it, or nothing more when it is left."""
        left = memoryview(data)
        try:
            while left and self._error is None:
                left = left[os.write(self._handle, left) :]
        except OSError:
            raise
        except BaseException as error:
            self._error = error
        return len(data)
