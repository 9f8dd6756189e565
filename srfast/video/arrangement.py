"""What is settled between an open video and its target before the first frame is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from srfast.upscaler import Upscaler
from srfast.video.encoder import settle
from srfast.video.keeping import carried, prepare
from srfast.video.options import UpscalingOptions
from srfast.video.reader import VideoReader, option_of
from srfast.video.rehearsal import rehearse
from srfast.video.settings import Encoding, Settings
from srfast.video.source import Source, can_reopen
from srfast.video.target import Target


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
    return settle(reader, target.encoding(encoding), target.suffix, width, height)
