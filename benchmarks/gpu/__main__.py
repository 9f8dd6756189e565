"""Asks a GPU everything that cannot be shown without one, in two short runs from a checkout that nothing was installed from.

    python -m benchmarks.gpu --minutes 5 [--modules FOLDER] [--out gpu-run]     # does it load, is it right, what is fast
    python -m benchmarks.gpu --minutes 7 [--modules FOLDER] [--out gpu-run]     # ceilings, networks, frames: the record

Steps run one after another, each in its own process with its own limit, most valuable first; one that is killed, hangs or
crashes costs its own result. After every step the folder ``--out`` is whole: ``record.json``, ``table.jsonl``,
``summary.json``, ``log.txt``, and the fastest kernels, ``cuda_configs.json`` and ``configs.json``, which the second run uses.
``--only 'parity|table'`` takes the steps whose names match. ``--dry-run`` needs no GPU: it runs every step as far as it goes
on a CPU, keeps nothing that was measured, and fails if a step does not work. docs/gpu-run.md says more.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks import record, tables
from benchmarks.gpu import plans
from benchmarks.gpu.decisions import rows_of
from benchmarks.gpu.modules import architecture
from benchmarks.gpu.steps import Run, matching

# A rehearsal is for machines that are slower than any with a GPU.
DRY_SECONDS = 1500.0


def report(out: Path) -> None:
    """Prints what was found."""
    for row in sorted(rows_of(out / "table.jsonl"), key=lambda row: row.get("us", 1e9)):
        rate = " ".join(f"{row[key]:g} {key}" for key in ("us", "tflops", "fps") if key in row)
        print(f"{row['name']:50} {rate or row.get('failed', '')}")
    taken = record.load(out / "record.json")
    if taken.measurements:
        print(tables.machine_line(taken))
        print("\n".join(tables.comparison(taken, "network", tables.headline(taken))))
    print(tables.ceilings(taken))


def main(arguments: list[str] | None = None) -> int:
    """Runs the steps; 0 if all of them were well, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, choices=(5, 7), default=5, help="which run, and the time for everything")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "gpu-run")), help="folder to write to")
    parser.add_argument("--modules", type=Path, metavar="FOLDER", help="compiled modules that were brought along")
    parser.add_argument("--only", default="", metavar="REGEX", help="steps whose names match, as 'parity|table'")
    parser.add_argument("--dry-run", action="store_true", help="rehearse without a GPU")
    options = parser.parse_args(arguments)
    arch = "" if options.dry_run else architecture()
    if not arch and not options.dry_run:
        print("PyTorch sees no GPU here; --dry-run rehearses without one", file=sys.stderr)
        return 1
    out, modules = options.out.resolve(), options.modules and options.modules.resolve()
    if options.dry_run:
        out /= "rehearsal"  # never over what a GPU measured
    if options.modules and not options.modules.is_dir():
        print(f"--modules: {str(options.modules)!r} is not a folder of compiled modules", file=sys.stderr)
        return 1
    every = plans.steps(options.minutes, out, modules)
    chosen = matching(every, options.only)
    if not chosen:
        print(f"--only {options.only!r} matches none of: {plans.names(every)}", file=sys.stderr)
        return 1
    run = Run(out, DRY_SECONDS if options.dry_run else 60.0 * options.minutes, options.dry_run)
    outcomes = run.perform(chosen)
    failed = [outcome.name for outcome in outcomes if outcome.result != "ok"]
    if options.dry_run:
        for name in ("record.json", "table.jsonl"):
            (out / name).unlink(missing_ok=True)
        print("rehearsal: what was measured on the way is discarded")
        if failed:
            print((out / "log.txt").read_text(encoding="utf-8", errors="replace")[-6000:])
    else:
        report(out)
    if failed:
        print(f"not well: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
