"""Timing: contenders take turns, so that whatever slows the machine slows all of them; on a GPU by events, cache cold."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch

Run = Callable[[], Any]
# Worker threads of one runtime spin for milliseconds after its work is done and would slow the next contender.
SETTLE = 0.02
# A gate is given back after this many seconds, between rounds.
HOLD = 45.0
# Every contender runs for about as long as the longest in a round, up to so many seconds, so that a processor that is slower
# for a while, as virtual ones are while a neighbour works, slows short runs no less often than long ones.
SLICE = 1.5
# Share of the CPU that other processes may take in a round that counts.
CALM = 0.03


class Gate:
    """Holds a command while something is timed, for machines that others use too.

    ``Gate("flock /tmp/quiet.lock")`` runs ``flock /tmp/quiet.lock sh -c 'echo; read line'``: the lock is had once the empty
    line comes, and given back at the end of input.

    Args:
        command: what to put in front; None for no gate.
    """

    def __init__(self, command: str | None) -> None:
        self._command = shlex.split(command) if command else None
        self._process: subprocess.Popen[bytes] | None = None
        self._since = 0.0

    def __enter__(self) -> Gate:
        if self._command:
            wait = [*self._command, "sh", "-c", "echo; read line"]
            self._process = subprocess.Popen(wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._process.stdout
            if not self._process.stdout.readline():
                raise RuntimeError(f"the gate {shlex.join(self._command)!r} ended with {self._process.wait()}")
        self._since = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            assert self._process.stdin and self._process.stdout
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None

    def breathe(self, next_seconds: float = 0.0) -> None:
        """Lets others in if it was held for long, or would be after ``next_seconds`` more."""
        if self._process and time.monotonic() - self._since + next_seconds > HOLD:
            self.__exit__(None, None, None)
            self.__enter__()


class Clock:
    """Seconds of one call on the host's clock; the device's work, if any, is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        if self.cuda:
            # Twice the largest L2: writing it evicts what the previous call left there.
            self._flush = torch.empty(256 << 20, dtype=torch.uint8, device=device)

    def __call__(self, run: Run) -> float:
        if not self.cuda:
            start = time.perf_counter()
            run()
            return time.perf_counter() - start
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        self._flush.zero_()
        before.record()
        run()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after)) / 1e3


def rounds_for(seconds: float, budget: float, least: int = 5, most: int = 30) -> int:
    """How many rounds of ``seconds`` fit into ``budget``, within bounds."""
    return max(least, min(most, int(budget / max(seconds, 1e-9))))


class Load:
    """CPU time that other processes and the hypervisor took while this process measured, as a share of all cores."""

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float:
        """Since the last call, 0..1; 0 where the system does not tell."""
        before, self._before = self._before, self._now()
        busy, own, wall = (b - a for a, b in zip(before, self._before, strict=True))
        return max(0.0, busy - own) / max(wall * (os.cpu_count() or 1), 1e-9)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        own, wall = time.process_time(), time.monotonic()
        try:
            with open("/proc/stat", encoding="ascii") as file:
                user, nice, system, _, _, irq, soft, steal = (int(n) for n in file.readline().split()[1:9])
        except (OSError, ValueError):
            return own, own, wall
        return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK"), own, wall


class Turns:
    """Contenders taking turns: a round is ``others``, every contender but the first, and then ``first``.

    A round in which other processes took more than ``calm`` of the CPU does not count, whatever its times were.

    Args:
        runs: by name.
        clock: measures one call.
        gate: lets others in between rounds.
        slice_seconds: a contender runs again until so many seconds are over; its time is the mean. 0 for once.
        calm: share of the CPU, 0..1; 1 where the runs are commands, whose own processes count as others.
    """

    def __init__(
        self, runs: dict[str, Run], clock: Clock, gate: Gate, slice_seconds: float = 0.0, calm: float = CALM
    ) -> None:
        self._runs, self._clock, self._gate, self._slice, self._limit = runs, clock, gate, slice_seconds, calm
        self._names = list(runs)
        self._rounds: list[tuple[float, dict[str, float]]] = []
        self._current: dict[str, float] = {}
        self._load = Load()
        self._spent = 0.0

    def others(self) -> None:
        """Every contender but the first, each round in another order."""
        self._gate.breathe(self._spent)
        self._start = time.monotonic()
        self._load.share()
        names = self._names[1:]
        first = len(self._rounds) % max(len(names), 1)
        for name in names[first:] + names[:first]:
            self._one(name)

    def first(self) -> None:
        """The first contender, which ends the round."""
        self._one(self._names[0])
        self._rounds.append((self._load.share(), self._current))
        self._current = {}
        self._spent = time.monotonic() - self._start

    def take(self, rounds: int) -> None:
        """Plays until ``rounds`` rounds are calm, or three times as many were played; earlier ones count."""
        while len(self._calm()) < rounds and len(self._rounds) < 3 * rounds:
            self.others()
            self.first()

    def samples(self, rounds: int) -> tuple[dict[str, list[float]], float]:
        """Seconds of every contender in the rounds that count, and the share of the CPU that others had in them.

        Where fewer than ``rounds`` were calm, the calmest count.
        """
        calmest = sorted(share for share, _ in self._rounds)[:rounds][-1]
        limit = max(calmest, self._limit)
        kept = [(share, times) for share, times in self._rounds if share <= limit]
        samples = {name: [times[name] for _, times in kept] for name in self._names}
        return samples, sum(share for share, _ in kept) / len(kept)

    def _calm(self) -> list[float]:
        return [share for share, _ in self._rounds if share <= self._limit]

    def _one(self, name: str) -> None:
        if not self._clock.cuda:
            time.sleep(SETTLE)
        taken = [self._clock(self._runs[name])]
        while sum(taken) + taken[0] / 2 < self._slice:
            taken.append(self._clock(self._runs[name]))
        self._current[name] = sum(taken) / len(taken)
