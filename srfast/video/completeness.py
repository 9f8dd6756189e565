"""Whether a file that was read to its end gave all the frames that it promises."""

from __future__ import annotations

import logging
import math
from fractions import Fraction
from typing import Any

from srfast.errors import FrameLossError
from srfast.video.damage import Steps
from srfast.video.decoding import Decoding

_log = logging.getLogger("srfast")
_LEAST = Fraction(1, 1000)  # seconds between two frames: a clock that many containers have


class FrameTimes:
    """The presentation times of the frames so far, made to rise.

    Args:
        rate: frames per second, None where unknown.
        time_base: seconds of one unit.
    """

    def __init__(self, rate: Fraction | None, time_base: Fraction) -> None:
        self.rate, self.time_base = rate, time_base
        self.last: int | None = None
        self.shown = 0  # units that the last frame says it shows
        self.longest = Fraction(0)  # seconds between two frames
        self.steps = Steps()
        self._least = max(1, math.ceil(_LEAST / time_base))
        self._usual = max(1, round(1 / (rate * time_base))) if rate else 1

    def add(self, frame: Any) -> tuple[int, int]:
        """Time and duration; where the file gives none, or one that has been, the next after the last frame."""
        pts, self.shown = frame.pts, int(frame.duration or 0)
        if self.last is not None and (pts is None or pts <= self.last):
            pts = self.last + (self._usual if pts is None else self._least)
        if self.last is not None:
            self.steps.add(pts - self.last)
            self.longest = max(self.longest, (pts - self.last) * self.time_base)
        self.last = int(pts or 0)
        return self.last, self.shown


def check(source: Decoding, times: FrameTimes, frames: int) -> None:
    """Adds to the damage what is missing; a file that was cut off can end without any error from its demuxer.

    Args:
        source: read to its end.
        times: of its frames.
        frames: how many came.

    Raises:
        FrameLossError: the source is strict and something is missing.
    """
    damage = source.damage
    cut = 0 if damage else source.cut_bytes
    missing, certain = _missing(source, times, frames, cut)
    # What the damage has counted would be counted twice.
    missing -= damage.lost
    gaps = times.steps.gaps()
    if missing > 0 and not certain and not (cut or damage):
        gaps, missing = gaps + missing, 0  # the last frame may just have been a long one
    if gaps > damage.lost:
        _log.warning("%s: the times leap over %d frames of its steady rate", source.label, gaps)
        damage.add("gaps", None, gaps)
    if missing > 0:
        message = f"{source.label} ends {missing} frames early ({frames} came): it is cut off or damaged"
    elif cut:
        message = f"{source.label} is {cut} bytes shorter than it says: it is cut off or damaged, and may miss frames"
    else:
        return
    if source.strict:
        raise FrameLossError(message)
    _log.warning("%s", message)
    end = float((times.last or 0) * times.time_base)
    damage.add("lost" if missing > 0 else "packets", end, max(missing, 1))


def _missing(source: Decoding, times: FrameTimes, frames: int, cut: int) -> tuple[int, bool]:
    """Frames that do not come after the last one, and whether that is certain."""
    if source.unread_bytes:
        return 1, True
    promised = source.promised or _counted_by_muxer(source)
    if promised > frames and (source.contradictory or not _has_edits(source, times, frames)):
        return promised - frames, True
    if promised and frames >= promised:
        return 0, True  # all that were counted; another stream may last longer
    # What is written into a pipe may tell the duration of what it was cut from; what tells its bytes was a file.
    if not (source.reopenable or cut) or not times.rate or source.damage.jumps:
        return 0, True  # where times were moved, the file's own duration tells nothing
    if "DURATION" in source.stream.metadata:
        # In the times of the frames that came.
        end = _clock(source.stream.metadata["DURATION"]) - (source.range.first or 0)
        return _missing_by_own_duration(end, times)
    return _missing_by_file_duration(source, times), True


def _counted_by_muxer(source: Decoding) -> int:
    """The number of frames in the statistics that mkvmerge writes; 0 if another program has rewritten the file since."""
    # Other programs copy these tags when they cut a file, and then the number is that of the whole.
    tags, file = source.stream.metadata, source.container.metadata
    if not file.get("encoder", "").startswith("libebml") or "NUMBER_OF_FRAMES" not in tags:
        return 0
    return int(tags["NUMBER_OF_FRAMES"]) if tags["NUMBER_OF_FRAMES"].isdigit() else 0


def _missing_by_own_duration(end: Fraction, times: FrameTimes) -> tuple[int, bool]:
    """By the end in seconds that Matroska tells of the video; where the rate is steady a single frame can be missed."""
    step = times.steps.usual()
    last = (times.last or 0) * times.time_base
    if step is not None:
        shown = max(step, times.shown) * times.time_base
        return max(0, round((end - last - shown) / (step * times.time_base))), False
    assert times.rate
    missing = int((end - last - times.shown * times.time_base) * times.rate)
    return (missing, True) if _is_long(missing, end - last, times) else (0, True)


def _missing_by_file_duration(source: Decoding, times: FrameTimes) -> int:
    """Frames between the last packet of any stream and the end that the header tells."""
    duration = source.container.duration
    start = Fraction(source.container.start_time or 0, 1_000_000) - source.origin
    if not duration or not source.ends:
        return 0
    assert times.rate
    left = Fraction(duration, 1_000_000) + max(start, Fraction(0)) - max(source.ends.values())
    missing = int(left * times.rate)
    return missing if _is_long(missing, left, times) else 0


def _is_long(frames: int, seconds: Fraction, times: FrameTimes) -> bool:
    """Few containers tell how long the last frame shows: it may be as long as any."""
    return frames > 2 and seconds > max(Fraction(1, 5), 2 * times.longest)


def _has_edits(source: Decoding, times: FrameTimes, frames: int) -> bool:
    """An edit list leaves out frames on purpose: then the stream's own duration is shorter than its frames."""
    duration = source.stream.duration
    if not duration or not times.rate:
        return False
    return bool(frames + 1 >= duration * times.time_base * times.rate)


def _clock(text: str) -> Fraction:
    """Seconds of ``HH:MM:SS.fraction``; 0 where it is something else."""
    try:
        hours, minutes, seconds = text.split(":")
        return Fraction(int(hours) * 3600 + int(minutes) * 60) + Fraction(seconds)
    except ValueError:
        return Fraction(0)
