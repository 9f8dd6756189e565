"""Videos upscaled by a pool of workers: plans, segments as they come, one join for each video."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from srfast._files import shortened, whole_file
from srfast.cluster.arrivals import Arrivals
from srfast.cluster.joining import Joined, join
from srfast.cluster.plan import Plan, read_plan, write_plan
from srfast.cluster.pool import Event, Resources, Starting
from srfast.cluster.schedule import AHEAD, Scheduler, Task
from srfast.cluster.segment import record_of, segment_path
from srfast.cluster.splitting import SECONDS, SegmentedKeywords, described, make_plan
from srfast.errors import FrameLossError, OutputError, SrfastError, escaped
from srfast.upscaler import Upscaler, load
from srfast.video.options import UpscalingOptions
from srfast.video.settings import container_format
from srfast.video.target import FileTarget, parse_target

if TYPE_CHECKING:
    from typing_extensions import Unpack

_log = logging.getLogger("srfast")
_STILLBORN = 20  # workers in a row that do not start, after which a run ends
_JOINS = 4  # outputs that are written at a time, each as its segments come
_ON_DRIVER = {"device": "cpu", "backend": "auto", "dtype": None}  # it asks for sizes only, and may have no GPU


@dataclass(frozen=True)
class Outcome:
    """What became of one video.

    Attributes:
        source, target: files.
        joined: the output; None where there is none.
        plan: of the video; None where it could not be read.
        error: why there is no output, or what damage of the input cost.
        code: exit code: 0, or that of the error's kind.
    """

    source: str
    target: str
    joined: Joined | None = None
    plan: Plan | None = None
    error: str = ""
    code: int = 0


class Pool(Protocol):
    """Workers, as ``RayPool`` has them."""

    @property
    def workers(self) -> dict[str, str]:
        """Return the workers that are there, with the machine of each."""
        ...

    def grow(self, waiting: int) -> None:
        """Starts workers for ``waiting`` segments, as far as there is room; for none it gives up those that only start."""
        ...

    def submit(self, name: str, task: Task, plan: str, folder: Path, token: str) -> None:
        """Gives a worker a segment; ``plan`` is its text, and ``token`` a file in the driver's folder."""
        ...

    def load(self, name: str) -> int:
        """Return the number of segments that a worker has."""
        ...

    def wait(self, seconds: float) -> list[Event]:
        """Return what has happened, after at most ``seconds``."""
        ...

    def close(self) -> None:
        """Ends all workers."""
        ...


