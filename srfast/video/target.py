"""Where a video goes, decided once from its name: a file, the standard output, or numbered images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from srfast._files import check_output
from srfast.errors import OutputError
from srfast.video.image_sink import ImageSink
from srfast.video.keeping import column_of
from srfast.video.reader import VideoReader
from srfast.video.segments import Segments
from srfast.video.settings import Encoding, Settings, container_format
from srfast.video.sinks import JournalSink, Sink, StreamSink
from srfast.video.source import Source, is_sequence


@dataclass(frozen=True)
class SinkOptions:
    """What every kind of target may need to know of a run to write it.

    Attributes:
        run: what identifies the run, for those that can be continued.
        live: the source has no end of its own, and nothing can be read from it again.
        overwrite: replace what exists.
        resume: continue an unfinished run.
        segment: frames between two points from which a run can continue; None settles it by the speed.
        cost: seconds that a frame takes, None as long as that is not known.
    """

    run: dict[str, Any]
    live: bool = False
    overwrite: bool = False
    resume: bool = False
    segment: int | None = None
    cost: Callable[[], float | None] = lambda: None


class Target(Protocol):
    """Where a video goes.

    Attributes:
        label: its name in words.
        suffix: of the container, with its dot and in lower case; nothing where the name does not say it.
        kind: the container by ffmpeg's name, where the name does not say it.
        column: the kind of output in the table of what is kept, ``srfast.video.keeping.TABLE``.
        is_pipe: it cannot go back to what it has written.
        is_muxed: it is one container, which can be rehearsed.
        left: what an interruption leaves behind, in words.
    """

    @property
    def label(self) -> str: ...
    @property
    def suffix(self) -> str: ...
    @property
    def kind(self) -> str | None: ...
    @property
    def column(self) -> str: ...
    @property
    def is_pipe(self) -> bool: ...
    @property
    def is_muxed(self) -> bool: ...
    @property
    def left(self) -> str: ...

    def check(self, source: Source, overwrite: bool) -> None:
        """Refuses, before any work is done, what cannot be written or is the source itself.

        Raises:
            OutputError: it cannot.
        """
        ...

    def encoding(self, encoding: Encoding) -> Encoding:
        """The encoding that it takes in place of the one that is asked for."""
        ...

    def sink(self, reader: VideoReader, settings: Settings, streams: list[Any], options: SinkOptions) -> Sink:
        """Opens it for writing."""
        ...


@dataclass(frozen=True)
class FileTarget:
    """A file, whose container is told by its suffix, or by ``kind``."""

    path: Path
    kind: str | None = None
    is_pipe = False
    is_muxed = True
    left = "no output was written (a run of some length continues with --resume)"

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.path)

    @property
    def suffix(self) -> str:
        """The path's."""
        return self.path.suffix.lower()

    @property
    def column(self) -> str:
        """By the container."""
        return column_of(self.suffix, self.kind)

    def check(self, source: Source, overwrite: bool) -> None:
        """See ``Target``."""
        _refuse_source(self.path, source)
        container_format(self.suffix, self.kind)
        check_output(self.path, overwrite)

    def encoding(self, encoding: Encoding) -> Encoding:
        """As it is."""
        return encoding

    def sink(self, reader: VideoReader, settings: Settings, streams: list[Any], options: SinkOptions) -> Sink:
        """A journal beside it, which becomes the file; a recording of a live source is written at once."""
        if options.live:
            return StreamSink(self.path, self.kind, reader, settings, streams, options.overwrite)
        return JournalSink(
            self.path,
            reader,
            settings,
            streams,
            options.run,
            kind=self.kind,
            segments=Segments(options.segment, options.cost),
            overwrite=options.overwrite,
            resume=options.resume,
        )


@dataclass(frozen=True)
class PipeTarget:
    """The standard output, in the container ``kind``."""

    kind: str
    label = "the standard output"
    suffix = ""
    is_pipe = True
    is_muxed = True
    left = "the output ends where it was"

    @property
    def column(self) -> str:
        """By the container."""
        return column_of("", self.kind)

    def check(self, source: Source, overwrite: bool) -> None:
        """See ``Target``."""
        container_format("", self.kind)

    def encoding(self, encoding: Encoding) -> Encoding:
        """In its container."""
        return replace(encoding, format=self.kind)

    def sink(self, reader: VideoReader, settings: Settings, streams: list[Any], options: SinkOptions) -> Sink:
        """Writes at once."""
        return StreamSink("-", self.kind, reader, settings, streams, options.overwrite)


@dataclass(frozen=True)
class NumberedImages:
    """A picture for each frame, by a pattern such as ``out/%05d.png``."""

    pattern: str
    suffix = ""  # of no container
    kind = None
    is_pipe = False
    is_muxed = False
    left = "the pictures so far are there (a run of some length continues with --resume)"

    @property
    def label(self) -> str:
        """Its pattern."""
        return self.pattern

    @property
    def column(self) -> str:
        """By the pictures' format."""
        return column_of(Path(self.pattern).suffix, None, images=True)

    def check(self, source: Source, overwrite: bool) -> None:
        """See ``Target``; the sink looks at the pictures."""
        _refuse_source(Path(self.pattern), source)

    def encoding(self, encoding: Encoding) -> Encoding:
        """That of PNG, whose pixel formats all pictures are made from.

        Raises:
            OutputError: what only an encoder of video takes was asked for.
        """
        asked = (name for name, value in vars(encoding).items() if value not in (None, {}))
        if names := ", ".join(asked):
            raise OutputError(
                f"{self.pattern} is numbered images, which have no encoder to be given: {names}",
                "leave that out: the suffix says how pictures are stored",
            )
        return Encoding("png")

    def sink(self, reader: VideoReader, settings: Settings, streams: list[Any], options: SinkOptions) -> Sink:
        """Writes each picture when it is there."""
        return ImageSink(
            self.pattern, options.run, segment=options.segment, overwrite=options.overwrite, resume=options.resume
        )


def parse_target(target: str | os.PathLike[str], kind: str | None = None) -> Target:
    """Decides what a target is.

    Args:
        target: the name of a file, '-' for the standard output, or a pattern of numbered images.
        kind: the container by ffmpeg's name, where the name does not say it; for the standard output Y4M by default.
    """
    name = os.fspath(target)
    if name == "-":
        return PipeTarget(kind or "y4m")
    return NumberedImages(name) if is_sequence(name) else FileTarget(Path(name), kind)


def _refuse_source(path: Path, source: Source) -> None:
    # By the file and not by its name, which links and .. make many of.
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise OutputError(f"the output {path} is the input itself; give another name")
