"""``srfast segment``: one part of a plan, computed into one file; doing it again does nothing, or goes on."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srfast._threads import StageTimes
from srfast.cluster.plan import Plan
from srfast.cluster.strict import ShapeError, read
from srfast.errors import InputError, OutputError
from srfast.upscaler import Upscaler
from srfast.video.arrangement import arrange_encoder
from srfast.video.damage import Damage
from srfast.video.journal import VIDEO, Journal, packet_of, read_header, read_records
from srfast.video.pipeline import Progress, Run, arithmetic_of
from srfast.video.reader import Item, VideoReader
from srfast.video.segments import Segments
from srfast.video.settings import Settings
from srfast.video.sinks import JournalEncoder
from srfast.video.upscale_stage import NetworkStage, plane_colour

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class Record:
    """What is known of a segment that is there.

    Attributes:
        segment: its number in the plan, from 0.
        frames: how many it holds.
        first, last: times of its first and last frame, in units of the encoder; None where it holds none.
        sha256: of its file, up to this record.
        seconds: it took.
        stages: seconds of work by stage.
        resumed: frames of an earlier, interrupted run of it.
        redone: frames computed again in float32.
        reuse, damage: as in ``VideoResult``.
        arithmetic: what the bits of its frames depend on beside the network.
        host: the machine that made it.
    """

    segment: int
    frames: int
    first: int | None
    last: int | None
    sha256: str
    seconds: float
    stages: dict[str, float]
    resumed: int
    redone: int
    reuse: dict[str, int]
    damage: dict[str, Any]
    arithmetic: dict[str, str]
    host: str


def segment_path(folder: Path, number: int) -> Path:
    """The file of a segment."""
    return folder / f"{number:06d}.segment"


def run_segment(
    plan: Plan,
    number: int,
    folder: str | os.PathLike[str],
    upscaler: Upscaler | None = None,
    *,
    host: str | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    turn: contextlib.AbstractContextManager[None] | None = None,
) -> Record:
    """Compute one segment of a plan into a file of ``folder``; one that is there already is left as it is.

    The file appears under its name when it is whole. A run that was killed is continued by the next; while another process
    works on the segment, this one makes the file by itself, and the first that is done wins.

    Args:
        plan: of the video.
        number: of the segment, from 0.
        folder: where the segments lie; made if it is missing.
        upscaler: the plan's network, if it is loaded already.
        host: the machine's name for the record; by default its own.
        on_progress: called after each frame.
        turn: held from the first frame that is decoded to the last one that is computed, so that who opens several segments
            at a time computes one after another; by default nothing.

    Returns:
        What is known of it.

    Raises:
        InputError: there is no such segment, or source or model differ from the plan's.
        OutputError: the folder cannot be written, or srfast or the encoder differ from the plan's.
    """
    if not 0 <= number < len(plan.segments):
        raise InputError(f"there is no segment {number}: the plan has {len(plan.segments)}, from 0")
    plan.check_version()
    folder, started = Path(folder), time.perf_counter()
    path = segment_path(folder, number)
    there = record_of(path, plan)
    if there is not None:
        return there
    plan.check_source()
    upscaler = upscaler or plan.upscaler()
    plan.check_network(upscaler)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    options = plan.options
    with VideoReader(plan.source.path, options.input_options, strict=options.strict) as reader:
        settings = arrange_encoder(reader, plan.target, upscaler, options.encoding)
        plan.check_encoder(settings)
        reader.planes = plane_colour(reader, settings, upscaler)
        engine = upscaler.engine.for_frames(reader.bits, reader.height, reader.width)
        arithmetic = arithmetic_of(engine)
        reader.narrow(plan.segments[number].part)
        times = StageTimes()
        network = NetworkStage(upscaler, engine, reuse=options.reuse, times=times, planes=reader.planes)
        run = {"plan": plan.digest, "segment": number, "planes": str(reader.planes)} | arithmetic
        computing = _InTurn(network, upscaler, turn or contextlib.nullcontext())
        sink = _SegmentSink(path, run, settings, network.seconds_a_frame)

        def describe() -> dict[str, Any]:
            return {
                "segment": number,
                "seconds": round(time.perf_counter() - started - computing.waited, 3),
                "stages": {stage: round(spent, 3) for stage, spent in times.seconds.items()},
                "resumed": sink.start.frames,
                "redone": computing.redone,
                "reuse": {key: int(value) for key, value in asdict(network.statistics).items()},
                "damage": asdict(reader.damage),
                "arithmetic": arithmetic,
                "host": host or os.uname().nodename,
            }

        sink.describe = describe
        total = plan.segments[number].frames

        def report(done: int) -> None:
            if on_progress:
                on_progress(Progress(done, total, time.perf_counter() - started, sink.start.frames))

        Run(reader, computing, sink, [], None, times).go(report)
    record = record_of(path, plan)
    if record is None:
        raise OutputError(f"{path} is not as it was written: the disk or the file system lost a part of it")
    return record


class _InTurn:
    """The network from the first frame to the last, while nobody else has it.

    Attributes:
        waited: seconds for which somebody else had it.
        redone: frames computed again in float32.
    """

    def __init__(
        self, network: NetworkStage, upscaler: Upscaler, turn: contextlib.AbstractContextManager[None]
    ) -> None:
        self._network, self._upscaler, self._turn = network, upscaler, turn
        self.waited, self.redone = 0.0, 0

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """As ``NetworkStage``."""
        items = iter(items)
        first = list(itertools.islice(items, 1))
        ready = time.perf_counter()
        with self._turn:
            self.waited = time.perf_counter() - ready
            before = self._upscaler.engine.statistics.redone
            yield from self._network(itertools.chain(first, items))
            self.redone = self._upscaler.engine.statistics.redone - before


class _SegmentSink(JournalEncoder):
    """A journal of one segment, which takes its name when it is finished."""

    describe: Callable[[], dict[str, Any]]

    def __init__(self, path: Path, run: dict[str, Any], settings: Settings, cost: Callable[[], float | None]) -> None:
        self._path, self._times = path, (None, None)
        journal = _open(path, run)
        # A video that is one segment can have packets of an earlier run; they are of the video alone.
        super().__init__(journal, settings, Segments(None, cost), journal.commit)

    def finish(self) -> None:
        if not self.start.finished:
            self._end_segment(finished=True)
        shown = self._journal.video_times()
        known = {
            "frames": self.encoded,
            "first": min(shown, default=None),
            "last": max(shown, default=None),
            "sha256": _hash(self._journal.path),
        }
        self._journal.describe(json.dumps(self.describe() | known, sort_keys=True))
        os.replace(self._journal.path, self._path)
        self._journal.close(keep=True)

    def abandon(self, *, keep: bool) -> str:
        super().abandon(keep=keep)
        frames = self._journal.commit.frames if keep else 0
        return f"the next run of this segment goes on after its {frames} frames" if frames else ""


def _open(path: Path, run: dict[str, Any]) -> Journal:
    """The journal that is worked in: the one that is there and of the same run, or a new one of this process alone."""
    usual = path.with_suffix(".partial")
    own = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.partial")
    try:
        return Journal(usual, run, resume=_header(usual) == json.loads(json.dumps(run)))
    except OutputError:  # another process writes it: it is slow, or seems gone from somewhere else
        return Journal(own, run, resume=False)
    except OSError as error:
        raise OutputError(f"cannot write in {path.parent}: {error.strerror}") from error


def _header(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            return read_header(file)
    except OSError:
        return None


def _hash(path: Path, most: int | None = None) -> str:
    """SHA-256 of a file's first ``most`` bytes."""
    digest, left = hashlib.sha256(), most if most is not None else path.stat().st_size
    with path.open("rb") as file:
        while left > 0 and (data := file.read(min(left, 1 << 20))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def record_of(path: Path, plan: Plan) -> Record | None:
    """What is known of a segment; None where the file is missing, is of another plan, or is not as it was written."""
    try:
        with path.open("rb") as file:
            header = read_header(file)
            if header is None or header.get("plan") != plan.digest:
                return None
            end, record = file.tell(), None
            for kind, _, payload in read_records(file):
                if kind == b"S":
                    record = read(Record, json.loads(payload))
                    break
                end = file.tell()
        if record is None or segment_path(path.parent, record.segment) != path or _hash(path, end) != record.sha256:
            return None
        return record
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read the segment {path}: {error.strerror}") from error
    except (ValueError, ShapeError):
        return None


@dataclass(frozen=True)
class Shown:
    """The frames of a segment in the order of their decoding.

    Attributes:
        times: when they are shown, in units of the encoder.
        durations: how long, in the same units; 0 where it is not known.
    """

    times: list[int]
    durations: list[int]


def shown_in(path: Path) -> Shown:
    """The times of a segment's frames."""
    shown = Shown([], [])
    for packet in packets_in(path):
        shown.times.append(int(packet.pts or 0))
        shown.durations.append(int(packet.duration or 0))
    return shown


def packets_in(path: Path) -> Iterator[av.Packet[Any]]:
    """The packets of a segment's video, in the order of their decoding."""
    with path.open("rb") as file:
        read_header(file)
        for kind, fields, payload in read_records(file):
            if kind == b"P" and fields[0] == VIDEO:
                yield packet_of(fields, payload)[1]


def damage_of(records: list[Record]) -> Damage:
    """The damage of all segments together."""
    total = Damage()
    for record in records:
        for key in ("packets", "concealed", "lost", "resized", "gaps", "jumps"):
            setattr(total, key, getattr(total, key) + int(record.damage.get(key, 0)))
        total.places.extend((place[0], place[1]) for place in record.damage.get("places", ()))
    del total.places[20:]
    return total
