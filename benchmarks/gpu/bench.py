"""Checks and times one kernel or network alone on the GPU.

Times are microseconds of one launch in a CUDA graph of many, so that no host time is counted; what a launch reads and writes
is the same each time and may stay in the L2 cache. Only what was found to be right is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu.problem import TOLERANCE
from srfast.backends.gpu.cuda_graph import capture

REPEATS, REPLAYS = 20, 11


@dataclass
class Bench:
    """How a job measures.

    Attributes:
        device: the GPU, or the CPU in a rehearsal.
        turn: entered while the GPU must be this process's alone.
        report: takes parts of the result as they come.
    """

    device: torch.device
    turn: Callable[[], AbstractContextManager[object]]
    report: Callable[[dict[str, Any]], None]
    _checked: bool = False

    @property
    def dry(self) -> bool:
        """Tells whether this is a rehearsal."""
        return self.device.type != "cuda"

    def compile(self, run: Callable[[], object]) -> None:
        """Runs it first, which compiles and need not be alone. A rehearsal has nothing to compile."""
        if self.dry:
            return
        started = time.monotonic()
        run()
        self.finish()
        self.report({"first": round(time.monotonic() - started, 2)})

    def finish(self) -> None:
        """Waits for the GPU."""
        if not self.dry:
            torch.cuda.synchronize()

    def right(self, error: Callable[[], float], tolerance: float = TOLERANCE) -> bool:
        """Reports an error, as a fraction of the largest value; whether it is at most ``tolerance``."""
        with self.turn():
            found = error()
        self._checked = True
        self.report({"error": float(f"{found:.3g}")} | ({} if found <= tolerance else {"failed": "wrong result"}))
        return found <= tolerance

    def time(self, run: Callable[[], object], flops: float = 0.0, repeats: int = REPEATS) -> dict[str, float]:
        """Times one run: microseconds, the median of a graph's replays, and TFLOP/s of ``flops`` operations."""
        with self.turn():
            us = self._host(run) if self.dry else self._graphed(run, repeats)
        found = {"us": round(us, 2)}
        return found | ({"tflops": round(flops / us / 1e6, 1)} if flops else {})

    def _host(self, run: Callable[[], object]) -> float:
        """Runs what was not run yet and measures nothing: this is a rehearsal."""
        if not self._checked:
            run()
        return 1.0

    def _graphed(self, run: Callable[[], object], repeats: int) -> float:
        run()
        torch.cuda.synchronize()

        def several() -> None:
            for _ in range(repeats):
                run()

        graph = capture(several)
        for _ in range(3):
            graph.replay()
        times: list[float] = []
        for _ in range(REPLAYS):
            event: Any = torch.cuda.Event
            before, after = event(enable_timing=True), event(enable_timing=True)
            before.record()
            graph.replay()
            after.record()
            after.synchronize()
            times.append(1e3 * before.elapsed_time(after) / repeats)
        return sorted(times)[len(times) // 2]
