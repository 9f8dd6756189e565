"""Draws values of runs over iterations: ``python -m srfast.training.curves --run NAME=FOLDER ... --value psnr --out FILE``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from srfast.errors import MissingDependencyError, SrfastError
from srfast.training.compare import named, write_png
from srfast.training.metrics import UInt8Image

Curve = Sequence[tuple[float, float]]
WIDTH, HEIGHT, DPI = 480, 280, 100  # pixels of one chart


def read_curve(folder: Path, value: str) -> list[tuple[float, float]]:
    """(iteration, value) of every log record that has the value; the later of two records of one iteration counts.

    Raises:
        ValueError: no record has it.
    """
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    points = {float(r["step"]): float(r[value]) for r in records if value in r}
    if not points:
        known = sorted({k for r in records for k in r} - {"step", "seconds"})
        raise ValueError(f"{folder} has no {value!r}; it has {', '.join(known)}")
    return sorted(points.items())


def charts(curves: Mapping[str, Mapping[str, Curve]]) -> UInt8Image:
    """Draw line charts side by side, one colour for each run.

    Args:
        curves: title of a chart -> name of a run -> its points.

    Returns:
        RGB, [280, 480 * number of charts, 3].

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib is not installed: pip install 'srfast[train]'") from error
    figure = Figure((WIDTH * len(curves) / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)  # draws into memory: no display is needed
    for axes, (title, runs) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for name, curve in runs.items():
            axes.plot(*zip(*curve, strict=True), label=name)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.array(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.curves", description=__doc__)
    p.add_argument("--run", nargs="+", required=True, metavar="NAME=FOLDER")
    p.add_argument("--value", nargs="+", required=True, help="names in log.jsonl; one chart each, side by side")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args(arguments)
    try:
        runs = dict(map(named, args.run))
        curves = {v: {n: read_curve(Path(f), v) for n, f in runs.items()} for v in args.value}
        write_png(args.out, charts(curves))
    except (SrfastError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
