"""``srfast upscale`` for folders and for several inputs: each file is done or named, by one engine."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from srfast.cli.options import (
    Kind,
    OutputOptions,
    UpscaleOptions,
    check_applicable,
    check_frames,
    default_model,
    upscaler_from,
)
from srfast.errors import InputError, OutputError, SrfastError, escaped

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler

# What no further file could be written after.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# fmt: off
_VIDEOS = (
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".m2v", ".vob", ".wmv", ".asf",
    ".flv", ".f4v", ".ogv", ".ogm", ".3gp", ".3g2", ".mxf", ".dv", ".y4m", ".nut", ".divx", ".rm", ".rmvb",
)
# fmt: on
_LISTED = 5  # names in a line of files that are left out


@dataclass(frozen=True)
class Job:
    """A file to upscale, and where the result goes; ``kind`` is 'image' or 'video'."""

    source: Path
    target: Path
    kind: str


def upscale_all(options: UpscaleOptions, sources: list[str], output: str) -> int:
    """Files and folders into one folder; returns 0, or the code of the first that could not be read or written."""
    target = Path(output)
    if not target.exists() and not output.endswith(("/", os.sep)) and _kind(target):
        raise OutputError(f"there may be several results, and {output} is the name of one; give a folder, as {output}/")
    jobs, others = jobs_of(options.output, [Path(source) for source in sources], target)
    videos = any(job.kind == "video" for job in jobs)
    check_applicable(options, Kind.FILES if videos else Kind.FOLDER)
    if options.output.ext and jobs and not any(job.kind == "image" for job in jobs):
        raise ValueError("--ext does nothing for videos: their results have the containers of the inputs")
    _check_values(options, videos)
    if others:
        named = ", ".join(str(path) for path in others[:_LISTED]) + (", ..." if len(others) > _LISTED else "")
        print(
            escaped(f"srfast: {len(others)} files are neither images nor videos and are left out: {named}"),
            file=sys.stderr,
        )
    if not jobs:
        raise InputError(f"{', '.join(sources)} has no images or videos")
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file, but there are several results; give a folder")
    waiting = [job for job in jobs if not (options.run.resume and job.target.exists())]
    # All names are looked at before the first job: an hour later nobody is there to answer.
    existing = [job.target for job in waiting if os.path.lexists(job.target)]
    if existing and not options.output.overwrite:
        raise OutputError(
            f"{existing[0]} exists; give -y to overwrite it, --resume to do only what is missing, or another folder"
        )
    return _Queue(options, len(jobs), len(jobs) - len(waiting), target, "files" if videos else "images").run(waiting)


def _check_values(options: UpscaleOptions, videos: bool) -> None:
    """Refuses what every video would be refused for, before the first file is done.

    Raises:
        ValueError, InputError, OutputError: as a single video's run would.
    """
    if not videos:
        return
    from srfast.video.hardware import accelerator
    from srfast.video.settings import check_names
    from srfast.video.source import require_av

    check_frames(options.run.frames)
    check_names(options.video.encoding())
    accelerator(require_av(), options.video.input().hwaccel)


class _Queue:
    """Runs jobs one after another.

    Args:
        options: of the command.
        total: jobs in all.
        before: how many of them an earlier run has done.
        target: the folder of the results.
        unit: what they are.
    """

    def __init__(self, options: UpscaleOptions, total: int, before: int, target: Path, unit: str) -> None:
        self._options, self._total, self._before, self._target, self._unit = options, total, before, target, unit
        self._upscalers: dict[tuple[str, ...], Upscaler] = {}
        self._failed: list[tuple[int, str]] = []
        self._done = before

    def run(self, jobs: list[Job]) -> int:
        """Returns the code of the first failure, or 0."""
        from srfast.cli.progress import Reporter

        started = time.perf_counter()
        if jobs:
            self._upscaler(jobs[0].kind)  # a bad model is said before a folder is made
        _make_folder(self._target)
        try:
            with Reporter(self._options.output.progress, self._unit) as reporter:
                for number, job in enumerate(jobs, self._before + 1):
                    if not self._one(job):
                        break
                    reporter.update(number, self._total, time.perf_counter() - started, self._before)
        except KeyboardInterrupt as error:
            there = f"{self._done} of {self._total} {self._unit} are in {self._target}"
            raise KeyboardInterrupt(f"{there}; --resume does the others") from error
        finally:
            for _, message in self._failed:
                print(f"srfast: error: {message}", file=sys.stderr)
        old = f", {self._before} of them from before" if self._before else ""
        engines = ", ".join(str(upscaler) for upscaler in self._upscalers.values())
        done = f"{self._target}: {self._done} of {self._total} {self._unit}{old}"
        print(escaped(f"{done} on {engines}" if engines else done), file=sys.stderr)
        return self._failed[0][0] if self._failed else 0

    def _one(self, job: Job) -> bool:
        """Does a job; False where no other could be written after it."""
        try:
            _make_folder(job.target.parent)
            code = self._image(job) if job.kind == "image" else self._video(job)
        except (InputError, OutputError) as error:
            named = any(escaped(path) in str(error) for path in (job.source, job.target.parent))
            self._failed.append((error.exit_code, f"{error}" if named else f"{escaped(job.source)}: {error}"))
            # One bad file must not end a night's work; a full disk would only fail for all the others too.
            return getattr(error.__cause__, "errno", None) not in _NO_ROOM
        except (SrfastError, MemoryError) as error:
            self._failed.append(
                (SrfastError.exit_code, f"{escaped(job.source)}: {error or 'there is no memory for it'}")
            )
            return True
        self._done += 1
        if code:
            self._failed.append((code, escaped(f"{job.source} was damaged")))
        return True

    def _image(self, job: Job) -> int:
        from srfast.images import check_size, read_picture, write_image

        picture, upscaler = read_picture(job.source), self._upscaler("image")
        check_size(job.target, *upscaler.output_size(*picture.image.shape[:2]))
        write_image(job.target, upscaler(picture.image), self._options.output.overwrite, picture.metadata)
        return 0

    def _video(self, job: Job) -> int:
        from srfast.cli.video import upscale

        return upscale(self._options, str(job.source), str(job.target), self._upscaler("video"))

    def _upscaler(self, kind: str) -> Upscaler:
        """The engine of a kind; one for both where they share the network."""
        model = self._options.model
        name = tuple(model.model or [default_model(kind, model.outscale)])
        if name not in self._upscalers:
            self._upscalers[name] = upscaler_from(model, kind, model.memory(None))
        return self._upscalers[name]


def _make_folder(path: Path) -> None:
    """Makes a folder for results, and those above it, where there is none.

    Raises:
        OutputError: it cannot be made; the cause says whether any could.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{path} should be a folder for results, and is something else; move it away") from error
    except OSError as error:
        raise OutputError(f"cannot make the folder {path} for results: {error.strerror}") from error


