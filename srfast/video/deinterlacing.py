"""Whole frames of interlaced ones, by FFmpeg's bwdif filter: one for each, or one for each of its two fields."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from srfast.video.source import require_av

_LOOKED = 40  # frames that are looked at for repeated fields


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


def is_telecined(container: Any, stream: Any) -> bool:
    """True where the first frames look like film at 24 frames a second in 30: two of five repeat a field (3:2 pulldown).

    Always False with PyAV before 18, which does not tell what a filter found.
    """
    av = require_av()
    if not hasattr(av.VideoFrame, "metadata"):
        return False
    graph = av.filter.Graph()
    source, found = None, {}
    try:
        for frame in container.decode(stream):
            if source is None:
                source, idet, sink = graph.add_buffer(template=stream), graph.add("idet"), graph.add("buffersink")
                source.link_to(idet)
                idet.link_to(sink)
                graph.configure()
            graph.push(frame)
            with contextlib.suppress(av.error.BlockingIOError):
                found = dict(graph.pull().metadata)
            if _repeats(found)[1] >= _LOOKED:
                break
    except (av.error.FFmpegError, ValueError):
        return False
    repeated, seen = _repeats(found)
    # Two of five are 0.4; cuts and still pictures make it more or less.
    return seen >= _LOOKED // 2 and 0.25 <= repeated / seen <= 0.55


def _repeats(metadata: dict[str, str]) -> tuple[float, float]:
    """How many of the frames so far repeat a field, and of how many."""
    top, bottom, neither = (
        float(metadata.get(f"lavfi.idet.repeated.{kind}", 0)) for kind in ("top", "bottom", "neither")
    )
    return top + bottom, top + bottom + neither
