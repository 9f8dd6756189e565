"""What is settled between an open video and its target before the first frame is computed, and a rehearsal of the whole output.

Containers refuse late: MP4 a layout of channels in its trailer, MPEG-TS a codec in its first packet. So a scratch target of
the same format gets all that the output will be made of: its streams and headers, blank frames through the same encoder,
the first packets of every copied stream, and the trailer.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srfast.errors import InputError, OutputError, quoted
from srfast.upscaler import Upscaler
from srfast.video.encoder import FrameEncoder
from srfast.video.journal import packed, unpacked
from srfast.video.keeping import MATROSKA, carried, prepare, way_out
from srfast.video.messages import ERROR, Message, messages
from srfast.video.muxer import VIDEO_ONLY, open_muxer
from srfast.video.options import UpscalingOptions
from srfast.video.pipe import CountedPipe
from srfast.video.pyav import tags_replaced
from srfast.video.reader import RgbFrame, VideoReader, option_of
from srfast.video.settings import Encoding, Settings, choose
from srfast.video.source import InputOptions, Source, can_reopen, open_source, reason, require_av
from srfast.video.target import Target

if TYPE_CHECKING:
    import av

_log = logging.getLogger("srfast")
_FRAMES = 2
_PACKETS = 6  # of each stream
_SECONDS, _READ = 0.8, 64 << 20  # how long, and how many bytes, the first packets of all streams are looked for


@dataclass(frozen=True)
class Arrangement:
    """The encoder with all its choices made, and the streams of the input that the output takes."""

    settings: Settings
    streams: list[Any]


def arrange(
    reader: VideoReader, target: Target, upscaler: Upscaler, options: UpscalingOptions, source: Source
) -> Arrangement:
    """Turns the input upright where the target cannot say so, chooses the encoder, names what is lost, and rehearses.

    Args:
        reader: of the input, at its start.
        target: of the output.
        upscaler: whose frames it gets.
        options: as they were asked for.
        source: where the reader's video can be read once more, if it can.

    Raises:
        OutputError: encoder or container refuse; a run would end in it.
    """
    settings = arrange_encoder(reader, target, upscaler, options.encoding)
    wanted = [stream for stream in reader.copied_streams if option_of(stream) in options.copy]
    streams = carried(reader, target.column, wanted)
    if target.is_muxed:
        again = source if can_reopen(source) else None
        streams = rehearse(reader, settings, streams, target, source=again, options=options.input_options)
    return Arrangement(settings, streams)


def arrange_encoder(reader: VideoReader, target: Target, upscaler: Upscaler, encoding: Encoding) -> Settings:
    """The first half of ``arrange``: turns the input upright where need be, and chooses the encoder.

    Raises:
        OutputError: the encoder refuses.
    """
    prepare(reader, target.column, sized=upscaler.size is not None or upscaler.height is not None)
    height, width = upscaler.output_size(reader.height, reader.width)
    settings = choose(reader, target.encoding(encoding), target.suffix, width, height)
    _try_encoder(settings)
    return settings


def _try_encoder(settings: Settings) -> None:
    """Opens the encoder once to see that it takes its settings.

    Raises:
        OutputError: it does not; the message has FFmpeg's reason, which its error code lacks.
    """
    with messages() as said:
        try:
            FrameEncoder(settings).close()
        except OutputError as error:
            if not (detail := _detail(said())):
                raise
            raise OutputError(*quoted(error, after=f"; {detail}")) from error


@dataclass(frozen=True)
class Sample:
    """A packet that can be muxed several times; ``stream`` is the reader's number, None the video's."""

    stream: int | None
    data: bytes
    times: tuple[int | None, int | None, int | None]
    base: Fraction
    key: bool

    @classmethod
    def of(cls, packet: av.Packet[Any], stream: int | None) -> Sample:
        """Copies it."""
        times = (packet.pts, packet.dts, packet.duration)
        return cls(stream, packed(packet), times, Fraction(packet.time_base), packet.is_keyframe)

    @property
    def time(self) -> Fraction:
        """Decoding time in seconds."""
        pts, dts, _ = self.times
        return (dts if dts is not None else pts or 0) * self.base

    def packet(self) -> Any:
        """A new packet."""
        packet = unpacked(self.data)
        packet.pts, packet.dts, packet.duration = self.times
        packet.time_base, packet.is_keyframe = self.base, self.key
        return packet


def rehearse(
    reader: VideoReader,
    settings: Settings,
    streams: list[Any],
    target: Target,
    *,
    source: Source | None = None,
    options: InputOptions | None = None,
) -> list[Any]:
    """The streams that the output takes, found by making a small one; of data streams those that it refuses are left out.

    Args:
        reader: of the input, at its start.
        settings: of the encoder.
        streams: those to copy.
        target: a file, or the standard output.
        source: where packets of the streams are read, if it can be opened twice.
        options: how to read it.

    Raises:
        OutputError: the encoder, the container or its trailer refuses; the message names the stream and what to do.
    """
    video = _video_samples(reader, settings)
    first = _first_packets(reader, streams, source, options)

    def attempt(chosen: list[Any]) -> OutputError | None:
        wanted = {stream.index for stream in chosen}
        samples = video + [sample for sample in first if sample.stream in wanted]
        return _attempt(reader, settings, chosen, samples, target)

    error = attempt(streams)
    if error is None:
        return streams
    # Refused even without any stream to copy: it is the video's own encoder or size, and no stream is to blame.
    if not streams or attempt([]) is not None:
        raise error
    return _without_refused(streams, attempt, error, _name(target))


def _without_refused(
    streams: list[Any], attempt: Callable[[list[Any]], OutputError | None], error: OutputError, name: str
) -> list[Any]:
    """The streams less the data streams that are refused.

    Raises:
        OutputError: another one is refused.
    """
    kept: list[Any] = []
    refused: list[Any] = []
    for stream in streams:
        failure = attempt([stream])
        if failure is not None and stream.type != "data":
            # Without the stream the output was whole, so it is the culprit, whatever the message names.
            raise failure if "--no-copy-" in str(failure) else _of_stream(stream, name, _why(failure))
        (kept if failure is None else refused).append(stream)
    if not refused or (failure := attempt(kept)) is not None:
        raise failure if refused and failure is not None else error
    # As ffmpeg does: timecodes and telemetry of a camera, texts of chapters that are written anew.
    _log.info("%s cannot hold %d data streams; they are left out", name, len(refused))
    return kept


def _attempt(
    reader: VideoReader,
    settings: Settings,
    streams: list[Any],
    samples: list[Sample],
    target: Target,
) -> OutputError | None:
    """Makes the small output; returns what refused."""
    av, at, name = require_av(), None, _name(target)
    with tempfile.TemporaryDirectory(prefix="srfast-") as folder, messages() as said:
        path = Path(folder) / f"rehearsal{target.suffix}"
        path.touch()
        try:
            with open(path, "r+b") as file:
                place: Any = _Forward(file) if target.is_pipe else path
                muxer = open_muxer(place, target.kind, reader, settings, streams, exact=True)
                try:
                    for sample in sorted(samples, key=lambda sample: sample.time):
                        at = sample.stream
                        if at is None:
                            muxer.video(sample.packet())
                        elif muxer.kind not in VIDEO_ONLY:
                            muxer.copy(sample.packet(), at)
                    at = None
                    muxer.finish()
                except BaseException:
                    muxer.abandon()
                    raise
        except OutputError as error:
            detail = _detail(said())
            return OutputError(*quoted(error, after=f"; {detail}")) if detail and detail not in str(error) else error
        except (av.error.FFmpegError, OSError, ValueError) as error:
            return _refusal(name, settings, streams, at, reason(error), said())
        if any("private data stream" in text for _, text in said()):  # MPEG-TS's way to take what it does not know
            return _refusal(name, settings, streams, at, "players would not find it", [])
        return None if muxer.kind in VIDEO_ONLY else _unreadable(path, settings, streams, name)


def _name(target: Target) -> str:
    """The container as messages call it."""
    return target.suffix or str(target.kind)


def _unreadable(path: Path, settings: Settings, streams: list[Any], name: str) -> OutputError | None:
    """Says which stream was written and is not there when the output is read: MPEG-TS calls what it does not know data."""
    av = require_av()
    try:
        with av.open(str(path), **tags_replaced(av)) as container:
            there = [stream.type for stream in container.streams]
    except (av.error.FFmpegError, OSError, ValueError):
        return None  # too short to be told what it is
    why, other = "players would not find it", "" if name in MATROSKA else "write .mkv, or "
    if "video" not in there:
        return OutputError(f"{name} cannot hold {settings.codec} ({why}); {other}choose another encoder with -c")
    # A cover picture can come back as an attached file, and the reverse.
    for kinds, own in ((("audio",), 0), (("subtitle",), 0), (("video", "attachment"), 1)):
        wanted = [stream for stream in streams if stream.type in kinds]
        if wanted and sum(map(there.count, kinds)) < own + len(wanted):
            return _refusal(name, settings, streams, wanted[-1].index, why, [])
    return None


def _refusal(
    name: str, settings: Settings, streams: list[Any], at: int | None, why: str, said: list[Message]
) -> OutputError:
    why = "; ".join(filter(None, (why, _detail(said))))
    culprit = next((s for s in streams if s.index == at), streams[0] if len(streams) == 1 else None)
    if culprit is None:
        return OutputError(
            f"{name} cannot hold {settings.codec} with these streams: {why}"
            + ("" if name in MATROSKA else "; write .mkv to keep all")
        )
    return _of_stream(culprit, name, why)


def _of_stream(stream: Any, name: str, why: str) -> OutputError:
    codec = stream.codec_context.name if stream.codec_context else stream.type
    return OutputError(
        f"{name} cannot hold the {codec} {stream.type} stream ({why}); {way_out(name, option_of(stream))}"
    )


def _why(error: OutputError) -> str:
    """What FFmpeg said, without the muxer's words around it."""
    return reason(error.__cause__) if error.__cause__ is not None else str(error).rpartition(": ")[2]


