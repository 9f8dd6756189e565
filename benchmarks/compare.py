"""Compares a record with the one before it of the same machine: ``python -m benchmarks.compare [NEW [OLD]]``.

Prints what srfast lost against its peers by more than 5% (ratios, as seconds depend on what else the machine does) and
ends with 1 if there is any.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import record
from benchmarks.analysis import disagreements, regressions


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("new", type=Path, nargs="?", help="by default the last record of this machine")
    parser.add_argument("old", type=Path, nargs="?", help="by default the record before it of the same machine")
    options = parser.parse_args(arguments)
    new = options.new or record.latest().get(record.default_path().stem[11:])
    if new is None:
        print("there is no record of this machine yet")
        return 0
    earlier = [p for p in sorted(new.parent.glob(f"????-??-??-{new.stem[11:]}.json")) if p.name < new.name]
    old = options.old or (earlier[-1] if earlier else None)
    twice, agree, lines = disagreements(record.load(new))
    print(f"{new.name}: the two runs agree within 5% on {agree} of {twice} ratios")
    for line in lines:
        print(f"  apart: {line}")
    if old is None:
        print("no earlier record of this machine to compare with")
        return 0
    slower = regressions(record.load(new), record.load(old))
    print(f"against {old.name}: {len(slower)} ratios fell by more than 5%")
    for line in slower:
        print(f"  slower: {line}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