def upscale(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "compact_x4",
    *,
    address: str | None = None,
    gpus: float | None = None,
    cpus: float | None = None,
    workers: int | None = None,
    seconds: float = SECONDS,
    overwrite: bool = False,
    resume: bool = False,
    on_progress: Callable[[int, int, float, int], None] | None = None,
    pool: Pool | Starting | None = None,
    **options: Unpack[SegmentedKeywords],
) -> list[Outcome]:
    """Upscale videos on a Ray cluster, each in segments that any of its machines computes.

    Segments of all videos are one queue, the longest video first. Finished ones lie in a hidden folder beside each output, on
    storage that the machines share, or come back through Ray where they do not. A worker that is lost costs its segment.

    Args:
        sources: a file, or several.
        target: the file to write, or one for each source.
        model: what ``srfast.load`` takes; paths of checkpoints have to be there on every machine.
        address: of the cluster, as ``ray.init`` takes it; None starts Ray on this machine with a worker for each GPU, or one.
        gpus, cpus: that a worker takes; by default one GPU where the cluster has any, else one CPU.
        workers: at most; by default as many as there is room and work for.
        seconds: the least length of a segment.
        overwrite: replace outputs, and start over where an unfinished run is.
        resume: continue an unfinished run.
        on_progress: called with frames done, frames in all, seconds, and frames that were there before.
        pool: workers that are there, or start, and stay, to use instead of new ones on Ray.
        **options: those of ``UpscalingOptions``, as ``srfast.upscale_video`` takes them, and those of ``srfast.load``.

    Returns:
        For each source what became of it; one that fails does not end the others.

    Raises:
        ValueError: numbers of sources and targets differ, or an option is none.
        OutputError: there is no cluster.
        MissingDependencyError: Ray is not installed.
        KeyboardInterrupt: Ctrl-C; ``resume`` goes on from there.
    """
    inputs = [os.fspath(one) for one in ([sources] if isinstance(sources, (str, os.PathLike)) else sources)]
    outputs = [os.fspath(one) for one in ([target] if isinstance(target, (str, os.PathLike)) else target)]
    if len(inputs) != len(outputs):
        raise ValueError(f"{len(inputs)} sources need as many targets, not {len(outputs)}")
    how, network = UpscalingOptions.parted(options)
    with contextlib.ExitStack() as ending:
        if pool is None:
            pool = ending.enter_context(Starting(address, Resources(gpus, cpus, workers)))
            if any(map(os.path.exists, inputs)):
                pool.begin()
        upscaler = load(model, **(network | _ON_DRIVER))
        make = functools.partial(
            make_plan, upscaler=upscaler, network=described(model, network), how=how, seconds=seconds
        )
        job = _Job(inputs, outputs, make, upscaler, overwrite=overwrite, resume=resume, on_progress=on_progress)
        if any(job.plans):
            job.run(pool.wait() if isinstance(pool, Starting) else pool)
        return job.outcomes()


def work_folder(target: Path) -> Path:
    """Where plan and segments of an unfinished run lie: a hidden folder beside the target."""
    return target.with_name(f".{shortened(target.name, 230)}.srfast-segments")


