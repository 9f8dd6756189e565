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
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

MAIN, LARGE = (480, 270), (960, 540)
# In a rehearsal.
TINY = (3, 2)
TRITON_OTHERS = ("64->256", "256->12", "9x9 3->64", "64->48")
BACKENDS = ("eager", "triton", "gluon", "cuda", "mixed", "trunk")
# What fused kernels are measured against.
APART = ("two launches", "separate launches")


def jobs() -> list[Any]:
    """Lists all jobs, most valuable first: the convolution that networks consist of, whole networks, and the rest."""
    from benchmarks.gpu.job import TRITON, Job
    from srfast.kernels.cuda.hopper import FORMS as HOPPER
    from srfast.kernels.cuda.pair import FORMS as PAIRS
    from srfast.kernels.cuda.tail import FORMS as TAILS
    from srfast.kernels.triton.config import Config

    known = {field.name for field in fields(Config)}
    ways = [name for name, given in TRITON.items() if set(given) <= known]
    gluons = [name for name in ways if name.startswith("gluon")]

    def at(size: tuple[int, int], kind: str, what: str, **more: Any) -> Job:
        return Job(kind, what, **{"width": size[0], "height": size[1], **more})

    def hot(size: tuple[int, int], residual: bool) -> list[Job]:
        """Lists the convolution of 64 channels: all of Hopper's forms (also what they read differently), Gluon, Triton."""
        found = [at(size, "conv", form, residual=residual) for form in HOPPER]
        return [*found, *(at(size, "triton", way, residual=residual) for way in (*gluons, "shipped"))]

    def nets(name: str, size: tuple[int, int], backends: Iterable[str] = BACKENDS) -> list[Job]:
        return [at(size, "net", backend, shape=name, seconds=100) for backend in backends]

    found = [Job("device", seconds=60), *hot(MAIN, False), at(MAIN, "library", ""), *nets("SRResNet x4", MAIN)]
    found += [*hot(LARGE, False), *(at(MAIN, "tail", form) for form in (*reversed(TAILS), "two launches"))]
    found += [*hot(MAIN, True), *(at(MAIN, "pair", form) for form in (*reversed(PAIRS), "two launches"))]
    found += nets("Compact x4", MAIN)
    found += [at(MAIN, "trunk", what) for what in ("trunk_wgmma", "separate launches", "two strips a block")]
    found += [at(MAIN, "int8", "conv_int8", residual=residual) for residual in (False, True)]
    found += [Job("matrix"), Job("memory"), at(MAIN, "launches", "")]
    found += [
        at(MAIN, kind, what, shape=s) for s in TRITON_OTHERS for kind, what in (("conv", "mma"), ("triton", "shipped"))
    ]
    found += [at(MAIN, "conv", "wgmma_held", shape="64->256"), *hot(LARGE, True), at(LARGE, "library", "")]
    found += nets("SRResNet x4", LARGE, BACKENDS[1:])
    found += [at(LARGE, "trunk", what) for what in ("trunk_wgmma", "separate launches")]
    found += [at(MAIN, "conv", form) for form in ("mma", "mma_large")]
    found += [at(MAIN, "triton", way) for way in ways if way not in (*gluons, "shipped")]
    return found


def rehearsed(given: Sequence[Any]) -> list[Any]:
    """Makes jobs tiny, one size of each."""
    found: dict[str, Any] = {}
    for job in given:
        small = replace(job, width=TINY[0], height=TINY[1], seconds=600) if job.width else replace(job, seconds=600)
        found.setdefault(small.name, small)
    return list(found.values())


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Reads the whole lines of a file, the last of each job; none where there is no file."""
    found: dict[str, dict[str, Any]] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # cut off by a kill
        if isinstance(row, dict) and "name" in row:
            found[row["name"]] = row
    return list(found.values())


def decisions(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Chooses for each shape the fastest right CUDA kernel, with its speed against Triton's fastest, and that configuration.

    Of two convolutions in one launch the speed is against the fastest two launches, in whatever kernels; of a trunk against
    launches of "wgmma_held".
    """
    right = [row for row in rows if "us" in row and "failed" not in row and not row.get("residual")]
    cuda, triton = dict[str, Any](), dict[str, Any]()
    programmatic = _programmatic(rows)
    for key in dict.fromkeys(row["key"] for row in right if "key" in row):
        # At the size that was measured with most ways to run it.
        sizes = [(row["width"], row["height"]) for row in right if row.get("key") == key]
        size = max(dict.fromkeys(sizes), key=sizes.count)
        of = [row for row in right if row.get("key") == key and (row["width"], row["height"]) == size]
        ours = [row for row in of if row["kind"] != "triton" and row["what"] not in APART]
        theirs = [row for row in of if row not in ours]
        best, other = (min(group, key=lambda row: row["us"], default=None) for group in (ours, theirs))
        if best is not None:
            times = [*([other["us"]] if other is not None else []), *_in_two_launches(key, right, size)]
            speedup = round(min(times) / best["us"], 3) if times else 0.0
            cuda[key] = {"kernel": best["what"], "programmatic": programmatic, "speedup": speedup}
        if other is not None and other["kind"] == "triton":
            triton[key] = other["config"]
    return cuda, triton


def _in_two_launches(key: str, right: list[dict[str, Any]], size: tuple[int, int]) -> list[float]:
    """Adds up the fastest single launches of two convolutions at a size; nothing where one was not measured there."""
    found = re.fullmatch(r"pair (\d+x\d+) (\d+)->(\d+), (\d+x\d+) ->(\d+)", key)
    if found is None:
        return []
    kernel, channels, middle, second, out = found.groups()
    keys = (f"conv {kernel} {channels}->{middle}", f"conv {second} {middle}->{out}")
    at = [row for row in right if (row["width"], row["height"]) == size]
    singles = [[row["us"] for row in at if row.get("key") == one] for one in keys]
    return [sum(map(min, singles))] if all(singles) else []


def _programmatic(rows: list[dict[str, Any]]) -> bool:
    """Tells whether launches cost less where they begin before the kernel in front has ended."""
    found = next((row for row in rows if row.get("kind") == "launches"), {})
    plain, dependent = (found.get(f"image, {name}", {}).get("us") for name in ("plain", "dependent"))
    return plain is not None and dependent is not None and dependent < plain


def write_decisions(table: Path) -> None:
    """Writes what was chosen beside a table of one GPU; each file whole or not at all."""
    rows = rows_of(table)
    gpu = next((row["gpu"] for row in rows if "gpu" in row), None)
    if gpu is None:
        return
    for name, chosen in zip(("cuda_configs.json", "configs.json"), decisions(rows), strict=True):
        if chosen:
            partial = table.with_name(name + ".partial")
            partial.write_text(json.dumps({gpu: chosen}, indent=1) + "\n", encoding="utf-8")
            partial.replace(table.with_name(name))


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
    from benchmarks.gpu.turns import TURN, Link, Turns

    if options.dry_run:
        work.prepare(True)
    spawn = options.spawn

    def start(job: Any, link: int) -> int:
        if spawn:
            given = json.dumps({**asdict(job), "dry": options.dry_run})
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.job", given, str(link)]
            os.set_inheritable(link, True)
            os.execv(sys.executable, command)
        end = Link(link)
        if options.dry_run:
            torch.set_num_threads(1)
        work.perform(job, work.Bench(work.prepare(options.dry_run), end.turn, end.report))
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
