"""``srfast join``: the output from its segments and, for all that is not the video, the source."""

from __future__ import annotations

import heapq
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srfast.cluster.arrivals import Arrivals
from srfast.cluster.plan import Plan
from srfast.cluster.segment import Record, Shown, damage_of, packets_in, record_of, segment_path, shown_in
from srfast.errors import InputError, OutputError
from srfast.upscaler import Upscaler
from srfast.video.arrangement import arrange
from srfast.video.decode_times import DecodeTimes, ReorderingError
from srfast.video.decoding import packet_time
from srfast.video.journal import VIDEO
from srfast.video.keeping import tell_times
from srfast.video.pipeline import VideoResult, output_errors
from srfast.video.reader import VideoReader
from srfast.video.settings import container_format
from srfast.video.sinks import usual_step, write_container
from srfast.video.target import FileTarget, parse_target
from srfast.video.upscale_stage import Reuse

if TYPE_CHECKING:
    import av

_log = logging.getLogger("srfast")


@dataclass(frozen=True)
class Joined:
    """An output and what it was made of.

    Attributes:
        result: as of a single run; its stages are the sums over all segments.
        segments: in their order.
    """

    result: VideoResult
    segments: list[Record]


def join(
    plan: Plan,
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    upscaler: Upscaler | None = None,
    *,
    overwrite: bool = False,
    started: float | None = None,
    arrivals: Arrivals | None = None,
) -> Joined:
    """Write the output: the segments' packets one after another, everything else from the source.

    Args:
        plan: of the video.
        folder: where all its segments lie.
        target: the file to write, in the plan's container.
        upscaler: the plan's network, if it is loaded already; its sizes are asked for, nothing is computed.
        overwrite: replace an existing target.
        started: when the run began, by ``time.perf_counter``, for the seconds in the result.
        arrivals: of segments that are still computed, each of which is waited for; the output lies in ``folder``, on the
            target's file system, until it is whole.

    Raises:
        InputError: segments are missing or damaged, or the source is another than the plan's.
        OutputError: the target cannot be written.
        FrameLossError: the plan is strict and frames are missing.
        StoppedError: by ``arrivals``, no more segments will come.

    Examples:
        >>> import tempfile
        >>> import srfast
        >>> from srfast import cluster
        >>> folder = Path(tempfile.mkdtemp())
        >>> clip, tenth = Path(srfast.__file__).parent / "assets" / "clip.mp4", srfast.InputOptions(end=0.1)
        >>> plan = cluster.split(clip, folder / "plan.json", "compact_x2", device="cpu", input_options=tenth)
        >>> segments = cluster.segments_folder(folder / "plan.json")
        >>> record = cluster.run_segment(plan, 0, segments)  # on any machine
        >>> cluster.join(plan, segments, folder / "out.mp4").result.frames == record.frames
        True
    """
    started = time.perf_counter() if started is None else started
    place = parse_target(target)
    if not isinstance(place, FileTarget) or container_format(place.suffix, place.kind) != plan.container:
        raise OutputError(
            f"the plan is for a file in {plan.container}, not for {place.label}: "
            f"give the output the suffix {plan.suffix}, or split again with -f"
        )
    plan.check_version()
    place.check(plan.source.path, overwrite)
    plan.check_source()
    folder = Path(folder)
    there = _all_records(plan, folder) if arrivals is None else None
    upscaler = upscaler or plan.upscaler(device="cpu", backend="auto", dtype=None)
    plan.check_network(upscaler)
    depth = None
    while True:
        parts = _Parts(plan, folder, there, arrivals)
        try:
            result = _write(
                plan, place, upscaler, parts, depth, overwrite=overwrite, scratch=folder if arrivals else None
            )
        except ReorderingError as found:
            # Rare: the first segments were encoded without B-frames, a later one with them.
            _log.info("a segment needs decoding times from %d frames earlier: the output is begun again", found.depth)
            depth = found.depth
            continue
        return Joined(replace(result, seconds=time.perf_counter() - started), parts.records)


def _write(
    plan: Plan,
    place: FileTarget,
    upscaler: Upscaler,
    parts: _Parts,
    depth: int | None,
    *,
    overwrite: bool,
    scratch: Path | None,
) -> VideoResult:
    """Writes the output once; ``depth`` is that of ``DecodeTimes``."""
    options = plan.options
    with VideoReader(plan.source.path, options.input_options, strict=options.strict) as reader:
        made = arrange(reader, place, upscaler, options, plan.source.path)
        plan.check_encoder(made.settings)
        begun = time.perf_counter()
        times = DecodeTimes(usual_step(made.settings), depth)
        with output_errors():
            write_container(
                place.path,
                place.kind,
                reader,
                made.settings,
                made.streams,
                _merged(parts.packets(times), reader.packets(made.streams)),
                times,
                overwrite=overwrite,
                scratch=scratch,
            )
        records = parts.records
        damage = damage_of(records)
        for name, count in vars(damage).items():
            if name != "places":
                setattr(reader.damage, name, getattr(reader.damage, name) + count)
        reader.damage.places.extend(damage.places)
        scale = made.settings.time_base / reader.time_base
        order = sorted(zip(parts.shown.times, parts.shown.durations, strict=True))
        reader.check_frames((round(pts * scale), round(duration * scale)) for pts, duration in order)
        tell_times(reader, place.column)
        stages: Counter[str] = Counter()
        for record in records:
            stages.update(record.stages)
        stages["finish"] += time.perf_counter() - begun - parts.waited  # type: ignore[assignment]
        return VideoResult(
            frames=sum(record.frames for record in records),
            seconds=time.perf_counter() - begun,
            width=made.settings.width,
            height=made.settings.height,
            redone=sum(record.redone for record in records),
            resumed=0,
            damage=reader.damage,
            reuse=_reuse(records),
            stages=dict(stages),
            codec=made.settings.codec,
            pix_fmt=made.settings.pix_fmt,
            arithmetic=records[0].arithmetic,
        )


