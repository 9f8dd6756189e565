"""One piece of the suite: prepares contenders, checks their results, times them in turns, adds them to the record."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine, record
from benchmarks.contenders import EAGER, OURS, Contender
from benchmarks.peers import MissingError
from benchmarks.record import Ceiling, Measurement, Piece
from benchmarks.sampling import CALM, SLICE, Clock, Gate, Run, Turns, rounds_for
from benchmarks.subjects import Subject
from srfast.backends import default_dtype
from srfast.plan.passes import optimise

# Of pytest-benchmark: pedantic(target, setup=..., rounds=...).
Pedantic = Callable[..., Any]


@dataclass
class Session:
    """How this run of the suite measures.

    Attributes:
        path: the record to add to; None measures without one.
        passes: numbers of the passes to take, each with its own samples; one preparation serves all.
        budget: seconds to spend on a group once it is prepared.
        longest: seconds for one image above which a contender (other than srfast and eager float32) is left out.
        gate: holds the machine while something is timed, not while it is prepared.
        device: where everything runs.
        least: fewest rounds.
        without: contenders whose names have a match of this regular expression are left out.
    """

    path: Path | None
    passes: tuple[int, ...]
    budget: float
    longest: float
    gate: Gate
    device: torch.device
    least: int = 5
    without: str | None = None
    _clock: Clock | None = field(default=None, init=False)

    @property
    def clock(self) -> Clock:
        """For the device; on a GPU it holds the memory that flushes the cache."""
        if self._clock is None:
            self._clock = Clock(self.device)
        return self._clock

    @torch.inference_mode()
    def compare(
        self,
        suite: str,
        subject: Subject,
        size: tuple[int, int],
        contenders: list[Contender],
        pedantic: Pedantic | None,
    ) -> list[Measurement]:
        """Times contenders in turns on one image.

        Args:
            suite: as the record calls it.
            subject: what to run.
            size: width and height of the image.
            contenders: srfast first.
            pedantic: pytest-benchmark's, which then shows the first contender's times.

        Returns:
            What went into the record.
        """
        begun = Begun(f"{suite}: {subject.name} {size[0]}x{size[1]}")
        torch._dynamo.reset()
        module, x = subject.module().to(self.device), subject.image(*size).to(self.device)
        expected = module(x).float().cpu()
        runs: dict[str, Run] = {}
        missing: dict[str, str] = {}
        facts: dict[str, dict[str, float]] = {}
        images = {c.name: c.images for c in contenders}
        longest = 0.0
        for contender in contenders:
            label = f"{contender.name} ({subject.name}, {size[0]}x{size[1]})"
            if self.without and re.search(self.without, contender.name):
                missing[label] = f"left out by --without {self.without!r}"
                continue
            try:
                run = contender.build(module, x)
                error = difference(run(), expected)
            except Exception as reason:
                if contender.name in (OURS, EAGER):
                    raise
                missing[label] = str(reason) if isinstance(reason, MissingError) else f"failed: {reason!r:.200}"
                continue
            with self.gate:
                seconds = self.clock(run)
            if error > contender.tolerance:
                missing[label] = f"wrong result: differs by {error:.3g} of the largest value"
            elif seconds / contender.images > self.longest and contender.name not in (OURS, EAGER):
                missing[label] = f"left out at this size: {seconds / contender.images:.1f} s for an image in a trial"
            else:
                runs[contender.name], facts[contender.name] = run, {"error": error}
                longest = max(longest, seconds)
        work = workload(subject, size, default_dtype(self.device, optimise(subject.plan())).itemsize)
        case = f"{size[0]}x{size[1]}"
        found = []
        for number in self.passes:
            samples, load = self._turns(runs, longest, self.clock, pedantic)
            pedantic = None  # it takes one set of times
            for name, taken in samples.items():
                each = [s / images[name] for s in taken]
                noted = work | facts[name] | {"other_load": load}
                found.append(Measurement(suite, subject.name, case, name, "s", each, number, noted))
        self.add(found, missing, begun)
        return found

    @torch.inference_mode()
    def time(
        self,
        suite: str,
        subject: str,
        case: str,
        runs: dict[str, Run],
        pedantic: Pedantic | None,
        missing: dict[str, str],
        host_clock: bool = False,
        commands: bool = False,
    ) -> None:
        """Times functions that were prepared and checked already, the first one shown by pytest-benchmark.

        ``commands`` start processes of their own, so no round is left out for the work of other processes.
        """
        begun = Begun(f"{suite}: {subject} {case}")
        clock = Clock(torch.device("cpu")) if host_clock else self.clock
        with self.gate:
            longest = max(clock(run) for run in runs.values())
        found = []
        for number in self.passes:
            samples, load = self._turns(runs, longest, clock, pedantic, 1.0 if commands else CALM)
            pedantic = None
            context = {} if commands else {"other_load": load}
            for name, taken in samples.items():
                found.append(Measurement(suite, subject, case, name, "s", taken, number, context))
        self.add(found, missing, begun)

    def _turns(
        self, runs: dict[str, Run], longest: float, clock: Clock, pedantic: Pedantic | None, calm: float = CALM
    ) -> tuple[dict[str, list[float]], float]:
        """Samples of every run and the load; ``longest`` is what the slowest run takes in seconds."""
        rounds = rounds_for(longest * len(runs), self.budget, self.least)
        turns = Turns(runs, clock, self.gate, 0.0 if clock.cuda else min(longest, SLICE), calm)
        with self.gate:
            if pedantic:
                pedantic(turns.first, setup=turns.others, rounds=rounds)
            turns.take(rounds)
        return turns.samples(rounds)

    def add(self, found: list[Measurement], missing: dict[str, str], begun: Begun) -> None:
        """Adds groups to the record and notes the piece."""
        if self.path is None:
            return
        saved = record.open_record(self.path)
        saved.add(found)
        saved.missing = {k: v for k, v in saved.missing.items() if k not in {m.contender for m in found}} | missing
        self._save(saved, begun)

    def add_ceilings(self, ceilings: list[Ceiling], missing: dict[str, str], begun: Begun) -> None:
        """Replaces this run's ceilings in the record."""
        if self.path is None:
            return
        saved = record.open_record(self.path)
        runs = {c.run for c in ceilings}
        saved.ceilings = [c for c in saved.ceilings if c.run not in runs] + ceilings
        saved.missing |= missing
        self._save(saved, begun)

    def _save(self, saved: record.Record, begun: Begun) -> None:
        assert self.path
        piece = begun.piece(self.passes[0])
        saved.pieces = [p for p in saved.pieces if (p.name, p.run) != (piece.name, piece.run)] + [piece]
        record.save(saved, self.path)


class Begun:
    """A piece that has begun: its name, and how the machine stands."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._started, self._before, self._from = record.now(), machine.clocks(), time.monotonic()

    def piece(self, run: int) -> Piece:
        """The piece, ended now."""
        seconds = time.monotonic() - self._from
        return Piece(self.name, run, self._started, seconds, machine.commit(), self._before, machine.clocks())


def difference(out: Any, expected: Tensor) -> float:
    """Largest difference as a fraction of the largest value; NaN and other shapes count as infinite."""
    result = out.float().cpu() if isinstance(out, Tensor) else torch.from_numpy(np.asarray(out, dtype=np.float32))
    if result.shape != expected.shape or not bool(torch.isfinite(result).all()):
        return float("inf")
    return float((result - expected).abs().max() / expected.abs().max())


def workload(subject: Subject, size: tuple[int, int], element_size: int) -> dict[str, float]:
    """Operations of the network as written, and bytes if each fused operation went through memory once."""
    width, height = (n * subject.scale for n in size)
    moved = optimise(subject.plan()).traffic(height, width, element_size)
    return {"flop": float(subject.flop(*size)), "bytes": float(moved)}
