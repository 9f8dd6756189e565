"""The command ``srfast tune``: measures this CPU's ways and keeps what it found for ``auto``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from typing import Any

from srfast.errors import escaped


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command to the parser."""
    p = commands.add_parser(
        "tune", parents=[common], help="measure this CPU's dtypes and kernels, and let auto use the fastest"
    )
    p.add_argument("--seconds", type=_seconds, default=30.0, help="about how long to measure (30)")
    p.add_argument("--dry-run", action="store_true", help="measure and print, write nothing")
    p.add_argument(
        "--delete", action="store_true", help="delete the file of an earlier run: the shipped choice counts again"
    )
    p.add_argument("--json", action="store_true", help="print JSON")
    p.set_defaults(run=_tune)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 1 <= value <= 600:
        raise argparse.ArgumentTypeError(f"takes seconds from 1 to 600, not {text!r}")
    return value


def _tune(args: argparse.Namespace) -> int:
    from srfast.backends.cpu import tuned

    if args.delete:
        path = tuned.delete()
        place = tuned.tuned_path() or f"no place is known for it, see {tuned.VARIABLE}"
        gone = (
            f"{path} is deleted; the shipped choice counts again" if path else f"there is no file to delete ({place})"
        )
        print(escaped(gone))
        return 0
    from srfast.diagnostics.tuning import tune

    print(f"measuring for about {args.seconds:g} s; leave the machine alone meanwhile", file=sys.stderr)
    found = tune(args.seconds)
    path = None if args.dry_run else tuned.save([one.measurement for one in found])
    if args.json:
        print(
            json.dumps(
                {"file": None if path is None else str(path), "measured": [asdict(f.measurement) for f in found]}
            )
        )
        return 0
    for one in found:
        print(one)
    changed = [f"{one.found.way.words} for {one.measurement.kind} networks" for one in found if _differs(one)]
    print(f"against the shipped choice: {'; '.join(changed) or 'the same'}")
    if path is not None:
        print(escaped(f"written to {path}; auto obeys it until 'srfast tune --delete'"))
    return 0


def _differs(one: Any) -> bool:
    return bool(one.found.way != one.shipped.way)
