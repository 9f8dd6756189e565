"""Decoding: the frames of a video stream and the packets of the other streams, in the file's order."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

from srfast.errors import FrameLossError, InputError
from srfast.frames import Array
from srfast.video.colour import Colour, colour_of, to_rgb
from srfast.video.damage import Damage, Expected, Holes, Steps, missing_bytes
from srfast.video.source import COPIED, InputOptions, Source, can_reopen, limit_size, open_source, reason, require_av

if TYPE_CHECKING:
    import av

_log = logging.getLogger("srfast")
_RETRIES = 50  # demuxer errors in a row without a packet between them
# Their packets may hold no frame to show, so that a packet without a frame is no loss.
_HIDING = ("vp8", "mpeg4", "msmpeg4v3", "gif", "webp", "apng")


@dataclass(frozen=True)
class RgbFrame:
    """A decoded frame.

    Attributes:
        image: [H, W, 3] RGB or [H, W, 4] RGBA, uint8 or uint16.
        pts: presentation time in units of the stream's time base.
        duration: in the same units; 0 where the file does not say.
    """

    image: Array
    pts: int
    duration: int


Item: TypeAlias = "RgbFrame | av.Packet[Any]"


class _DamagedError(Exception):
    """The fast decoder met damage; the careful one must take over."""


class VideoReader:
    """An open video.

    Damage does not end the reading: what it cost is counted in ``damage``. When a decoder on several threads meets some, the
    source is read again by one thread, which loses only what is damaged.

    Args:
        source: a file's path, '-' for the standard input, an address, a camera, or a pattern of numbered images.
        options: how to read it.
        strict: any damage is an error.

    Raises:
        InputError: it is missing, not a media file, or has no video that can be decoded.
    """

    def __init__(self, source: Source, options: InputOptions | None = None, *, strict: bool = False) -> None:
        self._av = require_av()
        self.path = os.fspath(source)
        self._source, self._options, self._strict = source, options or InputOptions(), strict
        self.reopenable = can_reopen(source)
        self.container = open_source(source, self._options)
        self._containers = [self.container]
        try:
            self._choose_stream()
            self._start()
        except BaseException:
            self.close()
            raise

    def _choose_stream(self) -> None:
        pictures = self._av.stream.Disposition.attached_pic
        videos = [s for s in self.container.streams.video if not (s.disposition & pictures)]
        if not videos:
            raise InputError(f"{self.path} has no video stream")
        self.stream = videos[0]
        context = self.stream.codec_context
        if context is None or not context.width or not context.format:
            raise InputError(
                f"the video stream of {self.path} cannot be decoded (no size or pixel format); it may be cut off"
            )
        limit_size(context)
        self.stream.thread_type = "AUTO" if self.reopenable else "SLICE"
        self.width, self.height = context.width, context.height
        self.time_base: Fraction = self.stream.time_base
        self.rate: Fraction | None = self.stream.average_rate or self.stream.guessed_rate

    def _start(self) -> None:
        """Reads up to the first frame, which tells more than the header does."""
        self.decoded = 0
        self.damage = Damage()
        self._given: dict[int, int] = {}
        self._careful = not self.reopenable
        self._last_pts: int | None = None
        self._longest, self._steps = Fraction(0), Steps()
        self._ends: dict[int, Fraction] = {}
        self._events = self._all_events()
        self._head: deque[Any] = deque()
        for event in self._events:
            self._head.append(event)
            if isinstance(event, self._av.VideoFrame):
                break
        else:
            raise InputError(f"{self.path} holds no frame that can be decoded")
        frame = self._head[-1]
        self.width, self.height = frame.width, frame.height
        self.format = self._av.VideoFormat((frame.sw_format or frame.format).name)
        self.colour: Colour = colour_of(self.stream.codec_context, frame, self.height, self.path)
        self.deep = max(component.bits for component in self.format.components) > 8
        self.alpha = any(component.is_alpha for component in self.format.components)
        self.interlaced = bool(frame.interlaced_frame)
        self.rotation = int(getattr(frame, "rotation", 0) or 0)
        self.display_matrix = _display_matrix(frame)

    @property
    def copied_streams(self) -> list[Any]:
        """The streams that go to the output as they are: all that are no video, and cover pictures."""
        pictures = self._av.stream.Disposition.attached_pic
        return [
            s
            for s in self._containers[0].streams
            if s.type in COPIED or (s.type == "video" and s.disposition & pictures)
        ]

    @property
    def expected_frames(self) -> int:
        """Frames as the header or the duration tells; 0 if neither does."""
        if self.stream.frames:
            return int(self.stream.frames)
        duration = self.container.duration
        return round(Fraction(duration, 1_000_000) * self.rate) if duration and self.rate else 0

    def items(
        self,
        streams: list[Any],
        limit: int | None = None,
        *,
        skip_frames: int = 0,
        skip_packets: dict[int, int] | None = None,
    ) -> Iterator[Item]:
        """Frames of the video and packets of ``streams``, in the order of the file; once for each reader.

        Args:
            streams: which other streams to give.
            limit: number of frames after which the video ends; packets that start after it are left out.
            skip_frames: leave out as many frames, which count as decoded.
            skip_packets: by stream index, leave out as many packets.

        Raises:
            InputError: the reader is strict and the data is damaged.
            FrameLossError: the reader is strict and frames are missing.
        """
        wanted = {s.index for s in streams}
        end: Fraction | None = None
        waiting: list[Any] = []  # with a limit: packets that may start after its last frame
        skip = dict(skip_packets or {})
        for event in self._replayed():
            if not isinstance(event, self._av.VideoFrame):
                if event.stream.index not in wanted:
                    continue
                if skip.get(event.stream.index, 0):
                    skip[event.stream.index] -= 1
                elif limit is None or (end is not None and _time(event) < end):
                    yield event
                elif end is None:
                    waiting.append(event)
                continue
            if end is not None:
                if Fraction(event.pts or 0) * self.time_base > end + 10:
                    return  # other streams lag behind the video's file order by less than these seconds
                continue
            pts, duration = self._timed(event)
            self.decoded += 1
            until = (pts + duration) * self.time_base
            yield from (p for p in waiting if _time(p) < until)
            waiting = [p for p in waiting if _time(p) >= until]
            if self.decoded > skip_frames:
                yield RgbFrame(self._to_rgb(event), pts, duration)
            if self.decoded == limit:
                end = until
        if limit is None:
            self._check_complete()

    def _replayed(self) -> Iterator[Any]:
        while self._head:
            yield self._head.popleft()
        yield from self._events

    def _to_rgb(self, frame: Any) -> Array:
        if (frame.width, frame.height) != (self.width, self.height):
            self._damaged("resized", float(frame.pts * self.time_base) if frame.pts is not None else None)
        return to_rgb(frame, self.colour, self.deep, self.alpha, (self.width, self.height))

    def _timed(self, frame: Any) -> tuple[int, int]:
        """Time and duration; where the file gives none, or one that has been, the next after the last frame."""
        step = max(1, round(1 / (self.rate * self.time_base))) if self.rate else 1
        duration = int(frame.duration or 0)
        pts = frame.pts
        if self._last_pts is not None and (pts is None or pts <= self._last_pts):
            pts = self._last_pts + (step if pts is None else 1)
        if self._last_pts is not None:
            self._steps.add(pts - self._last_pts)
            self._longest = max(self._longest, (pts - self._last_pts) * self.time_base)
        self._last_pts = int(pts or 0)
        return self._last_pts, duration

    def _all_events(self) -> Iterator[Any]:
        """Decoded frames and packets of all other streams; after damage, again from the start by the careful way."""
        while True:
            skip = dict(self._given)
            try:
                for event in self._one_pass():
                    index = self.stream.index if isinstance(event, self._av.VideoFrame) else event.stream.index
                    if skip.get(index, 0):
                        skip[index] -= 1
                        continue
                    self._given[index] = self._given.get(index, 0) + 1
                    yield event
                return
            except _DamagedError:
                self._reopen_carefully()

    def _reopen_carefully(self) -> None:
        _log.info("%s is damaged: reading it again on one thread", self.path)
        self._careful, self.damage = True, Damage()
        self.container = open_source(self._source, self._options)
        self._containers.append(self.container)
        self.stream = self.container.streams[self.stream.index]
        limit_size(self.stream.codec_context)
        self.stream.thread_type = "SLICE"
        self.stream.codec_context.thread_count = 1

    def _one_pass(self) -> Iterator[Any]:
        self._expected = Expected()
        holes = Holes() if "matroska" in self.container.format.name else None
        hiding = self.stream.codec_context.name in _HIDING
        for packet in self._packets():
            if holes is not None and holes.before(packet.pos, packet.size):
                self._damaged("packets", None if packet.pts is None else float(packet.pts * packet.time_base))
            if packet.stream.index != self.stream.index:
                if packet.size and (packet.stream.type != "video" or _is_picture(self._av, packet.stream)):
                    self._note_end(packet)
                    yield packet
                continue
            time = None if packet.pts is None else float(packet.pts * packet.time_base)
            if packet.size:
                self._note_end(packet)
                if packet.is_corrupt:
                    self._damaged("packets", time)
                if not packet.is_discard and not hiding:
                    self._expected.packet(packet.pts, packet.is_keyframe)
            yield from self._decode(packet, time)
            for pts in self._expected.missing():
                self._damaged("lost", float(pts * self.time_base))
        for pts in self._expected.missing(end=True):
            self._damaged("lost", float(pts * self.time_base))

    def _decode(self, packet: Any, time: float | None) -> Iterator[Any]:
        try:
            frames = packet.decode()
        except self._av.error.EOFError:
            return
        except (self._av.error.FFmpegError, OSError, ValueError):
            self._damaged("packets", time)
            return
        for frame in frames:
            self._expected.frame(frame.pts)
            if frame.is_corrupt:
                self._damaged("concealed", None if frame.pts is None else float(frame.pts * self.time_base))
            yield frame

    def _packets(self) -> Iterator[Any]:
        """Packets of all streams; a demuxer that fails is asked again."""
        failures = 0
        while failures < _RETRIES:
            try:
                for packet in self.container.demux():
                    failures = 0
                    yield packet
                return
            except (self._av.error.FFmpegError, OSError) as error:
                if failures == 0:
                    self._damaged("packets", None)
                    _log.info("%s: %s", self.path, reason(error))
                failures += 1
        end = self._av.Packet()  # the decoder still holds frames after the demuxer gave up
        end.stream = self.stream
        yield end

    def _damaged(self, kind: str, time: float | None) -> None:
        where = "" if time is None else f" at {time:.3f} s"
        if self._strict:
            what = "misses a frame" if kind == "lost" else "is damaged or cut off"
            raise InputError(f"{self.path} {what}{where}; leave --strict out to go on")
        if not self._careful and kind != "resized":
            raise _DamagedError
        if not self.damage:
            _log.warning("%s is damaged%s; going on", self.path, where)
        self.damage.add(kind, time)

    def _note_end(self, packet: Any) -> None:
        end = _time(packet) + Fraction(packet.duration or 0) * packet.time_base
        self._ends[packet.stream.index] = max(end, self._ends.get(packet.stream.index, end))

    def _check_complete(self) -> None:
        """A file that was cut off can end without any error from its demuxer."""
        gaps = self._steps.gaps()
        if gaps > self.damage.lost:
            _log.warning("%s: the times leap over %d frames of its steady rate", self.path, gaps)
            self.damage.add("gaps", None, gaps)
        missing = (self._missing_by_count() or self._missing_by_time()) - self.damage.lost
        cut = missing_bytes(self.path) if self.reopenable and not self.damage else 0
        if missing > 0:
            message = f"{self.path} ends {missing} frames early ({self.decoded} came): it is cut off or damaged"
        elif cut:
            message = f"{self.path} is {cut} bytes shorter than it says: it is cut off or damaged, and may miss frames"
        else:
            return
        if self._strict:
            raise FrameLossError(message)
        _log.warning("%s", message)
        end = float((self._last_pts or 0) * self.time_base)
        self.damage.add("lost" if missing > 0 else "packets", end, max(missing, 1))

    def _missing_by_count(self) -> int:
        promised = int(self.stream.frames)
        return promised - self.decoded if promised > self.decoded and not self._has_edits() else 0

    def _missing_by_time(self) -> int:
        """Frames between the last packet of any stream and the end that the header tells."""
        duration, start = self.container.duration, self.container.start_time or 0
        if not duration or not self.rate or not self._ends or not self.reopenable:
            return 0
        if "DURATION" in self.stream.metadata:
            end, last = _clock(self.stream.metadata["DURATION"]), self._ends[self.stream.index]
        else:
            end, last = Fraction(duration + max(start, 0), 1_000_000), max(self._ends.values())
        missing = int((end - last) * self.rate)
        # Few containers tell how long the last frame shows: it may be as long as any.
        return missing if missing > 2 and end - last > max(Fraction(1, 5), 2 * self._longest) else 0

    def _has_edits(self) -> bool:
        """An edit list leaves out frames on purpose: then the stream's own duration is shorter than its frames."""
        duration, rate = self.stream.duration, self.rate
        if not duration or not rate:
            return False
        return bool(self.decoded + 1 >= duration * self.time_base * rate)

    def close(self) -> None:
        """Closes the file."""
        for container in self._containers:
            container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _is_picture(av: Any, stream: Any) -> bool:
    return bool(stream.type == "video" and stream.disposition & av.stream.Disposition.attached_pic)


def _time(packet: av.Packet[Any]) -> Fraction:
    """Decoding time in seconds, or the presentation time where the file has no other."""
    ticks = packet.dts if packet.dts is not None else packet.pts or 0
    return Fraction(ticks * packet.time_base)


def _clock(text: str) -> Fraction:
    """Seconds of ``HH:MM:SS.fraction``; 0 where it is something else."""
    try:
        hours, minutes, seconds = text.split(":")
        return Fraction(int(hours) * 3600 + int(minutes) * 60) + Fraction(seconds)
    except ValueError:
        return Fraction(0)


def _display_matrix(frame: Any) -> tuple[int, ...] | None:
    """The nine integers of the display matrix, where a player turns or mirrors the video."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else tuple(memoryview(bytes(data)).cast("i"))
