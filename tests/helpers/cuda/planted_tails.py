"""Faults to plant in the ending of known sizes of a network's tail, and the checks that find them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tests.helpers.cuda.planting import Fault
from tests.helpers.cuda.problems import HALF
from tests.helpers.cuda.tails import check_few


@cache
def few() -> Callable[[], None]:
    """The check of three strips, the last of which is cut."""
    return lambda: check_few("tail", (5, 25), HALF, None)


FAULTS = (
    Fault("tail: bias of the first row", "e.bias + PHASE * 6 + i", "e.bias + i", few()),
    Fault(
        "tail: no gain", "ldg_float(e.bias + PHASE * 6 + i), e.gain)", "ldg_float(e.bias + PHASE * 6 + i), 1.f)", few()
    ),
    Fault("tail: taps of the first row", "dx * 12 + PHASE * 6 + i", "dx * 12 + i", few()),
    Fault(
        "tail: taps of one pixel",
        "sums + sums_at<64>(column + dx, at / 8)",
        "sums + sums_at<64>(column, at / 8)",
        few(),
    ),
    Fault("tail: a tap left out", "for (int dx = 0; dx < 5; ++dx)", "for (int dx = 0; dx < 4; ++dx)", few()),
    Fault("tail: both rows in one", "image, y * 2 + PHASE, x * 2, 0)", "image, y * 2, x * 2, 0)", few()),
    Fault("tail: another row's sums", "first = sums + row * WIDTH * 64 * 4", "first = sums", few()),
    Fault(
        "tail: the strip's last row left out",
        "y >= band.end || column >= columns",
        "y + 1 >= band.end || column >= columns",
        few(),
    ),
    Fault("tail: the strip's last column left out", "column >= columns ||", "column + 1 >= columns ||", few()),
)
