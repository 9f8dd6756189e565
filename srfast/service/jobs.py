"""Jobs that survive the end of the process: each is a folder with its input, its state and its result."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from srfast.errors import InputError, OutputError, SrfastError, escaped_lines
from srfast.service.config import Request, ServiceOptions

_log = logging.getLogger("srfast")
State: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
_ATTEMPTS = 3  # starts of a job that did not live to its end: its input may be what ends the process
_ID = re.compile(r"[0-9a-f]{32}")


class BusyError(SrfastError):
    """There are as many jobs as the service takes; try again later."""


class NoJobError(SrfastError):
    """No job has this number, or it is in another state than asked for."""


@dataclass(frozen=True)
class Job:
    """Hold what is known of one upload that is upscaled.

    Attributes:
        id: 32 hexadecimal digits that nobody guesses.
        name: of the upload, for people.
        kind: 'image' or 'video'.
        request: what is to be done with it.
        state: 'queued', 'running', 'done', 'failed' or 'cancelled'.
        source: the file; None is the upload in the job's folder.
        owner: whose page it belongs to.
        created, ended: seconds since 1970; 0 where it has not.
        done, total: frames; 0 where unknown.
        fps: frames per second of the run so far.
        error: why it failed, in words.
        notes: of a finished run, such as damage of the input.
        attempts: times that it was started and not brought to an end.

    Examples:
        >>> request = Request("compact_x2", suffix="mkv")
        >>> job = Job("0" * 32, "my clip.mp4", "video", request, "running", done=30, total=90, fps=20.0)
        >>> job.eta_seconds, job.result_name, job.possible
        (3.0, 'my_clip_compact_x2.mkv', ('cancel', 'delete'))
    """

    id: str
    name: str
    kind: Literal["image", "video"]
    request: Request
    state: State = "queued"
    source: str | None = None
    owner: str = ""
    created: float = 0.0
    ended: float = 0.0
    done: int = 0
    total: int = 0
    fps: float = 0.0
    error: str = ""
    notes: str = ""
    attempts: int = 0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end at the speed so far; None where that is not known."""
        return (self.total - self.done) / self.fps if self.state == "running" and self.total and self.fps else None

    @property
    def possible(self) -> tuple[str, ...]:
        """What can be done with it in its state: 'cancel', 'resume', 'delete'."""
        if self.state not in ENDED:
            return ("cancel", "delete")
        return ("resume", "delete") if self.state in ("cancelled", "failed") else ("delete",)

    @property
    def result_name(self) -> str:
        """A name for the result, for people."""
        stem = re.sub(r"[^\w.-]+", "_", Path(self.name).stem)[:80] or "result"
        return f"{stem}_{self.request.model}.{self.request.suffix}"


class Interrupted(Exception):  # noqa: N818  no error: somebody wanted it
    """The job is to end: it was cancelled, or the service stops."""


Work: TypeAlias = Callable[["Job", Path, Path, Callable[[int, int, float], None]], str]