class _Parts:
    """The segments of a plan in their order, each read when it is there.

    Args:
        plan, folder: whose, and where.
        there: the records of all of them, which were looked at already; None looks at each.
        arrivals: says when each is there; None waits for none.

    Attributes:
        records: of those that were read.
        shown: times of their frames.
        waited: seconds for segments that were not there yet.
    """

    def __init__(self, plan: Plan, folder: Path, there: list[Record] | None, arrivals: Arrivals | None) -> None:
        self._plan, self._folder, self._there, self._arrivals = plan, folder, there, arrivals
        self.records: list[Record] = []
        self.shown = Shown([], [])
        self.waited = 0.0

    def packets(self, times: DecodeTimes) -> Iterator[tuple[Fraction, int, av.Packet[Any]]]:
        """The video's packets, each with a time that does not go back; their decoding times go into ``times``."""
        time_now = None
        for number in range(len(self._plan.segments)):
            path = segment_path(self._folder, number)
            self._take(number, path, times)
            for packet in packets_in(path):
                time_now = packet_time(packet) if time_now is None else max(time_now, packet_time(packet))
                yield time_now, VIDEO, packet

    def _take(self, number: int, path: Path, times: DecodeTimes) -> None:
        if self._arrivals is not None:
            begun = time.perf_counter()
            self._arrivals.wait_for(number)
            self.waited += time.perf_counter() - begun
        record = self._there[number] if self._there else record_of(path, self._plan)
        if record is None:
            raise _missing([number], len(self._plan.segments), self._folder)
        shown, before = shown_in(path), self.shown.times
        # In decoding order: the latest time is among the last few, as no codec reorders by more.
        if before and shown.times and min(shown.times) <= max(before[-64:]):
            raise InputError(f"the segment {path} begins before the one before it ends; compute both again")
        self._tell_arithmetic(record)
        times.add(shown.times)
        self.records.append(record)
        self.shown.times.extend(shown.times)
        self.shown.durations.extend(shown.durations)

    def _tell_arithmetic(self, record: Record) -> None:
        """Says, once, if the machines did not all compute alike."""
        first = self.records[0] if self.records else record
        if record.arithmetic == first.arithmetic or any(r.arithmetic != first.arithmetic for r in self.records):
            return
        named = "; ".join(f"{', '.join(r.arithmetic.values())} on {r.host}" for r in (first, record))
        _log.warning("the segments were not all computed alike, so bits may differ between them: %s", named)


def _all_records(plan: Plan, folder: Path) -> list[Record]:
    """Those of all segments, whose files are read whole once.

    Raises:
        InputError: some are missing or damaged.
    """
    found = [record_of(segment_path(folder, number), plan) for number in range(len(plan.segments))]
    missing = [number for number, record in enumerate(found) if record is None]
    if missing:
        raise _missing(missing, len(found), folder)
    return [record for record in found if record is not None]


def _missing(numbers: list[int], count: int, folder: Path) -> InputError:
    listed = ", ".join(map(str, numbers[:10])) + (", ..." if len(numbers) > 10 else "")
    return InputError(
        f"{len(numbers)} of {count} segments are missing or damaged in {folder}: {listed}",
        "compute each with: srfast segment PLAN NUMBER",
    )


def _others(packets: Iterable[av.Packet[Any]]) -> Iterator[tuple[Fraction, int, av.Packet[Any]]]:
    for packet in packets:
        yield packet_time(packet), packet.stream.index, packet


def _merged(
    video: Iterator[tuple[Fraction, int, av.Packet[Any]]], others: Iterable[av.Packet[Any]]
) -> Iterator[tuple[int, av.Packet[Any]]]:
    """All packets by their times; those of the other streams stay in the order of the file."""
    for _, index, packet in heapq.merge(video, _others(others), key=lambda entry: entry[0]):
        yield index, packet


def _reuse(records: list[Record]) -> Reuse:
    total: Counter[str] = Counter()
    for record in records:
        total.update(record.reuse)
    return Reuse(**total)


__all__ = ["Joined", "join"]
