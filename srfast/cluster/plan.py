"""The plan of a video that is upscaled in segments: what is read, how it is computed and encoded, where it is cut."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from srfast._files import shortened, whole_file
from srfast._version import __version__
from srfast.cluster.strict import ShapeError, read
from srfast.errors import InputError, OutputError, printable
from srfast.upscaler import Upscaler, load
from srfast.video.options import UpscalingOptions
from srfast.video.settings import FORMATS, Encoding, Settings
from srfast.video.source import InputOptions
from srfast.video.target import FileTarget
from srfast.video.time_range import Part

SCHEMA = 1
_ENDS = 1 << 20  # bytes at the beginning and at the end of a source that are hashed


@dataclass(frozen=True)
class SourceFile:
    """Which file it is, wherever a machine sees it.

    Attributes:
        path: absolute.
        size: bytes.
        sha256: of its first and last MiB.
    """

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> SourceFile:
        """Describes a file.

        Raises:
            InputError: it cannot be read.
        """
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest = hashlib.sha256(file.read(_ENDS))
                file.seek(max(0, size - _ENDS))
                digest.update(file.read(_ENDS))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        return cls(os.path.abspath(path), size, digest.hexdigest())


@dataclass(frozen=True)
class Reading:
    """How the source is read: ``InputOptions`` and ``strict``."""

    format: str | None
    options: dict[str, str]
    hwaccel: str | None
    deinterlace: bool | str
    start: float | None
    end: float | None
    strict: bool

    @property
    def input_options(self) -> InputOptions:
        """As a reader takes them."""
        deinterlace = cast("bool | Literal['field']", self.deinterlace)
        return InputOptions(self.format, self.options, self.hwaccel, deinterlace, self.start, self.end)


@dataclass(frozen=True)
class Segment:
    """A part of the video, in units of its stream; ``frames`` is how many its packets promise."""

    first: int | None
    last: int | None
    start: int | None
    frames: int

    @property
    def part(self) -> Part:
        """As a reader takes it."""
        return Part(self.first, self.last, self.start)


@dataclass(frozen=True)
class Plan:
    """How a video is upscaled in segments; immutable, and read strictly.

    Attributes:
        schema: version of this layout.
        srfast: version that made it; the machines that work by it have the same.
        source: the video.
        reading: how it is read.
        network: what ``srfast.load`` takes, ``model`` among it.
        fingerprint: of the network.
        reuse: copy what has not changed since the last frame.
        container: of the output, by ffmpeg's name.
        copy: kinds of the streams that come along.
        encoding: as it was asked for.
        encoder: as it was settled.
        seconds: the least length of a segment.
        whole: why the video is one segment; null where it could be cut.
        segments: in the order of the video.
    """

    schema: int
    srfast: str
    source: SourceFile
    reading: Reading
    network: dict[str, Any]
    fingerprint: str
    reuse: bool
    container: str
    copy: list[str]
    encoding: Encoding
    encoder: dict[str, Any]
    seconds: float
    whole: str | None
    segments: list[Segment]

    @functools.cached_property
    def digest(self) -> str:
        """A hash of everything in it but the path of the source, which may be another on each machine."""
        content = asdict(self)
        del content["source"]["path"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def options(self) -> UpscalingOptions:
        """How the video is read, computed and encoded, and what comes along."""
        reading = self.reading
        return UpscalingOptions(self.encoding, tuple(self.copy), reading.input_options, reading.strict, self.reuse)

    @property
    def target(self) -> FileTarget:
        """A target of its container, for what depends on that alone."""
        return FileTarget(Path(f"out{self.suffix}"))

    @property
    def suffix(self) -> str:
        """The usual one of its container."""
        return next(suffix for suffix, container in FORMATS.items() if container == self.container)

    @property
    def frames(self) -> int:
        """As many as the packets promise."""
        return sum(segment.frames for segment in self.segments)

    def to_json(self) -> str:
        """Write the plan as JSON text."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def upscaler(self, **options: Any) -> Upscaler:
        """The network, loaded; ``options`` stand before those of the plan."""
        return load(**(self.network | options))

    def check_version(self) -> None:
        """Refuses to work by the plan of another version, whose frames may be others.

        Raises:
            OutputError: it is another.
        """
        if self.srfast != __version__:
            raise OutputError(
                f"the plan was made by srfast {printable(self.srfast)}, and this is {__version__}: "
                "install one version on all machines, or split the video again"
            )

    def check_source(self) -> None:
        """Refuses another source than the one that was split.

        Raises:
            InputError: it is missing, unreadable or another.
        """
        found = SourceFile.of(self.source.path)
        if (found.size, found.sha256) != (self.source.size, self.source.sha256):
            raise InputError(
                f"{self.source.path} is not the file that was split: it has {found.size} bytes, then {self.source.size}, or "
                "other content; split it again"
            )

    def check_network(self, upscaler: Upscaler) -> None:
        """Refuses another network than that of the plan.

        Raises:
            InputError: it is another.
        """
        if upscaler.fingerprint != self.fingerprint:
            raise InputError(
                f"the model {upscaler.name} is not the one that the plan was made with: its weights differ here; "
                "give all machines the same file"
            )

    def check_encoder(self, settings: Settings) -> None:
        """Refuses an encoder that is settled otherwise than where the plan was made.

        Raises:
            OutputError: it is.
        """
        here = encoder_as_json(settings)
        different = sorted(key for key in {*here, *self.encoder} if here.get(key) != self.encoder.get(key))
        if different:
            raise OutputError(
                f"the encoder is settled otherwise here than where the plan was made ({', '.join(different)}): "
                "install the same PyAV on all machines, and give -c and --pix-fmt"
            )


