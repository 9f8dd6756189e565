"""Decoding: the frames of a file's video stream and the packets of its other streams, in the file's order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from srfast.errors import FrameLossError, InputError, MissingDependencyError
from srfast.frames import Array
from srfast.video.colour import Colour, colour_of, to_rgb

if TYPE_CHECKING:
    import av

COPIED = ("audio", "subtitle", "attachment", "data")


@dataclass(frozen=True)
class RgbFrame:
    """A decoded frame.

    Attributes:
        image: [H, W, 3] RGB, uint8 or uint16.
        pts: presentation time in units of the stream's time base; None where the file has none.
        duration: in the same units; 0 where the file does not say.
    """

    image: Array
    pts: int | None
    duration: int


Item: TypeAlias = "RgbFrame | av.Packet[Any]"


def require_av() -> Any:
    """The PyAV module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError(
            f"video needs PyAV ({error}); install it with: pip install 'srfast[video]'"
        ) from error
    return av


class VideoReader:
    """An open video file.

    Args:
        path: the file.

    Raises:
        InputError: it is missing, not a media file, or has no video stream.
    """

    def __init__(self, path: Path) -> None:
        av = require_av()
        self.path = path
        self._av = av
        if not path.is_file():
            raise InputError(f"{path} is {'not a file' if path.exists() else 'missing'}")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes)")
        try:
            self.container = av.open(str(path), metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{path} is not a video that can be read: {_reason(error)}") from error
        try:
            self._choose_stream()
        except BaseException:
            self.container.close()
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
        self.stream.thread_type = "AUTO"
        self.width, self.height = context.width, context.height
        self.colour: Colour = colour_of(context, context.height)
        self.deep = max(component.bits for component in context.format.components) > 8
        self.time_base: Fraction = self.stream.time_base
        self.rate: Fraction | None = self.stream.average_rate or self.stream.guessed_rate
        self.rotation = _rotation(self._av, self.path, self.stream.index)
        self.decoded = 0

    @property
    def copied_streams(self) -> list[Any]:
        """The streams that go to the output as they are."""
        return [s for s in self.container.streams if s.type in COPIED]

    @property
    def expected_frames(self) -> int:
        """Frames as the header or the duration tells; 0 if neither does."""
        if self.stream.frames:
            return int(self.stream.frames)
        duration = self.container.duration
        return round(Fraction(duration, 1_000_000) * self.rate) if duration and self.rate else 0

    def items(self, streams: list[Any], limit: int | None = None) -> Iterator[Item]:
        """Frames of the video and packets of ``streams``, in the order of the file.

        Args:
            streams: which other streams to give.
            limit: number of frames after which the video ends; packets that start after it are left out.

        Raises:
            InputError: the data is damaged.
            FrameLossError: the file ends before the frames that its header promises.
        """
        end: Fraction | None = None
        waiting: list[av.Packet[Any]] = []  # with a limit: packets that may start after its last frame
        try:
            for packet in self.container.demux([self.stream, *streams]):
                if packet.stream is not self.stream:
                    if not packet.size:  # the end mark of a stream
                        continue
                    if limit is None or (end is not None and _time(packet) < end):
                        yield packet
                    elif end is None:
                        waiting.append(packet)
                    continue
                if packet.is_corrupt:
                    raise InputError(f"{self.path} is damaged or cut off {self._where(packet)}")
                if end is not None:
                    if packet.size and _time(packet) > end + 10:
                        return  # other streams lag behind the video's file order by less than these seconds
                    continue
                for frame in self._decode(packet):
                    until = ((frame.pts or 0) + frame.duration) * self.time_base
                    yield from (p for p in waiting if _time(p) < until)
                    waiting = [p for p in waiting if _time(p) >= until]
                    yield frame
                    if self.decoded == limit:
                        end = until
                        break
        except (self._av.error.FFmpegError, OSError) as error:
            raise InputError(f"{self.path} is damaged after frame {self.decoded}: {_reason(error)}") from error
        if limit is None:
            self._check_complete()

    def _decode(self, packet: av.Packet[Any]) -> Iterator[RgbFrame]:
        for frame in packet.decode():
            if (frame.width, frame.height) != (self.width, self.height):
                raise InputError(
                    f"{self.path} changes size from {self.width}x{self.height} to {frame.width}x{frame.height} "
                    f"at frame {self.decoded}, which is not supported"
                )
            if getattr(frame, "is_corrupt", False):
                raise InputError(f"{self.path} is damaged at frame {self.decoded}")
            self.decoded += 1
            yield RgbFrame(to_rgb(frame, self.colour, self.deep), frame.pts, int(frame.duration or 0))

    def _check_complete(self) -> None:
        """A file that was cut off can end without any error from its demuxer."""
        if not self.decoded:
            raise InputError(f"{self.path} holds no frame that can be decoded")
        promised = int(self.stream.frames)
        if promised > self.decoded and not self._has_edits():
            raise FrameLossError(
                f"{self.path} promises {promised} frames but holds {self.decoded}: it is cut off or damaged"
            )

    def _has_edits(self) -> bool:
        """An edit list leaves out frames on purpose: then the stream's own duration is shorter than its frames."""
        duration, rate = self.stream.duration, self.rate
        if not duration or not rate:
            return False
        return bool(self.decoded + 1 >= duration * self.time_base * rate)

    def _where(self, packet: av.Packet[Any]) -> str:
        if packet.pts is None:
            return f"after frame {self.decoded}"
        return f"at {float(packet.pts * packet.time_base):.3f} s"

    def close(self) -> None:
        """Closes the file."""
        self.container.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _time(packet: av.Packet[Any]) -> Fraction:
    """Decoding time in seconds, or the presentation time where the file has no other."""
    ticks = packet.dts if packet.dts is not None else packet.pts or 0
    return Fraction(ticks * packet.time_base)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _rotation(av: Any, path: Path, index: int) -> int:
    """Degrees by which a player turns the video; decoders tell it with their first frame only."""
    with av.open(str(path), metadata_errors="replace") as container:
        try:
            frame = next(container.decode(container.streams[index]), None)
        except (av.error.FFmpegError, OSError):
            return 0  # the real run reports the damage
        return int(getattr(frame, "rotation", 0) or 0)
