"""Turns: who runs when, which rounds count, and the gate."""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import time
from pathlib import Path

import pytest
import torch

from benchmarks import sampling
from benchmarks.sampling import CALM, Clock, Gate, Load, Run, Turns, rounds_for


class FakeLoad:
    """Shares of the CPU in turn: one for the reset, one for the round."""

    def __init__(self, shares: list[float]) -> None:
        self.values = itertools.chain.from_iterable((0.0, share) for share in shares)

    def share(self) -> float:
        return next(self.values)


def children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def turns(
    names: str, log: list[str], shares: list[float], monkeypatch: pytest.MonkeyPatch, calm: float = CALM
) -> Turns:
    monkeypatch.setattr(sampling, "SETTLE", 0)
    monkeypatch.setattr(sampling, "Load", lambda: FakeLoad(shares))
    runs = {name: (lambda name=name: log.append(name)) for name in names}
    return Turns(runs, Clock(torch.device("cpu")), Gate(None), calm=calm)


def test_every_contender_once_a_round_in_changing_order(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    made = turns("abc", log, [0.0] * 3, monkeypatch)
    made.take(3)
    assert "".join(log) == "bca" + "cba" + "bca"
    samples, load = made.samples(3)
    assert {name: len(taken) for name, taken in samples.items()} == {"a": 3, "b": 3, "c": 3}
    assert load == 0


def test_disturbed_rounds_are_played_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = turns("ab", [], [0.5, 0.0, CALM, 0.4, 0.01], monkeypatch)
    made.take(3)
    samples, load = made.samples(3)
    assert len(samples["a"]) == 3
    assert load == pytest.approx((0 + CALM + 0.01) / 3)


def test_every_round_of_commands_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    made = turns("ab", [], [0.9, 0.5, 1.0], monkeypatch, calm=1.0)
    made.take(3)
    samples, load = made.samples(3)
    assert [len(taken) for taken in samples.values()] == [3, 3]
    assert load == pytest.approx(0.8)


def test_where_no_round_is_calm_the_calmest_count(monkeypatch: pytest.MonkeyPatch) -> None:
    made = turns("ab", [], [0.5, 0.2, 0.4, 0.3, 0.9, 0.6], monkeypatch)
    made.take(2)
    samples, load = made.samples(2)
    assert len(samples["a"]) == 2
    assert load == pytest.approx(0.25)


def test_every_contender_runs_for_as_long_as_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "SETTLE", 0)
    monkeypatch.setattr(sampling, "Load", lambda: FakeLoad([0.0]))
    times = {"a": itertools.cycle([0.2, 0.1, 0.3]), "b": itertools.cycle([1.0])}

    class FakeClock(Clock):
        def __call__(self, run: Run) -> float:
            return float(run())

    runs = {name: (lambda values=values: next(values)) for name, values in times.items()}
    made = Turns(runs, FakeClock(torch.device("cpu")), Gate(None), slice_seconds=1.0)
    made.take(1)
    samples, _ = made.samples(1)
    assert samples == {"a": [pytest.approx((0.2 + 0.1 + 0.3 + 0.2 + 0.1) / 5)], "b": [1.0]}


def test_rounds() -> None:
    assert rounds_for(1.0, 10) == 10
    assert rounds_for(100.0, 10) == 5
    assert rounds_for(0.0, 10) == 30


def test_load_sees_another_process() -> None:
    before, start, load = children_seconds(), time.monotonic(), Load()
    subprocess.run(["sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"], check=True)
    share = load.share()
    # Both clocks tick in hundredths of a second, on every processor; whatever else runs here only adds to the share.
    taken = (children_seconds() - before) / ((time.monotonic() - start) * (os.cpu_count() or 1))
    assert share > taken / 2 > 0


def test_gate_holds_and_gives_back(tmp_path: Path) -> None:
    lock = tmp_path / "lock"

    def is_free() -> bool:
        return subprocess.run(["flock", "-n", str(lock), "true"]).returncode == 0

    with Gate(f"flock {lock}") as gate:
        assert not is_free()
        gate.breathe(sampling.HOLD + 1)
        assert not is_free()
    assert is_free()


def test_a_gate_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="gate 'false'"), Gate("false"):
        pass
