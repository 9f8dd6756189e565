"""Packets without data, which tell a player to show the last frame again (Theora in Ogg)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from srfast.video.source import require_av


class Repeats:
    """Gives a frame once more for each empty packet after its own.

    A decoder on several threads gives its frames later: then the repeats wait for the frame that they repeat.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, list[int]] = {}  # by the time of a packet, those of the empty ones after it
        self._packet: int | None = None
        self._frame: Any = None

    def packet(self, pts: int | None) -> None:
        """A packet with data goes to the decoder."""
        self._packet = pts

    def again(self, pts: int) -> Iterator[Any]:
        """An empty packet came, to be shown at ``pts``: the last frame again, if it is out already."""
        if self._packet is None:
            return
        if self._frame is not None and self._frame.pts == self._packet:
            yield _copy(self._frame, pts)
        else:
            self._waiting.setdefault(self._packet, []).append(pts)

    def frame(self, frame: Any) -> list[Any]:
        """A frame came out: what is to be shown after it."""
        self._frame = frame
        if not self._waiting or frame.pts is None:
            return []
        return [_copy(frame, pts) for pts in self._waiting.pop(frame.pts, [])]


def _copy(frame: Any, pts: int) -> Any:
    """Another frame with the same planes."""
    again = require_av().VideoFrame(frame.width, frame.height, frame.format.name)
    for new, old in zip(again.planes, frame.planes, strict=True):
        data, rows = memoryview(old), old.height
        # Decoders pad rows for their own use, and the copy has another padding.
        if new.line_size != old.line_size:
            width = min(new.line_size, old.line_size)
            lines = (data[old.line_size * y : old.line_size * y + width] for y in range(rows))
            data = memoryview(b"".join(bytes(line).ljust(new.line_size, b"\0") for line in lines))
        new.update(data[: new.line_size * rows])
    again.pts, again.time_base, again.duration = pts, frame.time_base, frame.duration
    again.colorspace, again.color_range = frame.colorspace, frame.color_range
    return again