def _detail(said: list[Message]) -> str:
    """The first of FFmpeg's messages, which is nearest to the cause."""
    return next((text.strip() for level, text in said if text.strip() and level <= ERROR), "")


def _video_samples(reader: VideoReader, settings: Settings) -> list[Sample]:
    """Blank frames, encoded."""
    encoder, samples = FrameEncoder(settings), []
    channels = 4 if reader.alpha else 3
    image = np.zeros((settings.height, settings.width, channels), np.uint16 if reader.deep else np.uint8)
    # From the time of the first real frame on, so that the other streams' packets lie beside these as they will in the
    # run.
    step = max(1, round(1 / (reader.rate * settings.clock))) if reader.rate else 1
    start = reader.first_pts
    for number in range(_FRAMES):
        samples += encoder.encode(RgbFrame(image, start + number * step, step))
    samples += encoder.close()
    return [Sample.of(packet, None) for packet in samples]


def _first_packets(
    reader: VideoReader, streams: list[Any], source: Source | None, options: InputOptions | None
) -> list[Sample]:
    """The first packets of the streams: of the file, opened once more, or those that the reader has read already."""
    missing = {stream.index: _PACKETS for stream in streams if stream.type != "attachment"}
    if not missing:
        return []
    if source is None:
        return [Sample.of(p, p.stream.index) for p in reader.waiting_packets if p.stream.index in missing]
    samples, ends, read, pipe = [], time.monotonic() + _SECONDS, 0, CountedPipe()
    av = require_av()
    try:
        with open_source(source, replace(options or InputOptions(), hwaccel=None), pipe) as container:
            for packet in container.demux():
                index, read = packet.stream.index, read + packet.size
                if missing.get(index, 0) and packet.size:  # a cover has no time
                    _count_from(reader.origin, packet)
                    samples.append(Sample.of(packet, index))
                    missing[index] -= 1
                if not any(missing.values()) or time.monotonic() > ends or read > _READ:
                    break
    except (av.error.FFmpegError, OSError, InputError) as error:
        _log.info("the rehearsal has only %d packets: %s", len(samples), reason(error))
    finally:
        pipe.close()
    return samples


def _count_from(origin: Fraction, packet: Any) -> None:
    """Gives a packet the times that the reader gives it."""
    ticks = round(origin / packet.time_base)
    packet.pts = None if packet.pts is None else packet.pts - ticks
    packet.dts = None if packet.dts is None else packet.dts - ticks


class _Forward:
    """A file that can only be written on, as a pipe."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def seekable(self) -> bool:
        """Never."""
        return False

    def write(self, data: bytes) -> int:
        """Writes all."""
        return int(self._file.write(data))