def queue_of(path: Path) -> list[str]:
    """The inputs that a file lists, one a line; what begins with # is a comment.

    Raises:
        InputError: it cannot be read, or lists none.
    """
    try:
        # Windows' editors put a mark of UTF-8 before the first name. Only line feeds end a line: others may be in a name.
        lines = path.read_text("utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise InputError(f"cannot read the list {path}: {error.strerror}") from error
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise InputError(f"the list {path} names no input; write one a line")
    return names


def jobs_of(output: OutputOptions, sources: list[Path], target: Path) -> tuple[list[Job], list[Path]]:
    """What is to be done, and the files that are neither images nor videos."""
    if "/" in output.suffix or os.sep in output.suffix:
        raise ValueError(f"--suffix is a part of file names, without {os.sep}, not {output.suffix!r}")
    jobs, others = [], []
    for source in sources:
        if not source.exists():
            raise InputError(f"{source} is missing")
        files = _files(source, target) if source.is_dir() else [source]
        for path in files:
            kind = _kind(path)
            if kind is None:
                others.append(path)
                continue
            inside = path.relative_to(source).parent if source.is_dir() else Path()
            jobs.append(Job(path, target / inside / _result_name(path, kind, output.suffix, output.ext), kind))
    # A file that is named twice, by a list and by its folder, say, is done once.
    jobs = list(dict.fromkeys(jobs))
    if output.suffix:
        # In the inputs' own folder an earlier run left results, which are not enlarged once more.
        made = {_real(job.target) for job in jobs}
        jobs = [job for job in jobs if _real(job.source) not in made]
    if jobs:
        # a.png and a.jpg with one --ext, say: found before the first is written, not when the second would replace it.
        clash, count = Counter(job.target for job in jobs).most_common(1)[0]
        if count > 1:
            more = "; leave --ext out" if output.ext else "; give them other names, or do them one by one"
            raise OutputError(f"two files would both be written as {clash}{more}")
    return jobs, others


def _files(folder: Path, target: Path) -> list[Path]:
    """All files below a folder but for the results' own folder, sorted."""
    found = []
    for here, folders, files in os.walk(folder, followlinks=True):
        # The results' folder may lie inside the input's; without this a second run would enlarge the results of the first.
        # A link to a folder is one like any other, but not one that leads back up: that would have no end.
        above = [Path(here), *(parent for parent in Path(here).parents if parent.is_relative_to(folder))]
        folders[:] = sorted(
            f
            for f in folders
            if not f.startswith(".") and not any(_same(Path(here) / f, other) for other in (target, *above))
        )
        found += [Path(here) / name for name in sorted(files)]
    return sorted(found)


def _real(path: Path) -> str:
    """The one name of a file, however its folder is written."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _kind(path: Path) -> str | None:
    """'image' or 'video'; None for hidden files, macOS's ``._`` companions and all others."""
    from srfast.images import READABLE
    from srfast.video.animation import is_animation

    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return None
    if suffix in _VIDEOS or is_animation(path):
        return "video"
    return "image" if suffix in READABLE else None


def _result_name(path: Path, kind: str, suffix: str, ext: str | None) -> str:
    """The name of a result: the input's format, where srfast writes it."""
    from srfast.images import SUFFIXES, check_format
    from srfast.video.settings import FORMATS

    own = path.suffix.lower()
    if kind == "video":
        return f"{path.stem}{suffix}{path.suffix if own in FORMATS else '.mkv'}"
    if ext:
        name = f"{path.stem}{suffix}.{ext.lstrip('.')}"
        check_format(Path(name))
        return name
    return f"{path.stem}{suffix}{path.suffix if own in SUFFIXES else '.png'}"
