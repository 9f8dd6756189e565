"""Decoding: the frames of a video stream and the packets of the other streams, in the file's order."""

from __future__ import annotations

import functools
import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from srfast.errors import InputError
from srfast.images.arrays import Array
from srfast.kernels.planes import PlaneColour
from srfast.video.animation import is_animation, plays_of
from srfast.video.colour import Colour, colour_of, format_of, to_rgb
from srfast.video.completeness import FrameTimes, check
from srfast.video.damage import Damage
from srfast.video.decoding import Decoding, is_picture, packet_time
from srfast.video.deinterlacing import Deinterlacer
from srfast.video.hdr import light_of
from srfast.video.planes import to_planes
from srfast.video.rate import even_rate, mean_rate, pulldown
from srfast.video.source import COPIED, InputOptions, Source, require_av
from srfast.video.time_range import Part, TimeRange, cut_sound
from srfast.video.turning import Turn, turn_of

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class RgbFrame:
    """A decoded frame.

    Attributes:
        image: [H, W, 3] RGB or [H, W, 4] RGBA, uint8 or uint16; with ``planes`` a picture of them, [3 * H / 2, W, 1].
        pts: presentation time in units of the stream's time base.
        duration: in the same units; 0 where the file does not say.
        planes: how the planes encode colour; None for RGB.
    """

    image: Array
    pts: int
    duration: int
    planes: PlaneColour | None = None


_log = logging.getLogger("srfast")
Item: TypeAlias = "RgbFrame | av.Packet[Any]"
T = TypeVar("T")


