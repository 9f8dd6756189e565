"""Ratios, repeatability and regressions, against hand-made numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.analysis import ceiling, disagreements, percentiles, ratios, regressions
from benchmarks.record import Measurement, Record


def slowed(record: Record, factor: float, run: int | None = None) -> Record:
    """srfast slower by a factor, in one run or all."""

    def change(m: Measurement) -> Measurement:
        if m.contender != "srfast" or run not in (None, m.run):
            return m
        return replace(m, samples=[s * factor for s in m.samples])

    return replace(record, measurements=[change(m) for m in record.measurements])


def test_percentiles() -> None:
    assert percentiles([3.0]) == (3, 3, 3)
    assert percentiles([1.0, 2, 3, 4, 5, 6]) == (2, 3.5, 5)


def test_ratios_pair_the_rounds(record: Record) -> None:
    network, video = ratios(record)
    assert network.contender == "eager fp32 NCHW"
    assert network.runs == pytest.approx((3.0, 3.06))
    assert (network.low, network.middle, network.high) == pytest.approx((3.0, 3.03, 3.06))
    assert network.agrees
    assert video.runs == pytest.approx((2.25,))
    assert not video.agrees, "one run shows nothing"


@pytest.mark.parametrize(("factor", "agree"), [(1.0, 1), (0.99, 1), (1.04, 1), (1.08, 0), (0.9, 0)])
def test_two_runs_apart_are_reported(record: Record, factor: float, agree: int) -> None:
    twice, together, lines = disagreements(slowed(record, factor, run=2))
    assert (twice, together, len(lines)) == (1, agree, 1 - agree)


@pytest.mark.parametrize(("factor", "count"), [(1.0, 0), (1.04, 0), (1.07, 1), (0.5, 0)])
def test_regressions(record: Record, factor: float, count: int) -> None:
    found = regressions(slowed(record, factor), record)
    assert len(found) == count
    assert all("eager fp32 NCHW" in line for line in found)


def test_a_slower_machine_is_no_regression(record: Record) -> None:
    """Everything slower alike: seconds change, ratios do not."""
    slow = [replace(m, samples=[2 * s for s in m.samples]) for m in record.measurements]
    assert regressions(replace(record, measurements=slow), record) == []


def test_other_machines_are_not_compared(record: Record) -> None:
    with pytest.raises(ValueError, match="different machines"):
        regressions(replace(record, machine={"cpu": "other"}), record)


def test_ceiling(record: Record) -> None:
    assert ceiling(record, "float32 multiply-adds") == 1.5e11
    assert ceiling(record, "tensor cores") is None
