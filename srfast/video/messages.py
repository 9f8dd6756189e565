"""What FFmpeg says about an error, which its error codes do not."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from srfast.video.source import require_av

try:
    from srfast import _ffmpeg
except ImportError:  # not built: errors have their codes alone
    _ffmpeg = None  # type: ignore[assignment]

ERROR = 16  # AV_LOG_ERROR; what is more important has a lower number
Message = tuple[int, str]  # level and text

_lock = threading.Lock()
_users = 0


@contextmanager
def messages() -> Iterator[Callable[[], list[Message]]]:
    """Keeps the errors and warnings of FFmpeg in this thread; the function that it gives returns them, in the block.

    Those of other threads are not among them, and lost: PyAV's capture would wait for Python in FFmpeg's threads, for which
    PyAV waits in turn (csrc/video/ffmpeg.cpp). A log level that the program has chosen for PyAV is in force again afterwards.

    Examples:
        >>> import av
        >>> with messages() as said:
        ...     try:
        ...         _ = av.open("nowhere.mp4")
        ...     except FileNotFoundError:
        ...         said()
        []
    """
    if _ffmpeg is None:
        yield list
        return
    _start()
    try:
        yield _said
    finally:
        _stop()


def _said() -> list[Message]:
    return [(level, text.decode(errors="backslashreplace")) for level, text in _ffmpeg.said()]


def _start() -> None:
    global _users
    av = require_av()
    # PyAV's module is linked with FFmpeg's libraries, wherever they lie, and looks their functions up in them.
    function = ctypes.CDLL(av._core.__file__).av_log_set_callback
    with _lock:
        _users += 1
        _ffmpeg.start(ctypes.cast(function, ctypes.c_void_p).value or 0)


def _stop() -> None:
    global _users
    av = require_av()
    _ffmpeg.stop()
    with _lock:
        _users -= 1
        if not _users:
            # Setting a level puts PyAV's own function back in the place of ours.
            av.logging.set_level(av.logging.get_level())
