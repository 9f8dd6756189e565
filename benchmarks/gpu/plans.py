"""Lists what the two runs do, in order, each step with its limit in seconds."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.steps import Step

PYTEST = (sys.executable, "-W", "ignore", "-m", "pytest", "-p", "no:cacheprovider", "--tb=short")
# What only a GPU can show.
GPU_TESTS = (
    "tests/kernels/cuda/test_gpu.py",
    "tests/kernels/triton/test_gpu.py",
    "tests/kernels/triton/test_planes_gpu.py",
)
WORKERS = min(8, os.cpu_count() or 1)
# One of each CUDA kernel, small.
SANITIZED = "(hopper or pair or tail or convolutions) and not 135 and not 540"
# Minutes for each network, and what is not the question of a first record.
SLOW, OTHERS = "torch.compile", "bf16|fp32 channels-last|TensorRT"
COUNTED = {
    "conv_held": {"kind": "conv", "what": "wgmma_held", "width": 960, "height": 540},
    "row_kernel": {"kind": "triton", "what": "gluon", "width": 960, "height": 540},
    "tail_wgmma": {"kind": "tail", "what": "tail_wgmma", "width": 480, "height": 270},
}
SECTIONS = ("SpeedOfLight", "WarpStateStats", "MemoryWorkloadAnalysis", "SchedulerStats", "Occupancy")


def steps(minutes: int, out: Path, modules: Path | None = None) -> list[Step]:
    """Lists the steps of the run that takes ``minutes``: 5 (does it load, is it right, what is fast) or 7 (the record)."""
    start = [_start(out), _modules(modules)]
    return [*start, *(_first(out) if minutes == 5 else _second(out))]


def _start(out: Path) -> Step:
    return Step("machine", (sys.executable, "-m", "benchmarks.gpu.start", str(out / "record.json")), 40, 1)


def _modules(folder: Path | None) -> Step:
    command = [sys.executable, "-m", "benchmarks.gpu.modules", *(["--from", str(folder)] if folder else [])]
    return Step("compiled modules", command, 150, 1, [*command, "--dry-run"])


def _first(out: Path) -> list[Step]:
    table = [sys.executable, "-m", "benchmarks.gpu.table", "--out", str(out / "table.jsonl")]
    return [
        Step("parity", _parity(), 100),
        Step("table", [*table, "--seconds", "145"], 155, 20, [*table, "--seconds", "1500", "--dry-run"]),
        *_counters(),
    ]


def _parity() -> list[str]:
    """Runs many tests at a time, each named; one that hangs or loses the GPU takes its own worker with it and no other."""
    limits = ["--timeout=45", "--timeout-method=thread"]
    workers = ["-n", str(WORKERS), "--max-worker-restart=40"] if importlib.util.find_spec("xdist") else []
    return [*PYTEST, "-v", *workers, "-p", "benchmarks.gpu.lost_context", *limits, "-m", "needs_gpu", *GPU_TESTS]


def _counters() -> list[Step]:
    """Reads hardware counters of three kernels, where the profiler is there."""
    ncu = shutil.which("ncu", path=_places())
    found: list[Step] = []
    for kernel, job in COUNTED.items():
        command = [
            ncu or "ncu",
            "--clock-control",
            "none",
            "--target-processes",
            "all",
            "--kernel-name",
            f"regex:{kernel}",
        ]
        command += ["--launch-skip", "1", "--launch-count", "1"]
        for section in SECTIONS:
            command += ["--section", section]
        work = [sys.executable, "-m", "benchmarks.gpu.job"]
        small: dict[str, Any] = {**job, "width": 3, "height": 2, "dry": True}
        if ncu or not found:  # one line is enough to say that there is none
            measured = [*command, *work, json.dumps(job)]
            found.append(Step(f"counters: {kernel}", measured, 30, 12, [*work, json.dumps(small)]))
    return found


def _second(out: Path) -> list[Step]:
    def suite(file: str, *more: str, without: str = f"{SLOW}|{OTHERS}") -> list[str]:
        record = ["--record", str(out / "record.json")]
        return [*PYTEST, "-q", f"benchmarks/{file}", *record, "--without", without, *more]

    def networks(which: str, size: str, *more: str, **options: str) -> list[str]:
        chosen = ["-k", f"{which} and x4 and cuda-{size}", "--budget", "3"]
        return suite("test_networks.py", *chosen, *more, **options)

    missing = "OpenVINO|ONNX|ncnn|torch.compile|bf16|channels-last"
    tiny = ["-k", "Compact and x4 and cpu-64x64", "--budget", "0.1", "--least", "1"]
    small = suite("test_networks.py", *tiny, without=missing)
    frames = suite("test_frames.py")
    best = networks("SRResNet", "480x270", "--run", "2", without=f"max-autotune|{OTHERS}")
    ceilings = suite("test_ceilings.py")
    return [
        Step("ceilings", ceilings, 40, 15, [*ceilings, "--least", "1"]),
        Step("main networks", networks("(SRResNet or Compact)", "480x270"), 110, 20, small),
        Step("large", networks("SRResNet", "960x540"), 60, 20, small),
        Step("frames", frames, 40, 15, [*frames, "--collect-only"]),
        Step("torch.compile", best, 110, 40, small),
        _sanitizer(),
    ]


def _sanitizer() -> Step:
    """Runs srfast's own CUDA kernels under memcheck; PyTorch's allocator would hide what lies outside of a tensor."""
    tool = shutil.which("compute-sanitizer", path=_places()) or "compute-sanitizer"
    tests = [*PYTEST, "-q", "-m", "needs_gpu", GPU_TESTS[0], "-k", SANITIZED]
    command = [tool, "--kernel-name", "kns=srfast", "--error-exitcode", "9", *tests]
    return Step("sanitizer", command, 60, 20, tests, (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),))


def _places() -> str:
    """Lists where CUDA's tools lie."""
    cuda = "/usr/local/cuda"
    return os.pathsep.join([os.environ.get("PATH", ""), f"{cuda}/bin", f"{cuda}/compute-sanitizer"])


def names(chosen: Sequence[Step]) -> str:
    """Names steps in a message."""
    return ", ".join(step.name for step in chosen)