@dataclass
class JobStore:
    """Keep the jobs of a service in a folder, and do one after another in a thread.

    Args:
        options: of the service.
        work: does a job: from the job, its input, its output and a function to tell frames, total and speed to, which may
            raise; returns notes.

    Raises:
        OutputError: another process uses the folder, or it cannot be written.

    Examples:
        >>> import tempfile
        >>> store = JobStore(ServiceOptions(Path(tempfile.mkdtemp())), lambda job, source, target, tell: "")
        >>> place = store.reserve()
        >>> _ = (place / "input").write_bytes(b"an image")
        >>> store.submit(place, Job(place.name, "a.png", "image", Request("compact_x2", suffix="png"))).state
        'queued'
        >>> store.cancel(place.name).state
        'cancelled'
        >>> store.stop()
    """

    options: ServiceOptions
    work: Work
    _jobs: dict[str, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._change = threading.Condition()
        self._stopping = False
        self._cancelled: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="srfast-jobs", daemon=True)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = open(self.folder / "lock", "w")  # noqa: SIM115
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(f"another service uses the folder {self.folder}; give another --jobs") from error
        except OSError as error:
            raise OutputError(f"cannot keep jobs in {self.folder}: {error.strerror}") from error
        self._load()

    @property
    def folder(self) -> Path:
        """The folder in which the jobs live."""
        return self.options.folder

    def start(self) -> None:
        """Begin to work on the jobs that wait."""
        self._thread.start()

    def stop(self) -> None:
        """End the job at hand where it can be continued, wait for that, and leave the folder to others."""
        with self._change:
            self._stopping = True
            self._change.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        self._lock.close()

    def reserve(self) -> Path:
        """Make a new folder for an upload, named by the job's id to be.

        Raises:
            BusyError: there are as many jobs as the service takes.
        """
        self._sweep()
        self.check_room()
        place = self.folder / secrets.token_hex(16)
        place.mkdir(mode=0o700)
        return place

    def check_room(self) -> None:
        """Refuse a job that would be one too many.

        Raises:
            BusyError: there are as many jobs as the service takes.
        """
        with self._change:
            waiting = sum(job.state not in ENDED for job in self._jobs.values())
        if waiting >= self.options.jobs_waiting:
            raise BusyError(f"{waiting} jobs are waiting already; try again later")

    def submit(self, place: Path, job: Job) -> Job:
        """Queue a job whose folder was reserved, and whose input lies there.

        Args:
            place: the folder, from ``reserve``; the input's name in it is ``input``.
            job: with the folder's name as its id.

        Returns:
            The job with the time of its creation.

        Raises:
            BusyError: others came in between; the folder is removed.
        """
        try:
            with self._change:
                self.check_room()
                job = replace(job, created=time.time())
                self._write(job)
                self._jobs[job.id] = job
                self._change.notify_all()
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return job

    def get(self, job_id: str) -> Job:
        """Return a job by its id.

        Raises:
            NoJobError: there is none.
        """
        with self._change:
            if job_id not in self._jobs:
                raise NoJobError("there is no such job")
            return self._jobs[job_id]

    def all(self, owner: str | None = None) -> list[Job]:
        """Return the jobs in the order in which they came, of one owner where one is given."""
        with self._change:
            jobs = [job for job in self._jobs.values() if owner is None or job.owner == owner]
        return sorted(jobs, key=lambda job: job.created)

    def cancel(self, job_id: str) -> Job:
        """End a job that is waiting or running; what is done of it is kept for ``resume``.

        Raises:
            NoJobError: there is none, or it has ended.
        """
        with self._change:
            job = self.get(job_id)
            if "cancel" not in job.possible:
                raise NoJobError(f"the job is {job.state}")
            if job.state == "queued":
                return self._set(replace(job, state="cancelled", ended=time.time()))
            # The run looks at it after each frame.
            self._cancelled.add(job_id)
            self._change.wait_for(lambda: self._jobs[job_id].state != "running", timeout=10)
            return self._jobs[job_id]

    def resume(self, job_id: str) -> Job:
        """Queue a job again that was cancelled or failed; it goes on where it was.

        Raises:
            NoJobError: there is none, or it is not in such a state.
            BusyError: there are as many jobs as the service takes.
        """
        with self._change:
            job = self.get(job_id)
            if "resume" not in job.possible:
                raise NoJobError(f"the job is {job.state}")
            self.check_room()
            job = self._set(replace(job, state="queued", ended=0.0, error="", attempts=0))
            self._change.notify_all()
            return job

    def delete(self, job_id: str) -> None:
        """Remove a job with its files; one at hand is ended first.

        Raises:
            NoJobError: there is none, or it does not end.
        """
        if self.get(job_id).state not in ENDED and self.cancel(job_id).state not in ENDED:
            raise NoJobError("the job does not end yet; try again")
        with self._change:
            self.get(job_id)
            del self._jobs[job_id]
        shutil.rmtree(self.folder / job_id, ignore_errors=True)

    def input(self, job: Job) -> Path:
        """Return the file that a job upscales."""
        return Path(job.source) if job.source else self.folder / job.id / "input"

    def output(self, job: Job) -> Path:
        """Return where a job's result is, or will be."""
        return self.folder / job.id / f"result.{job.request.suffix}"

    def _load(self) -> None:
        for place in sorted(self.folder.iterdir()):
            if not _ID.fullmatch(place.name):
                continue
            try:
                values = json.loads((place / "job.json").read_text(encoding="utf-8"))
                job = Job(**{**values, "request": Request.of(values["request"])})
                if job.state == "running":
                    job = replace(job, state="queued")
                    if job.attempts >= _ATTEMPTS:
                        job = replace(
                            job, state="failed", ended=time.time(), error="it ended the service several times"
                        )
                    self._write(job)
                self._jobs[job.id] = job
            except (OSError, ValueError, TypeError, KeyError):  # an upload that did not come to its end
                shutil.rmtree(place, ignore_errors=True)

    def _sweep(self) -> None:
        """Removes jobs that ended long ago."""
        before = time.time() - 3600 * self.options.keep_hours
        for job in self.all():
            if job.state in ENDED and job.ended < before:
                self.delete(job.id)

    def _write(self, job: Job) -> None:
        path = self.folder / job.id / "job.json"
        # Whole and on the disk before anybody is told: after a crash the service goes by it.
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8") as file:
            json.dump(asdict(job), file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def _set(self, job: Job) -> Job:
        """Makes a state known to all and to the disk."""
        self._write(job)
        self._jobs[job.id] = job
        return job

    def _next(self) -> Job | None:
        with self._change:
            while not self._stopping:
                waiting = [job for job in self.all() if job.state == "queued"]
                if waiting:
                    job = waiting[0]
                    # Counted before it begins: a job that ends the process could not be counted afterwards.
                    return self._set(replace(job, state="running", attempts=job.attempts + 1, fps=0.0))
                self._change.wait(timeout=60)
        return None

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                self._one(job)
            except Exception:  # such as a full disk that takes no state
                _log.exception("job %s", job.id)
                with self._change:
                    self._jobs[job.id] = replace(job, state="failed", ended=time.time(), error="the service failed")

    def _one(self, job: Job) -> None:
        def tell(done: int, total: int, fps: float) -> None:
            with self._change:
                self._jobs[job.id] = replace(self._jobs[job.id], done=done, total=total, fps=fps)
                if self._stopping or job.id in self._cancelled:
                    raise Interrupted

        changed: dict[str, Any] = {"ended": time.time(), "attempts": 0}
        try:
            notes = self.work(job, self.input(job), self.output(job), tell)
            changed |= {"state": "done", "notes": notes}
        except Interrupted:
            stopped = self._stopping and job.id not in self._cancelled
            changed |= {"state": "queued", "ended": 0.0} if stopped else {"state": "cancelled"}
        except (SrfastError, ValueError, MemoryError) as error:
            words = escaped_lines(error) or "there is no memory for it"
            changed |= {"state": "failed", "error": _without_paths(words, self, job)}
        with self._change:
            changed["ended"] = changed["ended"] and time.time()
            self._cancelled.discard(job.id)
            if job.id in self._jobs:
                self._set(replace(self._jobs[job.id], **changed))
            self._change.notify_all()


def _without_paths(words: str, store: JobStore, job: Job) -> str:
    """A message as clients may read it: names of the service's own files are those of the upload."""
    for path, name in ((store.input(job), job.name), (store.output(job), job.result_name)):
        words = words.replace(str(path.absolute()), name).replace(str(path), name)
    return words


def check_source(path: str, folders: tuple[Path, ...]) -> Path:
    """Resolve a file of this machine that a client names, if it lies in one of the folders that are open to clients.

    Args:
        path: as the client wrote it.
        folders: that are open, links followed.

    Returns:
        The file's path without links.

    Raises:
        InputError: it lies elsewhere, is missing, or is no file.

    Examples:
        >>> _ = Path("open.png").write_bytes(b"")
        >>> check_source("open.png", (Path("."),)).name
        'open.png'
        >>> check_source("/etc/passwd", (Path("."),))
        Traceback (most recent call last):
        srfast.errors.InputError: '/etc/passwd' is no file in the folders that are open here
    """
    try:
        real = Path(path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        real = None
    allowed = real is not None and any(real.is_relative_to(folder.resolve()) for folder in folders)
    if real is None or not allowed or not real.is_file():
        raise InputError(f"{path[:200]!r} is no file in the folders that are open here")
    return real
