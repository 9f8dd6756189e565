"""Measures every kernel and network that matters, most valuable first, a line of JSON each as it ends.

    python -m benchmarks.gpu.table --out table.jsonl [--only REGEX] [--seconds 145] [--at-once 4] [--dry-run]

Each runs in a process of its own (``benchmarks.gpu.job``): one that hangs, faults or is wrong costs its own line. Beside the
lines go ``cuda_configs.json`` and ``configs.json``, the fastest right kernels, for ``SRFAST_CUDA_CONFIGS`` and
``SRFAST_TRITON_CONFIGS``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu.decisions import write_decisions
from benchmarks.gpu.jobs import Job, jobs, rehearsed
from benchmarks.gpu.turns import TURN, Link, Turns


def main(arguments: list[str] | None = None) -> int:
    """Runs the jobs; 0 if the device was there and, in a rehearsal, if no job failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="file to add lines to")
    parser.add_argument("--only", default="", metavar="REGEX", help="jobs whose names match")
    parser.add_argument("--seconds", type=float, default=145, help="for all")
    parser.add_argument("--at-once", type=int, default=min(4, os.cpu_count() or 1), help="processes at a time")
    parser.add_argument("--spawn", action="store_true", help="start every job anew instead of by fork")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, with tiny images")
    options = parser.parse_args(arguments)
    if options.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
    # Imported once, here, for all jobs; nothing in this process may touch the GPU, or its children could not.
    import torch

    from benchmarks.gpu import job as work
    from benchmarks.gpu.bench import Bench

    if options.dry_run:
        work.prepare(True)
    spawn = options.spawn

    def start(job: Job, link: int) -> int:
        if spawn:
            given = json.dumps({**asdict(job), "dry": options.dry_run})
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.job", given, str(link)]
            os.set_inheritable(link, True)
            os.execv(sys.executable, command)
        end = Link(link)
        if options.dry_run:
            torch.set_num_threads(1)
        work.perform(job, Bench(work.prepare(options.dry_run), end.turn, end.report))
        return 0

    chosen = [job for job in jobs() if re.search(options.only, job.name)]
    chosen = rehearsed(chosen) if options.dry_run else chosen
    turns = Turns(options.out, start, options.at_once, options.seconds, turn=600 if options.dry_run else TURN)
    first = turns.run([job for job in chosen if job.kind == "device"])
    if any("failed" in row for row in first) and not spawn:
        print("a forked process cannot use the GPU here: every job is started anew", flush=True)
        spawn = True
        first = turns.run([job for job in chosen if job.kind == "device"])
    rows = first + turns.run([job for job in chosen if job.kind != "device"])
    write_decisions(options.out)
    failed = [row["name"] for row in (rows if options.dry_run else first) if "failed" in row]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