def encoder_as_json(settings: Settings) -> dict[str, Any]:
    """What is settled of an encoder, in JSON's types."""
    made: dict[str, Any] = json.loads(json.dumps(asdict(settings), default=str))
    return made


def parse_plan(text: str, label: str = "the plan") -> Plan:
    """Reads a plan's text.

    Raises:
        InputError: it is no plan, or of another schema; the message has at most three lines.
    """
    again = "make it again with: srfast split IN PLAN"
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{label} is no JSON: {error}", again) from error
    if not isinstance(value, dict) or "schema" not in value:
        raise InputError(f"{label} is no plan of srfast: it has no 'schema'", again)
    if value["schema"] != SCHEMA or isinstance(value["schema"], bool):
        given = f"{value['schema']!r:.20}"
        raise InputError(
            f"{label} has schema {given}, and this srfast reads {SCHEMA}", f"{again}, or use its own version"
        )
    try:
        plan = read(Plan, value)
        if plan.container not in FORMATS.values():
            raise ShapeError(f"container is {plan.container!r:.40}; one of {', '.join(sorted(set(FORMATS.values())))}")
        if not plan.segments:
            raise ShapeError("segments is an empty list; at least one segment was expected")
        plan.reading.input_options  # noqa: B018  refuses times that are none
    except (ShapeError, ValueError) as error:
        raise InputError(f"{label} is not as srfast writes it: {error}", again) from error
    return plan


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Read the file of a plan, as ``srfast split`` wrote it.

    Raises:
        InputError: it cannot be read or is no plan.
    """
    try:
        return parse_plan(Path(path).read_text("utf-8"), str(path))
    except OSError as error:
        raise InputError(f"cannot read the plan {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no plan of srfast: it is no text; make one with: srfast split IN PLAN") from error


def write_plan(plan: Plan, path: Path, overwrite: bool) -> None:
    """Writes a plan's file whole.

    Raises:
        OutputError: it cannot be written.
    """
    with whole_file(path, overwrite, durable=True) as partial:
        partial.write_text(plan.to_json(), "utf-8")


def segments_folder(plan: str | os.PathLike[str]) -> Path:
    """Name the folder for the segments of a plan's file, which lies beside it; no two plans have one folder.

    Examples:
        >>> segments_folder("shared/plan.json").as_posix()
        'shared/plan.segments'
        >>> segments_folder("shared/plan.first").as_posix()
        'shared/plan.first-segments'
    """
    plan = Path(plan)
    if plan.suffix == ".json":
        return plan.with_name(f"{shortened(plan.stem, 200)}.segments")
    # With its whole name, since part.1 and part.2 are two plans, and another ending, since film and film.json are.
    return plan.with_name(f"{shortened(plan.name, 200)}-segments")
