"""``srfast join``: the output from its segments and, for all that is not the video, the source."""

from __future__ import annotations

import heapq
import logging
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srfast.cluster.plan import Plan
from srfast.cluster.segment import Record, damage_of, packets_in, record_of, segment_path, shown_in
from srfast.errors import InputError, OutputError
from srfast.upscaler import Upscaler
from srfast.video.arrangement import arrange
from srfast.video.decoding import packet_time
from srfast.video.journal import VIDEO
from srfast.video.keeping import tell_times
from srfast.video.pipeline import VideoResult
from srfast.video.reader import VideoReader
from srfast.video.settings import container_format
from srfast.video.sinks import write_container
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
) -> Joined:
    """Write the output: the segments' packets one after another, everything else from the source.

    Args:
        plan: of the video.
        folder: where all its segments lie.
        target: the file to write, in the plan's container.
        upscaler: the plan's network, if it is loaded already; its sizes are asked for, nothing is computed.
        overwrite: replace an existing target.
        started: when the run began, by ``time.perf_counter``, for the seconds in the result.

    Raises:
        InputError: segments are missing or damaged, or the source is another than the plan's.
        OutputError: the target cannot be written.
        FrameLossError: the plan is strict and frames are missing.
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
    records = _records(plan, folder)
    _tell_arithmetic(records)
    upscaler = upscaler or plan.upscaler(device="cpu", backend="auto", dtype=None)
    plan.check_network(upscaler)
    options = plan.options
    with VideoReader(plan.source.path, options.input_options, strict=options.strict) as reader:
        made = arrange(reader, place, upscaler, options, plan.source.path)
        plan.check_encoder(made.settings)
        files = [segment_path(folder, number) for number in range(len(plan.segments))]
        shown, durations = _times(files)
        begun = time.perf_counter()
        write_container(
            place.path,
            place.kind,
            reader,
            made.settings,
            made.streams,
            _merged(_video(files), reader.packets(made.streams)),
            shown,
            overwrite=overwrite,
        )
        damage = damage_of(records)
        for name, count in vars(damage).items():
            if name != "places":
                setattr(reader.damage, name, getattr(reader.damage, name) + count)
        reader.damage.places.extend(damage.places)
        scale = made.settings.time_base / reader.time_base
        order = sorted(zip(shown, durations, strict=True))
        reader.check_frames((round(pts * scale), round(duration * scale)) for pts, duration in order)
        tell_times(reader, place.column)
        stages: Counter[str] = Counter()
        for record in records:
            stages.update(record.stages)
        stages["finish"] += time.perf_counter() - begun  # type: ignore[assignment]
        result = VideoResult(
            frames=sum(record.frames for record in records),
            seconds=time.perf_counter() - started,
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
    return Joined(result, records)


def _records(plan: Plan, folder: Path) -> list[Record]:
    """Those of all segments, whose files are read whole once.

    Raises:
        InputError: some are missing or damaged.
    """
    found = [record_of(segment_path(folder, number), plan) for number in range(len(plan.segments))]
    missing = [number for number, record in enumerate(found) if record is None]
    if missing:
        listed = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise InputError(
            f"{len(missing)} of {len(found)} segments are missing or damaged in {folder}: {listed}\n"
            "compute each with: srfast segment PLAN NUMBER"
        )
    return [record for record in found if record is not None]


def _tell_arithmetic(records: list[Record]) -> None:
    """Says if the machines did not all compute alike."""
    kinds = {tuple(sorted(record.arithmetic.items())): record for record in records}
    if len(kinds) > 1:
        named = "; ".join(f"{', '.join(kind.values())} on {r.host}" for r in kinds.values() if (kind := r.arithmetic))
        _log.warning("the segments were not all computed alike, so bits may differ between them: %s", named)


def _times(files: list[Path]) -> tuple[list[int], list[int]]:
    """When the frames of all segments are shown and for how long, in the order of their decoding."""
    times: list[int] = []
    durations: list[int] = []
    for file in files:
        shown = shown_in(file)
        if times and shown.times and min(shown.times) <= max(times[-64:]):
            raise InputError(f"the segment {file} begins before the one before it ends; compute both again")
        times += shown.times
        durations += shown.durations
    return times, durations


def _video(files: list[Path]) -> Iterator[tuple[Fraction, int, av.Packet[Any]]]:
    """The video's packets, each with a time that does not go back."""
    time = None
    for file in files:
        for packet in packets_in(file):
            time = packet_time(packet) if time is None else max(time, packet_time(packet))
            yield time, VIDEO, packet


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
