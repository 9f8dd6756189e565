"""Draws values of runs over iterations: ``python -m srfast.training.curves --run NAME=FOLDER ... --value psnr --out FILE``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from srfast.training.compare import named, write_png
from srfast.training.metrics import UInt8Image

Curve = Sequence[tuple[float, float]]
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 480, 280, 64, 28, 24, 32
COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189), (255, 127, 14), (23, 190, 207))
BLACK, GRID = (0, 0, 0), (220, 220, 220)


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


def chart(curves: Mapping[str, Curve], title: str) -> UInt8Image:
    """A line chart with one colour for each curve."""
    points = np.array([p for curve in curves.values() for p in curve])
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    x1, y1 = max(x1, x0 + 1), y1 if y1 > y0 else y0 + 1e-9
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)

    def place(x: float, y: float) -> tuple[int, int]:
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return round(across), round(down)

    for k in range(5):
        x, y = x0 + (x1 - x0) * k / 4, y0 + (y1 - y0) * k / 4
        cv2.line(image, place(x0, y), place(x1, y), GRID)
        _write(image, f"{y:.4g}", (4, place(x0, y)[1] + 4))
        _write(image, f"{x:.0f}", (place(x, y0)[0] - 12, HEIGHT - 12))
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        line = np.array([place(x, y) for x, y in curve], np.int32)
        cv2.polylines(image, [line], isClosed=False, color=colour, thickness=2, lineType=cv2.LINE_AA)
        _write(image, name, (LEFT + 8 + 150 * (index % 3), TOP + 14 + 14 * (index // 3)), colour)
    _write(image, title, (LEFT, 16))
    return image


def _write(image: UInt8Image, text: str, place: tuple[int, int], colour: tuple[int, int, int] = BLACK) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, colour, 1, cv2.LINE_AA)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.curves", description=__doc__)
    p.add_argument("--run", nargs="+", required=True, metavar="NAME=FOLDER")
    p.add_argument("--value", nargs="+", required=True, help="names in log.jsonl; one chart each, side by side")
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args(arguments)
    try:
        runs = dict(map(named, args.run))
        charts = [chart({n: read_curve(Path(f), v) for n, f in runs.items()}, v) for v in args.value]
        write_png(args.out, np.concatenate(charts, axis=1))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