class _Job:
    """Several videos on their way through a pool.

    Attributes:
        plans: by video; None of those that cannot be read or written.
    """

    def __init__(
        self,
        sources: list[str],
        targets: list[str],
        make: Callable[..., Plan],
        upscaler: Upscaler,
        *,
        overwrite: bool,
        resume: bool,
        on_progress: Callable[[int, int, float, int], None] | None,
    ) -> None:
        self._sources, self._targets, self._upscaler = sources, targets, upscaler
        self._overwrite, self._on_progress = overwrite, on_progress
        self._started, self._token = time.perf_counter(), f"seen-{uuid.uuid4().hex}"
        self._outcomes: dict[int, Outcome] = {}
        self._refused, self._stillborn = "", 0  # workers that were lost before they were ready, since the last segment
        self._joins: dict[int, Future[Joined]] = {}
        self._arrivals: dict[int, Arrivals] = {}
        self.plans: list[Plan | None] = []
        for video in range(len(sources)):
            try:
                self.plans.append(self._begin(video, make, resume))
            except (SrfastError, OSError) as error:
                self._fail(video, str(error), getattr(error, "exit_code", OutputError.exit_code))
                self.plans.append(None)
        there = [self._there(video) for video in range(len(sources))]
        self._arrivals |= {video: Arrivals(found) for video, found in enumerate(there)}
        self._scheduler = Scheduler(
            [
                (len(plan.segments), there[video], plan.frames * _pixels(plan)) if plan else (0, (), 0.0)
                for video, plan in enumerate(self.plans)
            ]
        )
        self._texts = [plan.to_json() if plan else "" for plan in self.plans]
        self._total = sum(plan.frames for plan in self.plans if plan)
        self._done = self._before = sum(
            plan.segments[segment].frames
            for plan, found in zip(self.plans, there, strict=True)
            if plan
            for segment in found
        )

    def _begin(self, video: int, make: Callable[..., Plan], resume: bool) -> Plan:
        """Plans a video, and makes or finds its folder."""
        source, target = self._sources[video], self._targets[video]
        place = parse_target(target)
        if not isinstance(place, FileTarget):
            raise OutputError(f"{place.label} cannot be joined from segments; give the name of a file")
        place.check(source, self._overwrite)
        plan, folder = make(source, container=container_format(place.suffix, place.kind)), work_folder(place.path)
        if folder.exists() and not resume:
            if not self._overwrite:
                raise OutputError(
                    f"an unfinished run of {target} is in {folder}: give --resume to continue it, or -y to start over"
                )
            shutil.rmtree(folder)
        if folder.exists() and (folder / "plan.json").exists():
            if read_plan(folder / "plan.json").digest != plan.digest:
                raise OutputError(
                    f"the unfinished run in {folder} had another input, model, encoding or srfast; repeat its command with "
                    "--resume, or give -y instead to start over"
                )
        else:
            folder.mkdir(exist_ok=True)
            write_plan(plan, folder / "plan.json", overwrite=True)
        for old in (*folder.glob("seen-*"), *folder.glob(".*.srfast-partial*")):  # of drivers that died
            old.unlink()
        (folder / self._token).touch()
        return plan

    def _folder(self, video: int) -> Path:
        return work_folder(Path(self._targets[video]))

    def _there(self, video: int) -> list[int]:
        """Segments that an earlier run has finished."""
        plan = self.plans[video]
        if plan is None:
            return []
        paths = [segment_path(self._folder(video), number) for number in range(len(plan.segments))]
        return [number for number, path in enumerate(paths) if path.exists() and record_of(path, plan) is not None]

    def run(self, pool: Pool) -> None:
        """Works until every video is done or has failed."""
        with ThreadPoolExecutor(_JOINS, "srfast-join") as joiner:
            try:
                self._report()
                for video, plan in enumerate(self.plans):
                    if plan is not None and self._scheduler.is_complete(video):
                        self._join(video, joiner)
                while not self._scheduler.finished:
                    pool.grow(self._scheduler.waiting)
                    self._hand_out(pool)
                    for event in pool.wait(0.2):
                        self._take(event, joiner)
                    self._look_at_joins()
                    self._check_workers(pool)
                pool.grow(0)
            except KeyboardInterrupt as error:
                raise KeyboardInterrupt(self._left()) from error
            finally:
                # Those that are there are joined to their end; whoever waits for one that will not come gives up.
                for arrivals in self._arrivals.values():
                    arrivals.stop()
            for video, joining in self._joins.items():
                if video not in self._outcomes:
                    self._finish(video, joining)

    def _hand_out(self, pool: Pool) -> None:
        """Gives each worker a segment, and a second one as long as there are more than workers."""
        names = pool.workers
        for name, node in names.items():
            self._scheduler.join(name, node)
        for depth in range(1, AHEAD + 1):
            for name in names:
                if pool.load(name) >= depth or (depth > 1 and self._scheduler.waiting < len(names)):
                    continue
                task = self._scheduler.next(name)
                if task is not None:
                    pool.submit(name, task, self._texts[task.video], self._folder(task.video).absolute(), self._token)

    def _take(self, event: Event, joiner: ThreadPoolExecutor) -> None:
        if event.kind == "refused":
            self._refused = event.message
            _log.warning("%s: it gets no segments", event.message)
        elif event.kind == "lost":
            _log.warning("%s on %s is lost: %s", event.worker, event.node or "a machine", event.message)
            self._stillborn += not event.node
            if self._stillborn >= _STILLBORN:
                raise OutputError(f"{self._stillborn} workers in a row did not start: {event.message}")
            self._scheduler.lost(event.worker, [event.task] if event.task else [], event.others)
        elif event.kind == "error":
            assert event.task is not None
            name = self._sources[event.task.video]
            _log.warning("segment %d of %s failed: %s", event.task.segment, name, event.message)
            line = self._scheduler.error(event.task, event.worker, event.message)
            if line:
                _log.warning("%s", line)
            if event.task.video in self._scheduler.failed:
                why = self._scheduler.failed[event.task.video]
                self._fail(event.task.video, f"{escaped(name)}: {why}; the rest is kept for --resume", event.code)
        elif event.kind == "done":
            self._arrived(event, joiner)
        for video, why in self._scheduler.failed.items():
            if video not in self._outcomes:
                self._fail(
                    video,
                    f"{escaped(self._sources[video])}: {why}; the rest is kept for --resume",
                    SrfastError.exit_code,
                )

    def _arrived(self, event: Event, joiner: ThreadPoolExecutor) -> None:
        task, plan = event.task, self.plans[event.task.video] if event.task else None
        assert task is not None and plan is not None
        self._stillborn = 0
        first = self._scheduler.done(task, event.worker, float(event.result["record"]["seconds"]))
        # Only a worker that does not see this folder sends the bytes; the file of another one is there already.
        data = event.result.get("data")
        if data is not None and first:
            try:
                with whole_file(
                    segment_path(self._folder(task.video), task.segment), overwrite=True, durable=True
                ) as partial:
                    partial.write_bytes(data)
            except (OSError, OutputError) as error:
                self._scheduler.fail(task.video, f"segment {task.segment} cannot be written: {error}")
                return
        if first:
            self._done += plan.segments[task.segment].frames
            self._report()
            self._arrivals[task.video].add(task.segment)
            self._join(task.video, joiner)

    def _join(self, video: int, joiner: ThreadPoolExecutor) -> None:
        """Begins to join a video, whose later segments are still computed."""
        plan = self.plans[video]
        if plan is None or video in self._joins or video in self._outcomes:
            return
        self._joins[video] = joiner.submit(
            join,
            plan,
            self._folder(video),
            self._targets[video],
            self._upscaler,
            overwrite=self._overwrite,
            started=self._started,
            arrivals=self._arrivals[video],
        )

    def _look_at_joins(self) -> None:
        """Computes no more of a video whose output cannot be written."""
        for video, joining in self._joins.items():
            if video not in self._outcomes and joining.done() and joining.exception() is not None:
                self._finish(video, joining)
                self._scheduler.fail(video, self._outcomes[video].error)

    def _check_workers(self, pool: Pool) -> None:
        """Ends a run that no machine can work on."""
        if self._refused and not pool.workers and time.perf_counter() - self._started > 30:
            raise OutputError(f"no machine of the cluster can work: {self._refused}; install srfast there")

    def _finish(self, video: int, joining: Future[Joined]) -> None:
        source, target, plan = self._sources[video], self._targets[video], self.plans[video]
        try:
            joined = joining.result()
        except (SrfastError, OSError) as error:
            self._fail(video, f"{escaped(source)}: {error}", getattr(error, "exit_code", OutputError.exit_code))
            return
        shutil.rmtree(self._folder(video), ignore_errors=True)
        damage = joined.result.damage
        said = f"{source} was damaged: {damage}; all else is in {target}" if damage else ""
        self._outcomes[video] = Outcome(source, target, joined, plan, said, FrameLossError.exit_code if damage else 0)

    def _fail(self, video: int, message: str, code: int) -> None:
        if video in self._arrivals:
            self._arrivals[video].stop()
        plan = self.plans[video] if video < len(self.plans) else None
        self._outcomes[video] = Outcome(self._sources[video], self._targets[video], None, plan, message, code)

    def _left(self) -> str:
        return f"{self._done} of {self._total} frames are kept beside the outputs; --resume does the others"

    def _report(self) -> None:
        if self._on_progress:
            self._on_progress(self._done, self._total, time.perf_counter() - self._started, self._before)

    def outcomes(self) -> list[Outcome]:
        """In the order of the sources."""
        return [self._outcomes[video] for video in range(len(self._sources))]


def _pixels(plan: Plan) -> float:
    return float(plan.encoder["width"] * plan.encoder["height"])
