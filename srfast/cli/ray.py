"""``srfast upscale --ray``: videos in segments on a Ray cluster, or on all GPUs of this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from srfast.cli.options import Kind, UpscaleOptions, check_applicable
from srfast.cli.queue import Job, jobs_of
from srfast.cli.segments import plan_arguments
from srfast.errors import InputError, OutputError, escaped, escaped_lines


def upscale_on_ray(options: UpscaleOptions, sources: list[str], target: str, several: bool) -> int:
    """One video, or several into a folder; returns 0, or the code of the first that failed."""
    from srfast._files import check_output, whole_file
    from srfast.cli.progress import Reporter
    from srfast.cluster.pool import Resources, Starting

    check_applicable(options, Kind.RAY)
    if options.run.report:
        check_output(options.run.report, overwrite=True)
    jobs = _jobs(options, sources, Path(target)) if several else [Job(Path(sources[0]), Path(target), "video")]
    waiting = [job for job in jobs if not (several and options.run.resume and job.target.exists())]
    for job in waiting:
        if several:
            job.target.parent.mkdir(parents=True, exist_ok=True)
    ray, run = options.cluster, options.run
    with Starting(ray.ray or None, Resources(ray.ray_gpus, ray.ray_cpus, ray.ray_workers)) as pool:
        if any(job.source.exists() for job in waiting):
            pool.begin()  # before PyTorch is loaded, which takes as long
        from srfast.cluster import upscale

        arguments = plan_arguments(options.model, options.video, None, strict=run.strict, reuse=not run.no_reuse)
        with Reporter(options.output.progress) as reporter:
            outcomes = upscale(
                [str(job.source) for job in waiting],
                [str(job.target) for job in waiting],
                overwrite=options.output.overwrite,
                resume=options.run.resume,
                on_progress=reporter.update,
                pool=pool,
                **arguments,
            )
    for outcome in outcomes:
        if outcome.joined is not None:
            result, count = outcome.joined.result, len(outcome.joined.segments)
            hosts = len({record.host for record in outcome.joined.segments})
            said = f"{result.frames} frames of {result.width}x{result.height} in {result.seconds:.1f} s"
            print(escaped(f"{outcome.target}: {said}, {count} segments on {hosts} machines"), file=sys.stderr)
        if outcome.error:
            print(escaped_lines(f"srfast: error: {outcome.error}"), file=sys.stderr)
    if several:
        done = len(jobs) - sum(outcome.joined is None for outcome in outcomes)
        print(escaped(f"{target}: {done} of {len(jobs)} files"), file=sys.stderr)
    if options.run.report:
        from srfast.cluster import as_dict

        reports = [as_dict(o.joined, o.plan, o.target) for o in outcomes if o.joined is not None and o.plan is not None]
        with whole_file(options.run.report, overwrite=True) as partial:
            partial.write_text(json.dumps(reports if several else reports[0] if reports else {}, indent=2) + "\n")
    return next((outcome.code for outcome in outcomes if outcome.code), 0)


def _jobs(options: UpscaleOptions, sources: list[str], target: Path) -> list[Job]:
    """The videos among the inputs, and where their results go."""
    jobs, others = jobs_of(options.output, [Path(source) for source in sources], target)
    left = [job.source for job in jobs if job.kind != "video"] + others
    if left:
        named = ", ".join(map(str, left[:5])) + (", ..." if len(left) > 5 else "")
        print(escaped(f"srfast: {len(left)} files are no videos and are left out: {named}"), file=sys.stderr)
    videos = [job for job in jobs if job.kind == "video"]
    if not videos:
        raise InputError(f"{', '.join(sources)} has no videos")
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file, but there are several results; give a folder")
    return videos
