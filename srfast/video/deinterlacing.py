"""Whole frames of interlaced ones, by FFmpeg's bwdif filter: one for each, or one for each of its two fields."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from srfast.video.source import require_av


class Deinterlacer:
    """Makes each frame progressive; frames that are not interlaced pass unchanged. It holds one frame back.

    Args:
        frame: the first one.
        time_base: of the frames' times.
        result: of the times of the frames that are made.
        fields: make a frame of each field.
    """

    def __init__(self, frame: Any, time_base: Fraction, result: Fraction, *, fields: bool = False) -> None:
        av = require_av()
        self._time_base, self._result, self.size = time_base, result, (frame.width, frame.height)
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=time_base
        )
        bwdif = self._graph.add("bwdif", f"mode={'send_field' if fields else 'send_frame'}:deint=interlaced")
        sink = self._graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        self._graph.configure()
        self._over = (av.error.BlockingIOError, av.error.EOFError)

    def __call__(self, frame: Any | None) -> Iterator[Any]:
        """The frames that are ready after one more, or after the last (None)."""
        if frame is not None:
            frame.time_base = self._time_base
        self._graph.push(frame)
        while True:
            try:
                made = self._graph.pull()
            except self._over:
                return
            if made.pts is not None:  # bwdif counts in half units
                made.pts = round(made.pts * made.time_base / self._result)
                made.duration = round((made.duration or 0) * made.time_base / self._result)
                made.time_base = self._result
            yield made
