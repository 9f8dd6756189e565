"""The strips of the Gluon convolution: waves counted by hand, and what the launch and the tuner make of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from srfast.kernels.gluon.rows import ALONE, AROUND, LONGEST, SHORTEST, strip_rows, waves


@pytest.mark.parametrize(
    ("programs", "multiprocessors", "expected"),
    [
        (1, 132, 5 / 6),  # alone on its multiprocessor
        (132, 132, 5 / 6),  # each alone
        (133, 132, 1),  # one multiprocessor has two, and the others wait for it
        (264, 132, 1),  # full
        (265, 132, 1 + 5 / 6),
        (396, 132, 1 + 5 / 6),
        (397, 132, 2),
        (528, 132, 2),
        (7, 3, 1 + 5 / 6),  # six, then one
        (10, 3, 2),  # six, then four on three
    ],
)
def test_waves(programs: int, multiprocessors: int, expected: float) -> None:
    assert waves(programs, multiprocessors) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("images", "height", "strips", "multiprocessors", "rows", "programs"),
    [
        # 480x270 has 8 strips. 9 rows: 30 x 8 = 240 of 264 places, 9 + 2 = 11. 8 rows would be 272: 1 + 5/6 waves of 10 = 18.3;
        # 16 rows, 17 x 8 = 136: one wave of 18; 17 rows, 128 programs alone: 5/6 of 19 = 15.8.
        (1, 270, 8, 132, 9, 240),
        # 960x540 has 15. 32 rows: 17 x 15 = 255, one wave of 34; 31 rows: 18 x 15 = 270, 1 + 5/6 of 33 = 60.5.
        (1, 540, 15, 132, 32, 255),
        # Two programs of 4 rows for two places, 6; four of 2 rows are two waves of 4, one of all 8 is 5/6 of 10.
        (1, 8, 1, 1, 4, 2),
        # One row cannot be cut, and a longer strip costs more.
        (1, 1, 1, 132, 2, 1),
        # Four images of one strip of 6 rows on one multiprocessor: 3 rows are 8 programs, 4 waves of 5; 6 are 4, 2 waves of 8.
        (4, 6, 1, 1, 6, 4),
    ],
)
def test_rows_by_hand(images: int, height: int, strips: int, multiprocessors: int, rows: int, programs: int) -> None:
    found = strip_rows(images, height, strips, multiprocessors)
    assert (found, images * strips * -(-height // found)) == (rows, programs)


def test_no_other_length_costs_less() -> None:
    """Against a simulation: programs are given out one by one to the multiprocessor that has the fewest, wave by wave."""

    def simulated(images: int, height: int, strips: int, multiprocessors: int, rows: int) -> float:
        left, time = images * strips * -(-height // rows), 0.0
        while left > 0:
            busiest = -(-min(left, 2 * multiprocessors) // multiprocessors)
            time += (rows + AROUND) * (1 if busiest == 2 else ALONE)
            left -= 2 * multiprocessors
        return time

    for images in (1, 3):
        for height in (1, 7, 61, 135, 270, 1080):
            for strips in (1, 5, 30):
                for multiprocessors in (1, 20, 132):
                    case = (images, height, strips, multiprocessors)
                    costs = {rows: simulated(*case, rows) for rows in range(SHORTEST, LONGEST + 1)}
                    assert costs[strip_rows(*case)] == pytest.approx(min(costs.values())), case


COMPILED = """
import json, sys, torch
from srfast.kernels.buffers import Canvas
from srfast.kernels.gluon.conv import row_launch
from srfast.kernels.tools.candidates import Shape, candidates, pack, weights
from srfast.kernels.tools.offline import offline
from srfast.kernels.triton.config import Config
from srfast.kernels.triton.conv import conv_launch
shape = Shape(64, 64, 3)
packed = pack(*weights(shape), shape, 64, "cpu")
found = {"first": [next(candidates(s, True)).gluon for s in (shape, Shape(192, 64, 3), Shape(3, 64, 9))]}
found["ampere"] = any(c.gluon for c in candidates(shape, False))
with offline(90) as kernels:
    for height, config in ((270, Config(gluon=True)), (310, Config(gluon=True)), (270, Config(gluon=True, rows=5))):
        x, y = (Canvas.allocate(1, 64, height, 480, border=1, tile=(8, 16), dtype=torch.float16) for _ in range(2))
        launch = conv_launch(x, packed, y, config, x if config.rows else None)
        launch()
        found.setdefault("grids", []).append(launch._grid)
found["kernels"] = [len({kernel.cubin for kernel in kernels}), *{kernel.name for kernel in kernels}]
found["spills"] = sum(kernel.spills for kernel in kernels)
print(json.dumps(found))
"""


def test_launches_compiled_for_hopper() -> None:
    """The grid has the rows of full waves, or those of the configuration; heights and rows share one compiled kernel."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["grids"] == [[8, 30, 1], [8, 31, 1], [8, 54, 1]]  # 9 rows, 10 rows, 5 rows
    assert found["kernels"] == [2, "row_kernel"], "one with a residual, and one without"
    assert found["spills"] == 0
    assert found["first"] == [True, False, False], "the first candidate where the kernel fits, and none elsewhere"
    assert not found["ampere"]
