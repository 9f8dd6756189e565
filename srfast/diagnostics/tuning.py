"""``srfast tune``: every way through three small networks, measured in turn on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from srfast._version import __version__
from srfast.backends.cpu import CpuBackend
from srfast.backends.cpu.choice import choose, choose_among
from srfast.backends.cpu.ways import Measurement, Way, runnable, ways
from srfast.backends.measured import Choice, network_kind
from srfast.capture import capture
from srfast.errors import SrfastError
from srfast.kernels.configs.networks import KINDS
from srfast.kernels.cpu.classes import VARIABLE, cpu_name, pretended, real_class, real_vendor
from srfast.models import RRDBNet, SRResNet, SRVGGNetCompact
from srfast.plan.passes import optimise

ROUNDS = 5  # at least: a median of fewer says little
_MOST_ROUNDS = 60

# One of each kind, with the width and height of its image; fewer blocks than the usual ones, which take as long each.
NETWORKS: dict[str, tuple[str, Callable[[], nn.Module], tuple[int, int]]] = {
    "plain": ("Compact x4", lambda: SRVGGNetCompact(num_feat=64, num_conv=16, upscale=4), (160, 120)),
    "residual": ("SRResNet-16 x4", lambda: SRResNet(4), (96, 80)),
    "dense": ("RRDBNet-3 x4", lambda: RRDBNet(num_block=3), (96, 64)),
}


@dataclass(frozen=True)
class Tuning:
    """What was found for one kind of network.

    Attributes:
        measurement: milliseconds by the way: each round's ratio to the first way, its median, times the first way's median.
        rounds: in which all ways took turns.
        found: the way that these numbers choose.
        shipped: what is chosen without them.
    """

    measurement: Measurement
    rounds: int
    found: Choice[Way]
    shipped: Choice[Way]

    def __str__(self) -> str:
        ms = self.measurement.ms
        lines = [f"{self.measurement.kind} ({self.measurement.network}, {self.rounds} rounds)"]
        for name, value in ms.items():
            notes = [
                note for note, choice in (("found", self.found), ("shipped", self.shipped)) if str(choice.way) == name
            ]
            lines.append(f"  {name:18} {value:8.1f} ms   {' and '.join(notes)}".rstrip())
        return "\n".join(lines)


def tune(seconds: float = 30.0, clock: Callable[[], float] = time.perf_counter) -> list[Tuning]:
    """Measures every way of this CPU on a network of every kind.

    Args:
        seconds: about how long to measure in all; five rounds are measured in any case.
        clock: in seconds.

    Raises:
        SrfastError: there is nothing to choose from, or ``SRFAST_CPU`` pretends another CPU.
    """
    if pretended()[1]:
        raise SrfastError(f"{VARIABLE} pretends another CPU, whose speed cannot be measured here: unset it to tune")
    candidates = [way for way in ways(real_class()) if runnable(way) == way]
    if len(candidates) < 2:
        raise SrfastError(f"there is one way to run networks here, {candidates[0].words}, so nothing to tune")
    return [_tuned(kind, candidates, seconds / len(NETWORKS), clock) for kind in KINDS]


def _tuned(kind: str, candidates: Sequence[Way], seconds: float, clock: Callable[[], float]) -> Tuning:
    name, build, (width, height) = NETWORKS[kind]
    torch.manual_seed(0)
    plan = optimise(capture(build().eval()))
    assert network_kind(plan) == kind
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    runs: dict[Way, tuple[Any, Tensor]] = {}
    for way in candidates:
        run = CpuBackend(path=way.path).compile(plan, torch.device("cpu"), way.dtype)
        runs[way] = run, image.to(way.dtype).contiguous(memory_format=torch.channels_last)
    rounds = _rounds({way: _timed(run, x, clock) for way, (run, x) in runs.items()}, seconds, clock)
    first = rounds[0]
    base = median(first)
    ms = {
        # Ratios within a round are compared: what slows the machine down for a while slows all ways of that round.
        str(way): round(1000 * base * median(t / f for t, f in zip(taken, first, strict=True)), 2)
        for way, taken in zip(candidates, rounds, strict=True)
    }
    source = f"{cpu_name()}, {torch.get_num_threads()} threads, srfast {__version__}"
    cpu = f"{real_vendor()} {real_class()}"
    measurement = Measurement(cpu, kind, f"{name} {width}x{height}", ms, source)
    found = choose_among(list(candidates), [measurement], kind)
    assert found is not None
    return Tuning(measurement, len(first), found, choose(kind, user=False))


def _timed(run: Any, x: Tensor, clock: Callable[[], float]) -> Callable[[], float]:
    def once() -> float:
        started = clock()
        run(x)
        # A clock with coarse ticks may say 0, and ratios are taken.
        return max(clock() - started, 1e-9)

    return once


def _rounds(ways_: dict[Way, Callable[[], float]], seconds: float, clock: Callable[[], float]) -> list[list[float]]:
    """Seconds of each way, round by round; the order turns round, so that none always comes after the same."""
    turns = list(ways_.values())
    for turn in turns:
        turn()  # memory, schedules and packed weights are of the first run
    taken: list[list[float]] = [[] for _ in turns]
    started = clock()
    while len(taken[0]) < ROUNDS or (clock() - started < seconds and len(taken[0]) < _MOST_ROUNDS):
        order = range(len(turns)) if len(taken[0]) % 2 == 0 else reversed(range(len(turns)))
        for index in order:
            taken[index].append(turns[index]())
    return taken