class _Shown(NamedTuple):
    """A frame's time and duration."""

    pts: int
    duration: int


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
        self._lock, self._users = threading.Lock(), 1
        self._decoding = Decoding(source, options or InputOptions(), strict)
        self._deinterlace = bool(options and options.deinterlace)
        self._fields = bool(options and options.deinterlace == "field")  # each frame becomes two
        self.time_base: Fraction = self.stream.time_base
        self.decoded = 0
        self._left_out = self._whole = 0  # frames before the range, and those that the deinterlacer took
        self._limit: Fraction | None = None  # seconds at which the last frame of a limit ends
        self.planes: PlaneColour | None = None  # frames come as planes, not as RGB
        self._scaler = self._av.video.reformatter.VideoReformatter()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        """Reads up to the first frame, which tells more than the header does."""
        self._events = self._in_range(self._decoding.events())
        self._head: deque[Any] = deque()
        for event in self._events:
            self._head.append(event)
            if isinstance(event, self._av.VideoFrame):
                break
        else:
            where = (
                f" in the times asked for (it lasts {self._seconds:.2f} s)" if self.range else " that can be decoded"
            )
            raise InputError(f"{self._decoding.label} holds no frame{where}")
        # Headers may be wrong or leave things open, as the pixel format or fields: the first frame settles them.
        frame = self._head[-1]
        self.width, self.height = frame.width, frame.height
        self.format = self._av.VideoFormat(format_of(frame).name)
        self.colour: Colour = colour_of(
            self.stream.codec_context, frame, self._decoding.tags, self.height, self._decoding.label
        )
        self.bits: int = max(component.bits for component in self.format.components)
        self.deep = self.bits > 8
        self.alpha = any(component.is_alpha for component in self.format.components)
        self._fields = self._fields and bool(frame.interlaced_frame)
        self.time_base = self.stream.time_base / (2 if self._fields else 1)
        # FFmpeg takes film in H.264 for interlaced until the first field that is repeated.
        self.interlaced = bool(frame.interlaced_frame) and not self._deinterlace and not self.pulled_down
        self.rotation = int(getattr(frame, "rotation", 0) or 0)
        self.display_matrix = _display_matrix(frame)
        self.light = light_of(frame)
        self.aspect: Fraction | None = self.stream.sample_aspect_ratio or None
        self.first_pts = int(frame.pts or 0) * (2 if self._fields else 1)  # of the first frame
        self._turn: Turn | None = None
        self._decoded_size = (frame.width, frame.height)
        self.covers = {
            e.stream.index: bytes(e) for e in self._head if e is not frame and is_picture(self._av, e.stream)
        }

    def _in_range(self, events: Iterator[Any]) -> Iterator[Any]:
        """What belongs to the range of times, at its time there."""
        for event in events:
            if isinstance(event, self._av.VideoFrame):
                if self.range.frame(event, self.stream.time_base):
                    yield event
                else:
                    self._left_out += 1
            elif is_picture(self._av, event.stream):
                yield event
            else:
                part = cut_sound(event, self.range.first, self.range.last) if self.range else event
                if self.range.packet(part):
                    yield part

    @property
    def deinterlaces(self) -> bool:
        """True where whole frames are made of interlaced ones."""
        return self._deinterlace

    @property
    def range(self) -> TimeRange:
        """The part of the video that is read."""
        return self._decoding.range

    @property
    def _seconds(self) -> float:
        return (self.container.duration or 0) / 1_000_000

    @property
    def chapters(self) -> list[Any]:
        """The chapters of the part that is read, as PyAV has them; after a limit of frames, to the end of the last one."""
        found, end = self.range.chapters(self.container.chapters()), self._limit
        if end is None:
            return found
        ends = (min(one["end"], round(end / one["time_base"])) for one in found)
        return [one | {"end": last} for one, last in zip(found, ends, strict=True) if one["start"] < last]

    @property
    def mirrored(self) -> bool:
        """True where a player mirrors the video, not only turns it."""
        turn = turn_of(self.display_matrix) if self.display_matrix else None
        return turn is not None and turn.mirrored

    @property
    def tags(self) -> dict[str, str]:
        """What the container says of its content, less what describes the container itself."""
        return own_tags(self.container.metadata)

    @property
    def turned(self) -> bool:
        """True where frames are turned as a player would turn them."""
        return self._turn is not None

    def turn_upright(self) -> None:
        """Makes all frames to come those that a player shows, for outputs that cannot tell it to turn them."""
        turn = turn_of(self.display_matrix) if self.display_matrix else None
        if turn is None:
            if self.display_matrix:
                _log.warning("the output lacks the input's rotation by %d degrees, no multiple of 90", self.rotation)
            return
        self._turn, self.display_matrix, self.rotation = turn, None, 0
        if turn.swapped:
            self.width, self.height = self.height, self.width
            self.aspect = 1 / self.aspect if self.aspect else None

    @functools.cached_property
    def rate(self) -> Fraction | None:
        """Frames per second, as the times of the frames show it; None where nothing tells."""
        rate = self._decoding.rate()
        return 2 * rate if rate and self._fields else rate

    @property
    def even_rate(self) -> Fraction | None:
        """A rate at which each of the first frames has the place of its time, for containers without times."""
        if self._deinterlace:
            return self.rate
        return even_rate(self.rate, self._decoding.first_times[0], self.stream.time_base)

    @property
    def telecined(self) -> bool:
        """True where an interlaced video looks like film with repeated fields."""
        return self._decoding.telecined

    @property
    def pulled_down(self) -> bool:
        """True for film whose frames are shown for three and two fields in turn, as flags of the video ask."""
        return pulldown(self._decoding.first_times[0], self.stream.time_base) is not None

    @functools.cached_property
    def plays(self) -> int | None:
        """How often an animation is shown, 0 for ever; None for what is no animation."""
        path = Path(self._decoding.path)
        return plays_of(path) if self._decoding.reopenable and is_animation(path) else None

    @functools.cached_property
    def _times(self) -> FrameTimes:
        return FrameTimes(self.rate, self.time_base)

    @property
    def container(self) -> Any:
        """The open container."""
        return self._decoding.container

    @property
    def stream(self) -> Any:
        """The video stream."""
        return self._decoding.stream

    @property
    def origin(self) -> Fraction:
        """Seconds of the container's clock that all times count from."""
        return self._decoding.origin

    def begin_of(self, stream: Any) -> Fraction:
        """Seconds at which a copied stream begins in the part that is read, as its container tells it."""
        first = stream.start_time
        return Fraction(0) if self.range or first is None else first * stream.time_base - self.origin

    @property
    def waiting_packets(self) -> list[Any]:
        """The packets of other streams that were read before the first frame; for the reader at its start."""
        return [event for event in self._head if not isinstance(event, self._av.VideoFrame)]

    @property
    def damage(self) -> Damage:
        """What was wrong so far."""
        return self._decoding.damage

    @property
    def copied_streams(self) -> list[Any]:
        """The streams that go to the output as they are: all but the one that is upscaled."""
        streams = self._decoding.first_container.streams
        return [s for s in streams if s.index != self.stream.index and s.type in COPIED and not self._left(s)]

    def _left(self, stream: Any) -> bool:
        """True for streams that say nothing of their own: chapters' texts, and the parts of one AVIF picture."""
        if stream.type == "data":
            return stream.discard >= self._av.stream.Discard.all and bool(self.container.chapters())
        return stream.type == "video" and self._decoding.is_avif

    @property
    def uneven_times(self) -> int:
        """Frames so far that were shown for another time than most."""
        return self._times.steps.uneven()

    @property
    def expected_frames(self) -> int:
        """Frames as the header or the duration tells; 0 if neither does."""
        if self._decoding.promised and not self.range:
            return self._decoding.promised * (2 if self._fields else 1)
        duration = self.container.duration
        if not duration or not self.rate:
            return 0
        rate = mean_rate(self.rate, self._decoding.first_times[0], self.time_base)
        return round(self.range.length(Fraction(duration, 1_000_000)) * rate)

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
        stop, over = self.range.until, False
        waiting: list[Any] = []  # with a limit: packets that may start after its last frame
        skip = dict(skip_packets or {})
        for event in self._replayed():
            if not isinstance(event, self._av.VideoFrame):
                if event.stream.index not in wanted or (stop is not None and packet_time(event) >= stop):
                    continue
                if skip.get(event.stream.index, 0):
                    skip[event.stream.index] -= 1
                elif limit is None or (end is not None and packet_time(event) < end):
                    yield event
                elif end is None:
                    waiting.append(event)
                continue
            if stop is not None and not over and Fraction(event.pts or 0) * self.time_base >= stop:
                over, end = True, end if end is not None else stop
                yield from (p for p in waiting if packet_time(p) < end)
                waiting = []
                if not wanted:
                    return
            if end is not None:
                if Fraction(event.pts or 0) * self.time_base > end + 10:
                    return  # other streams lag behind the video's file order by less than these seconds
                continue
            pts, duration = self._times.add(event)
            self.decoded += 1
            until = (pts + duration) * self.time_base
            yield from (p for p in waiting if packet_time(p) < until)
            waiting = [p for p in waiting if packet_time(p) >= until]
            if self.decoded > skip_frames:
                yield RgbFrame(self._image(event), pts, duration, self.planes)
            if self.decoded == limit:
                self._limit = until
                if not wanted:
                    return
                end = until
        if limit is None and not over and self._decoding.part is None:
            came = self._whole if self._deinterlace else self.decoded
            check(self._decoding, self._times, self._decoding.skipped + self._left_out + came)

    def narrow(self, part: Part) -> None:
        """Makes ``items`` give a part of a file: frames of that part, with the times that they have in the whole.

        All that the reader says of the video stays what the file's first frame told. Whether the file is complete can be told
        of the whole only: ``check_frames``.
        """
        self._events.close()  # type: ignore[attr-defined]
        self._head.clear()
        self._decoding.narrow(part)
        self._left_out = 0
        self._events = self._in_range(self._decoding.events())

    def packets(self, streams: list[Any]) -> Iterator[av.Packet[Any]]:
        """Packets of ``streams`` as ``items`` gives them, without decoding the video; once, instead of ``items``."""
        self._decoding.pass_video()
        self._head = deque(event for event in self._head if not isinstance(event, self._av.VideoFrame))
        wanted, stop = {s.index for s in streams}, self.range.until
        for event in itertools.chain(self._taken(), self._events):
            if isinstance(event, self._av.VideoFrame) or event.stream.index not in wanted:
                continue
            if stop is None or packet_time(event) < stop:
                yield event

    def check_frames(self, shown: Iterable[tuple[int, int]]) -> None:
        """Counts as damage what is missing, after ``packets``, of a video whose parts gave frames.

        Args:
            shown: time and duration of each frame, in units of the time base.

        Raises:
            FrameLossError: the reader is strict and something is missing.
        """
        count = 0
        for pts, duration in shown:
            self._times.add(_Shown(pts, duration))
            count += 1
        if self.range.last is None:
            check(self._decoding, self._times, self._decoding.skipped + self._left_out + count)

    def look(self, function: Callable[[Any, Any], T]) -> T | None:
        """What a function finds in the video stream of a container of its own; None if it cannot be read again."""
        return self._decoding.look(function)

    def _replayed(self) -> Iterator[Any]:
        events = itertools.chain(self._taken(), self._events)
        if not self._deinterlace:
            yield from events
            return
        filtered: Deinterlacer | None = None
        for event in events:
            if not isinstance(event, self._av.VideoFrame):
                yield event
                continue
            self._whole += 1
            if filtered is None or filtered.size != (event.width, event.height):
                yield from filtered(None) if filtered is not None else ()
                filtered = Deinterlacer(event, self.stream.time_base, self.time_base, fields=self._fields)
            yield from filtered(event)
        yield from filtered(None) if filtered is not None else ()

    def _taken(self) -> Iterator[Any]:
        while self._head:
            yield self._head.popleft()

    def _image(self, frame: Any) -> Array:
        size = self._decoded_size
        if (frame.width, frame.height) != size:
            self._decoding.damaged("resized", float(frame.pts * self.time_base) if frame.pts is not None else None)
        if self.planes is not None:
            return to_planes(frame, self.format.name, size)
        image = to_rgb(frame, self.colour, self.deep, self.alpha, size, self._scaler)
        return image if self._turn is None else self._turn(image)

    def interrupt(self) -> None:
        """Ends the reading, also where another thread waits for a pipe; other sources end their wait by themselves."""
        self._decoding.interrupt()

    def hold(self) -> Callable[[], None]:
        """Keeps the file open until the function that it returns is called too: a thread may still be reading."""
        with self._lock:
            self._users += 1
        return self.close

    def close(self) -> None:
        """Closes the file, unless another holds it."""
        with self._lock:
            self._users -= 1
            used = self._users > 0
        if not used:
            self._decoding.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def option_of(stream: Any) -> str:
    """Return the kind that ``copy`` and ``--no-copy-KIND`` know a stream by: cover pictures are attachments."""
    pictures = require_av().stream.Disposition.attached_pic
    return "attachment" if stream.type == "video" and stream.disposition & pictures else str(stream.type)


def own_tags(metadata: dict[str, str]) -> dict[str, str]:
    """Metadata less what describes the old container and its encoder."""
    own = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id"}
    own |= {"bps", "number_of_frames", "number_of_bytes", "_statistics_writing_app", "_statistics_tags"}
    return {k: v for k, v in metadata.items() if k.lower().removesuffix("-eng") not in own}


def _display_matrix(frame: Any) -> tuple[int, ...] | None:
    """The nine integers of the display matrix, where a player turns or mirrors the video."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else tuple(memoryview(bytes(data)).cast("i"))
