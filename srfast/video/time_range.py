"""A part of a video, from one time to another: which frames and packets it holds, and their times in it."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av

_MICRO = 1_000_000
_HALF = Fraction(1, 2)  # of a microsecond
_GROUPS = 2  # of pictures before the start, from key frame to key frame: after a gradual refresh one is not enough
_MOST = 4096  # packets that wait for a key frame


@dataclass(frozen=True)
class Part:
    """A part of a video that is read by itself; its frames keep the times that they have in the whole.

    Attributes:
        first, last: its frames are shown from ``first`` to before ``last``, in units of the video's stream and its
            container's own times; None for the beginning and the end.
        start: decoding time of a key frame from which it can be read, None for the beginning of the file.
    """

    first: int | None = None
    last: int | None = None
    start: int | None = None


class TimeRange:
    """A range of times from the beginning of the container; what is in it begins at zero.

    Its bounds are the first frame times at or after those that are given, but for half a microsecond: people round.

    Args:
        start, end: seconds, None for the beginning and the end.
        origin: the container's own first time in microseconds, None for 0.
        base: the time base of the video.

    Attributes:
        first, last: seconds in the container's own times, None where there is no such bound.
        until: seconds of the end in the range's times.
    """

    def __init__(self, start: float | None, end: float | None, origin: int | None, base: Fraction) -> None:
        self._start, self._end = (None if t is None else Fraction(round(t * _MICRO), _MICRO) for t in (start, end))

        def own(time: Fraction | None) -> Fraction | None:
            return None if time is None else math.ceil((time + ((origin or 0) - _HALF) / _MICRO) / base) * base

        self.first, self.last = own(self._start), own(self._end)
        self._shift = self.first or Fraction(0)
        self.until = None if self.last is None else self.last - self._shift

    def narrowed(self, part: Part, base: Fraction) -> TimeRange:
        """The range of a part, whose frames have the times that they have in this one."""
        made = copy.copy(self)
        starts = [
            bound for bound in (self.first, None if part.first is None else part.first * base) if bound is not None
        ]
        ends = [bound for bound in (self.last, None if part.last is None else part.last * base) if bound is not None]
        made.first, made.last = max(starts, default=None), min(ends, default=None)
        made.until = None if made.last is None else made.last - self._shift
        return made

    def holds(self, time: float) -> bool:
        """Whether a time in seconds, of the container's own, lies in it."""
        return (self.first is None or time >= self.first) and (self.last is None or time < self.last)

    def __bool__(self) -> bool:
        return self.first is not None or self.last is not None

    def frame(self, frame: Any, base: Fraction) -> bool:
        """Moves a frame to its time in the range; False for one before it."""
        if self.first is None or frame.pts is None:
            return True
        # ``first`` is a time of the video's own clock, so that both divisions give whole numbers.
        early = frame.pts < int(self.first / base)
        frame.pts -= int(self._shift / base)
        return not early

    def packet(self, packet: av.Packet[Any]) -> bool:
        """Moves a packet of another stream; False for one before the range. A subtitle that is still shown is shortened."""
        if self.first is None or packet.time_base is None:
            return True
        shift = round(self.first / packet.time_base)
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is None:
            return True
        if shown * packet.time_base < self.first - _HALF / _MICRO:
            left = shown + (packet.duration or 0) - shift
            if packet.stream.type != "subtitle" or left <= 0:
                return False
            packet.duration, packet.pts, packet.dts = left, shift, shift
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        return True

    def chapters(self, chapters: list[Any]) -> list[Any]:
        """The chapters in the range, at their times in it."""
        if not self:
            return chapters
        kept = []
        for chapter in chapters:
            base = chapter["time_base"]
            first = round((self.first or 0) / base)
            last = chapter["end"] if self.last is None else min(chapter["end"], round(self.last / base))
            begin = max(chapter["start"], first)
            if begin < last:
                kept.append(chapter | {"start": begin - first, "end": last - first})
        return kept

    def length(self, duration: Fraction) -> Fraction:
        """Seconds that it takes of a video that lasts ``duration``."""
        end = duration if self._end is None else min(duration, self._end)
        return max(Fraction(0), end - (self._start or 0))


# Codecs whose samples lie one after the other, and their bits.
_PLAIN = re.compile(r"pcm_(?:[suf](8|16|24|32|64)(?:le|be)?|alaw|mulaw)")


def can_be_cut(stream: Any) -> bool:
    """Return whether a sound is cut at samples; others are cut at their packets."""
    return stream.type == "audio" and _PLAIN.fullmatch(stream.codec_context.name) is not None


def cut_sound(packet: Any, first: Fraction | None, last: Fraction | None) -> Any:
    """Return the part of a packet of PCM from ``first`` to ``last`` seconds of its own times; the packet where it is all."""
    begin = packet.pts if packet.pts is not None else packet.dts
    if begin is None or not packet.size or not can_be_cut(packet.stream):
        return packet
    context = packet.stream.codec_context
    bits = _PLAIN.fullmatch(context.name)
    size = int(bits[1] or 8) // 8 * context.channels if bits else 1
    rate, time, count = context.sample_rate, begin * packet.time_base, packet.size // size
    start = 0 if first is None else min(max(0, math.ceil((first - time) * rate)), count)
    stop = count if last is None else max(min(count, math.ceil((last - time) * rate)), start)
    if stop - start in (0, count):
        return packet
    ticks = 1 / (rate * packet.time_base)
    made = type(packet)(bytes(packet)[start * size : stop * size])
    made.stream, made.time_base, made.is_keyframe = packet.stream, packet.time_base, packet.is_keyframe
    made.pts = made.dts = begin + math.ceil(start * ticks)  # before the range it would be left out
    made.duration = round((stop - start) * ticks)
    return made


class Approach:
    """Keeps packets of a video from the decoder until shortly before a time: what is not shown need not be decoded.

    Decoding begins two key frames before the time, so that what is shown does not depend on what is left out.

    Args:
        start: in units of the stream, None where all is decoded.

    Attributes:
        skipped: packets that never went to the decoder.
    """

    def __init__(self, start: Fraction | None) -> None:
        self._start, self.skipped = start, 0
        self._groups: list[list[Any]] = [[]]

    def __call__(self, packet: av.Packet[Any]) -> Iterator[av.Packet[Any]]:
        """The packets that are due after one more; one without data is the end."""
        if self._start is None:
            yield packet
            return
        decoded = packet.dts if packet.dts is not None else packet.pts
        shown = packet.pts if packet.pts is not None else packet.dts
        waiting = sum(map(len, self._groups))
        if not packet.size or decoded is None or decoded >= self._start or waiting >= _MOST:
            self._start = None
            for group in self._groups:
                yield from group
            self._groups = []
            yield packet
            return
        if packet.is_keyframe and shown is not None and shown <= self._start:
            if len(self._groups) > _GROUPS - 1:
                self.skipped += sum(not gone.is_discard for gone in self._groups.pop(0))
            self._groups.append([])
        self._groups[-1].append(packet)
