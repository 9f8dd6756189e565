"""How time and memory grow with pixels, frames, threads, tiles and batch; each point in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace

import pytest

from benchmarks.child import Task, command
from benchmarks.contenders import EAGER, OURS
from benchmarks.machine import REPOSITORY
from benchmarks.record import Measurement
from benchmarks.session import Begun, Session
from srfast.backends import default_device

CUDA = default_device().type == "cuda"
BASE = Task("Compact x2", OURS, 256, 256)
SIDES = (64, 128, 256, 512, 1024, 2048) if CUDA else (64, 128, 256, 512, 1024)
THREADS = tuple(dict.fromkeys((1, 2, 4, 8, 16, os.cpu_count() or 1)))
POINTS: dict[str, list[tuple[str, Task]]] = {
    "pixels": [(f"{n * n}", replace(BASE, width=n, height=n)) for n in SIDES],
    "pixels, eager": [
        (f"{n * n}", replace(BASE, width=n, height=n, contender=EAGER)) for n in SIDES if n <= 512 or CUDA
    ],
    "threads": [(f"{n}", replace(BASE, threads=n)) for n in THREADS if n <= (os.cpu_count() or 1)],
    "tile": [
        (f"{n or 'none'}", replace(BASE, contender="engine", tile=n, width=512, height=512)) for n in (64, 128, 256, 0)
    ],
    "batch": [(f"{n}", replace(BASE, batch=n, width=64, height=64)) for n in (1, 2, 4, 8)],
    "frames": [(f"{n}", replace(BASE, frames=n, width=64, height=48, calls=3)) for n in (25, 50, 100, 200)],
}


def run_child(task: Task) -> dict[str, list[float] | float]:
    """The child's result."""
    done = subprocess.run(command(task), cwd=REPOSITORY, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, list[float] | float] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.parametrize("varied", POINTS)
def test_growth(bench: Session, varied: str) -> None:
    if varied == "threads" and bench.device.type == "cuda":
        pytest.skip("the GPU does the work")
    if varied == "frames":
        pytest.importorskip("av", reason="video needs PyAV")
    begun = Begun(f"growth: {varied}")
    found = []
    for case, task in POINTS[varied]:
        with bench.gate:
            result = run_child(task)
        samples, peak = result["samples"], result["peak"]
        assert isinstance(samples, list) and isinstance(peak, (int, float))
        found.append(Measurement("growth", varied, case, task.contender, "s", samples, bench.passes[0]))
        found.append(Measurement("memory", varied, case, task.contender, "B", [peak], bench.passes[0]))
    bench.add(found, {}, begun)


@pytest.mark.parametrize(
    "contender", [OURS, EAGER, "torch.compile default", "OpenVINO f32, latency", "ONNX Runtime fp32"]
)
def test_startup(bench: Session, contender: str) -> None:
    """From the start of Python to the first image, and the most memory: Compact x4 on 240x136."""
    if contender == "torch.compile default":
        contender = f"torch.compile {'fp16' if bench.device.type == 'cuda' else 'fp32'} default, freezing"
    elif contender not in (OURS, EAGER) and bench.device.type == "cuda":
        pytest.skip("a contender on CPUs")
    begun = Begun(f"startup: {contender}")
    task = Task("Compact x4", contender, 240, 136, calls=2)
    results = []
    for _ in range(3):
        with bench.gate:
            results.append(run_child(task))
    firsts = [float(r["first"]) for r in results]  # type: ignore[arg-type]
    peaks = [float(r["peak"]) for r in results]  # type: ignore[arg-type]
    found = [
        Measurement("startup", f"first image, {contender}", "240x136", contender, "s", firsts, bench.passes[0]),
        Measurement("memory", f"whole process, {contender}", "240x136", contender, "B", peaks, bench.passes[0]),
    ]
    bench.add(found, {}, begun)
