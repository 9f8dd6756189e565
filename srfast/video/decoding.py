"""Decoding through damage: frames of one video stream and packets of the others, as the file has them."""

from __future__ import annotations

import functools
import io
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from srfast.errors import InputError
from srfast.video.animation import is_whole_gif
from srfast.video.boxes import outlasts_itself
from srfast.video.colour import declared_tags
from srfast.video.damage import Damage, Expected
from srfast.video.deinterlacing import is_telecined
from srfast.video.matroska import Holes, missing_after, missing_bytes
from srfast.video.pipe import CountedPipe
from srfast.video.rate import REPEATING, frame_rate, sample_times
from srfast.video.repeats import Repeats
from srfast.video.source import (
    InputOptions,
    Source,
    can_reopen,
    is_sequence,
    label,
    limit_size,
    open_source,
    reason,
    require_av,
)
from srfast.video.time_range import Approach, Part, TimeRange
from srfast.video.timeline import Bare, HiddenSound, Slots, Timeline, clock_start
from srfast.video.untrusted import Limits, check_header

if TYPE_CHECKING:
    import av

_log = logging.getLogger("srfast")
T = TypeVar("T")
_RETRIES = 50  # demuxer errors in a row without a packet between them
# Their packets may hold no frame to show, so that a packet without a frame is no loss.
_HIDING = ("vp8", "mpeg4", "msmpeg4v3", "gif", "webp", "apng")

# Their alpha is a second stream in the container's packets, which only libvpx reads.
_ALPHA_APART = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

# FFmpeg covers up errors in these. What it makes of one, and whether a frame says that it has one, changes from run to run with
# the timing of its threads: a frame may be given before the thread that decodes it has met the error.
CONCEALED = ("h264", "mpeg1video", "mpeg2video", "mpeg4")


class _DamagedError(Exception):
    """The fast decoder met damage, and the careful one must take over; or one that has not seen all frames before."""


# Demuxers, and what they cannot read from a pipe.
_WANTS_FILE = {
    "mov,mp4,m4a,3gp,3g2,mj2": "an MP4 with its index at the end needs a file, not a pipe; else it may be cut off",
    "webp_pipe": "an animated WebP needs a file, not a pipe",
}


class Decoding:
    """An open container and the decoder of its video.

    Args:
        source, options, strict: as for ``VideoReader``.

    Attributes:
        container, stream: those in use; damage replaces them by newly opened ones.
        first_container: the one that was opened first, whose streams the copied packets name.
        damage: what has been found so far.
        tags: the container's colour tags.
        contradictory: its frames last longer than its header says, so that an edit list hides some by mistake.
        promised: frames to be shown by the container's own count, 0 where it has none.
        ends: by stream index, the end of its last packet in seconds.
        origin: seconds of the container's clock that its times count from.
        range: the part of it that is asked for.
        skipped: packets of the video before that part which were not decoded.
        part: what was chosen with ``narrow``.
    """

    def __init__(self, source: Source, options: InputOptions, strict: bool) -> None:
        self._av = require_av()
        self.path, self.label = os.fspath(source), label(source)
        self._pipe = CountedPipe()
        self._read = 0  # bytes up to the end of the video's last packet
        self._source, self._options, self.strict = source, options, strict
        self.reopenable = can_reopen(source)
        self.container = self.first_container = open_source(source, options, self._pipe)
        self._containers = [self.container]
        self.damage = Damage()
        self.ends: dict[int, Fraction] = {}
        self._given: dict[int, int] = {}
        self._last: dict[int, int | None] = {}
        self._first_pts: int | None = None
        self.skipped = 0
        self.part: Part | None = None
        self._sees_all = False
        self._passing = False
        try:
            self._choose_stream()
            base = self.stream.time_base
            self.origin = clock_start(self.container)
            begin = None if self.origin else self.container.start_time
            self.range = TimeRange(options.start, options.end, begin, base)
            hidden = _hidden_frames(self.container, self.stream)  # while no other thread reads the index
            self.contradictory = (
                bool(hidden) and os.path.isfile(self.path) and outlasts_itself(self.path, self.stream.id)
            )
            self.promised = _promised_frames(self.container, self.stream, 0 if self.contradictory else hidden)
            if options.untrusted is not None:
                check_header(self.container, self.stream, self.promised, options.untrusted, self.label)
        except BaseException:
            self.close()
            raise

    def _choose_stream(self) -> None:
        pictures = self._av.stream.Disposition.attached_pic
        videos = [s for s in self.container.streams.video if not (s.disposition & pictures)]
        self.is_avif = self.container.metadata.get("major_brand") in ("avif", "avis")
        if self.is_avif:  # the still picture comes before the animation
            videos.sort(key=lambda s: s.frames <= 1)
        if not videos:
            raise InputError(f"{self.label} has no video stream")
        self.stream = videos[0]
        context = self.stream.codec_context
        if context is None or not context.width or not context.format:
            if self._options.untrusted is not None:  # what would tell its size was not allowed to
                raise InputError(
                    f"the video stream of {self.label} cannot be decoded: it is cut off, or its frames have more than "
                    f"{self._options.untrusted.pixels} pixels, which are allowed"
                )
            raise InputError(
                f"the video stream of {self.label} cannot be decoded (no size or pixel format); "
                + (
                    "it may be cut off"
                    if self.reopenable
                    else _WANTS_FILE.get(self.container.format.name, "it may be cut off")
                )
            )
        self.tags = declared_tags(context)
        limit_size(context, self._options)
        self._careful = not self.reopenable or context.name in CONCEALED
        self._set_threads()
        self._alpha_decoder = self._decoder_of_alpha()

    def _set_threads(self) -> None:
        # Frame threads lose more frames around damage than are damaged. A file is then read again with one; a pipe cannot
        # be, so it never has them.
        context = self.stream.codec_context
        self.stream.thread_type = "SLICE" if self._careful else "AUTO"
        if self._careful and (self.reopenable or context.name in CONCEALED):
            context.thread_count = 1

    def rate(self) -> Fraction | None:
        """Frames per second by the times of the first frames."""
        told = [self.stream.average_rate, self.stream.guessed_rate, self.stream.base_rate]
        times, whole = self.first_times
        if not times and "framerate" not in self._options.options and (self._sampled or self._is_bare):
            told.insert(0, self.stream.codec_context.framerate or None)  # as the codec's own headers tell it
        return frame_rate(told, times, self.stream.time_base, whole)

    @property
    def _is_bare(self) -> bool:
        return self.container.format.name in Bare.FORMATS

    @property
    def _sampled(self) -> bool:
        return self.reopenable and not is_sequence(self._source)

    @functools.cached_property
    def first_times(self) -> tuple[list[int], bool]:
        """Times of the first frames and whether these are all, for which a file is opened once more; of others none."""
        if self._is_bare and "framerate" in self._options.options:
            return [], False  # the given rate counts, not how long frames say that they are shown
        return self.look(sample_times) or ([], False)

    @functools.cached_property
    def telecined(self) -> bool:
        """Whether the first frames of an interlaced file look like film with repeated fields."""
        return bool(self.look(is_telecined))

    def look(self, function: Callable[[Any, Any], T]) -> T | None:
        """What a function finds in the video stream of a container of its own; None if it cannot be read again."""
        if not self._sampled:
            return None
        pipe = CountedPipe()
        try:
            with open_source(self._source, replace(self._options, hwaccel=None), pipe) as container:
                return function(container, container.streams[self.stream.index])
        except (self._av.error.FFmpegError, OSError, InputError):  # it is damaged; the frames themselves will tell
            return None
        finally:
            pipe.close()

    def events(self) -> Iterator[Any]:
        """Decoded frames and packets of all other streams; after damage, again from the start by the careful way."""
        while True:
            # What the first pass has given already is right: it is only counted the second time, not given again. One that
            # begins earlier gives other frames before: there the last that was given tells.
            skip, until = ({}, dict(self._last)) if self._sees_all else (dict(self._given), {})
            try:
                for event in self._one_pass():
                    index = self.stream.index if isinstance(event, self._av.VideoFrame) else event.stream.index
                    if skip.get(index, 0):
                        skip[index] -= 1
                        continue
                    stamp = event.dts if event.pts is None else event.pts
                    if index in until:
                        if stamp == until[index]:
                            del until[index]
                        continue
                    self._given[index] = self._given.get(index, 0) + 1
                    self._last[index] = stamp
                    if self._options.untrusted is not None and index == self.stream.index:
                        self._check_frame(event, self._options.untrusted)
                    yield event
                return
            except _DamagedError:
                self._reopen_carefully()

    def narrow(self, part: Part) -> None:
        """Gives only a part of a file from now on, read from its own key frame; what has been given does not count."""
        self.part, self.range = part, self.range.narrowed(part, self.stream.time_base)
        self._given, self._last, self.ends, self.damage, self._sees_all = {}, {}, {}, Damage(), False
        self._reopen()

    def pass_video(self) -> None:
        """Decodes no more: only the packets of the other streams still come, and damage is not counted."""
        self._passing, self._expected = True, Expected()

    def _check_frame(self, frame: Any, limits: Limits) -> None:
        """Holds the frames that come to the limits of an untrusted file."""
        seconds = None
        if frame.pts is not None:
            self._first_pts = frame.pts if self._first_pts is None else self._first_pts
            seconds = (frame.pts - self._first_pts) * self.stream.time_base
        limits.check_frame(self._given[self.stream.index], seconds, self.label)

    def _reopen_carefully(self) -> None:
        if not self._careful:
            _log.info("%s is damaged: reading it again on one thread", self.label)
        self._careful, self.damage = True, Damage()
        self._reopen()

    def _reopen(self) -> None:
        self.container = open_source(self._source, self._options, self._pipe)
        self._containers.append(self.container)
        self.stream = self.container.streams[self.stream.index]
        limit_size(self.stream.codec_context, self._options)
        self._set_threads()
        self._alpha_decoder = self._decoder_of_alpha()

    def _decoder_of_alpha(self) -> Any:
        """libvpx for VP8 and VP9 with alpha: FFmpeg's own decoders leave it out. None for other videos."""
        context = self.stream.codec_context
        if context.name not in _ALPHA_APART or self.stream.metadata.get("alpha_mode") != "1":
            return None
        name = _ALPHA_APART[context.name]
        if name not in self._av.codecs_available:
            _log.warning("%s: this FFmpeg lacks %s, which reads alpha, so it is left out", self.label, name)
            return None
        decoder = self._av.CodecContext.create(name, "r")
        decoder.extradata = context.extradata
        limit_size(decoder, self._options)
        return decoder

    def _one_pass(self) -> Iterator[Any]:
        self._expected = Expected()
        holes = Holes() if "matroska" in self.container.format.name else None
        hiding, hidden = self.stream.codec_context.name in _HIDING, HiddenSound()
        timeline = Timeline(self.container.format.name, self.label, self.origin)
        self._slots = Slots() if self.container.format.name == "avi" else None
        self._repeats = Repeats() if self.stream.codec_context.name in REPEATING else None
        self._bare = self._bare_times() if self._is_bare else None
        counted = any(
            one is not None for one in (self._repeats, self._slots, self._bare)
        )  # times follow from all frames before
        start = None if counted or self._sees_all else self.range.first
        before = Approach(None if start is None else start / self.stream.time_base)
        for packet in (
            self._packets()
            if self.part is None or self.part.start is None or self._sees_all
            else self._packets_of(self.part.start)
        ):
            if timeline.move(packet) and not self._passing:
                self.damage.add("jumps", float(packet.dts * packet.time_base))
            if holes is not None and holes.before(packet.pos, packet.size, _beside(packet)):
                self.damaged("packets", None if packet.pts is None else float(packet.pts * packet.time_base))
            if packet.stream.index == self.stream.index:
                for one in before(packet):
                    for frame in self._video(one, hiding):
                        past = self._is_past(frame)
                        if past:
                            self._end_part()
                        yield frame
                        if past:
                            return
                continue
            if hidden(packet):
                continue
            if packet.size:
                self._note_end(packet)
                yield packet
        self.skipped = before.skipped
        if holes is not None and self.reopenable and holes.at_end(self.path):
            self.damaged("packets", None)
        for pts in self._expected.missing(end=True):
            self.damaged("lost", float(pts * self.stream.time_base))

    def _bare_times(self) -> Bare:
        step = 1 / ((self.rate() or 25) * self.stream.time_base)
        return Bare(step if "framerate" in self._options.options else None, step)

    def _is_past(self, frame: Any) -> bool:
        """True for the first frame after a part."""
        return self.part is not None and self.part.last is not None and (frame.pts or 0) >= self.part.last

    def _end_part(self) -> None:
        """Counts the frames that a part lacks: a frame after it is there."""
        assert self.part is not None and self.part.last is not None
        for pts in self._expected.missing(end=True):
            if pts < self.part.last:
                self.damaged("lost", float(pts * self.stream.time_base))

    def _packets_of(self, start: int) -> Iterator[Any]:
        """Packets from a key frame on; from the file's beginning where the container does not find it."""
        index, packets = self.stream.index, self._packets()
        try:
            self.container.seek(start, stream=self.stream)
            first = next((packet for packet in packets if packet.stream.index == index), None)
            stamp = None if first is None else first.dts if first.dts is not None else first.pts
            if first is not None and first.size and stamp is not None and stamp <= start:
                yield first
                yield from packets
                return
        except (self._av.error.FFmpegError, OSError) as error:
            _log.info("%s: %s", self.label, reason(error))
        _log.info("%s: its index does not lead to %d, so it is read from its beginning", self.label, start)
        self._reopen()
        yield from self._packets()

    def _video(self, packet: Any, hiding: bool) -> Iterator[Any]:
        """The frames that are there after one more packet of the video."""
        time = None if packet.pts is None else float(packet.pts * packet.time_base)
        if packet.size:
            self._note_end(packet)
            self._read = (packet.pos or 0) + packet.size
        if self._passing:
            return
        if packet.size:
            if packet.is_corrupt or (self.stream.codec_context.name == "gif" and not is_whole_gif(bytes(packet))):
                self.damaged("packets", time)
            if self._slots is not None:
                self._slots.packet(packet.dts)
            if self._repeats is not None:
                self._repeats.packet(packet.pts)
            if not packet.is_discard and not hiding:
                self._expected.packet(packet.pts, packet.is_keyframe)
        if self._repeats is not None and packet.size == 0 and packet.pts is not None:
            yield from self._repeats.again(packet.pts)  # no data is the way to say: as before
            return
        yield from self._decode(packet, time)
        for pts in self._expected.missing():
            self.damaged("lost", float(pts * self.stream.time_base))

    @property
    def unread_bytes(self) -> int:
        """Bytes after the last frame of a Y4M, whose demuxer drops a part of a frame in silence; 0 for other formats."""
        if self.container.format.name != "yuv4mpegpipe":
            return 0
        if os.path.isfile(self.path):
            return os.path.getsize(self.path) - self._read
        return max(0, self._pipe.bytes - self._read)

    @property
    def cut_bytes(self) -> int:
        """By how many bytes a Matroska is shorter than it says; 0 for other formats."""
        if self.reopenable:
            return missing_bytes(self.path)
        return missing_after(io.BytesIO(self._pipe.start), self._pipe.bytes)

    def _decode(self, packet: Any, time: float | None) -> Iterator[Any]:
        try:
            frames = packet.decode() if self._alpha_decoder is None else self._alpha_decoder.decode(packet)
        except self._av.error.EOFError:
            return
        except (self._av.error.FFmpegError, OSError, ValueError):
            if self._slots is not None:
                self._slots.failed(packet.dts)
            self.damaged("packets", time)
            return
        for frame in frames:
            self._expected.frame(frame.pts)
            if frame.is_corrupt:
                self._see_all()
                self.damaged("concealed", None if frame.pts is None else float(frame.pts * self.stream.time_base))
            repeats = self._repeats.frame(frame) if self._repeats is not None else ()
            if self._slots is not None:
                frame.pts = self._slots.frame(frame.pts)
            if self._bare is not None:
                frame.pts = self._bare.frame(frame.duration)
            yield frame
            yield from repeats

    def _see_all(self) -> None:
        """Has a part read again from the file's beginning: what covers an error up depends on the frames before, however far.

        FFmpeg takes it from the buffers that earlier frames lay in. So a part shows what the whole does.
        """
        if self.part is not None and not self._sees_all:
            self._sees_all = True
            raise _DamagedError

    def _packets(self) -> Iterator[Any]:
        """Packets of all streams; a demuxer that fails is asked again."""
        failures = 0
        while failures < _RETRIES:
            try:
                for packet in self.container.demux():
                    self._pipe.check()
                    failures = 0
                    yield packet
                self._pipe.check()
                return
            except (self._av.error.FFmpegError, OSError) as error:
                self._pipe.check()
                if failures == 0:
                    self.damaged("packets", None)
                    _log.info("%s: %s", self.label, reason(error))
                failures += 1
        end = self._av.Packet()  # the decoder still holds frames after the demuxer gave up
        end.stream = self.stream
        yield end

    def damaged(self, kind: str, time: float | None) -> None:
        """Counts a damage; where the fast decoder met it, the careful one takes over.

        Raises:
            InputError: the source is strict.
        """
        where = "" if time is None else f" at {time:.3f} s"
        elsewhere = self.part is not None and kind != "resized" and time is not None and not self.range.holds(time)
        if self._careful and (elsewhere or self._passing):
            return  # it counts where it lies
        if self.strict and not elsewhere:
            what = "misses a frame" if kind == "lost" else "is damaged or cut off"
            raise InputError(f"{self.label} {what}{where}; leave --strict out to go on")
        if not self._careful and kind != "resized":
            raise _DamagedError
        if not self.damage:
            _log.warning("%s is damaged%s; going on", self.label, where)
        self.damage.add(kind, time)

    def _note_end(self, packet: Any) -> None:
        # As it is shown: frames may be decoded long before.
        shown = packet_time(packet) if packet.pts is None else Fraction(packet.pts * packet.time_base)
        end = shown + Fraction(packet.duration or 0) * packet.time_base
        self.ends[packet.stream.index] = max(end, self.ends.get(packet.stream.index, end))

    def interrupt(self) -> None:
        """Ends a read that waits for a pipe."""
        self._pipe.stop()

    def close(self) -> None:
        """Closes the file."""
        for container in self._containers:
            container.close()
        self._pipe.close()


def is_picture(av: Any, stream: Any) -> bool:
    """True for a cover picture, which is no video of its own."""
    return bool(stream.type == "video" and stream.disposition & av.stream.Disposition.attached_pic)


def _hidden_frames(container: Any, stream: Any) -> int:
    """Frames that an edit list hides: the way from a key frame to a cut, or what was cut off."""
    if not stream.frames or "mov" not in container.format.name.split(","):
        return 0
    return sum(1 for entry in stream.index_entries if entry.is_discard)


def _promised_frames(container: Any, stream: Any, hidden: int) -> int:
    """Frames to be shown by the container's own count, less hidden ones, and AVI's empty ones; 0 where it has none."""
    count = int(stream.frames)
    if count and container.format.name == "avi":
        entries = stream.index_entries
        # Its index leaves empty places out; it counts where it reaches the end that the header tells.
        if len(entries) and entries[len(entries) - 1].timestamp + 1 >= count:
            return sum(1 for entry in entries if entry.size)
    return count - hidden


def _beside(packet: av.Packet[Any]) -> int:
    """Bytes that Matroska holds after the packet in its group."""
    return sum(side.buffer_size for side in packet.iter_sidedata() if side.data_type == "matroska_block_additional")


def packet_time(packet: av.Packet[Any]) -> Fraction:
    """Decoding time in seconds, or the presentation time where the file has no other."""
    ticks = packet.dts if packet.dts is not None else packet.pts or 0
    return Fraction(ticks * packet.time_base)
