"""A record as the suite would write it, with made-up numbers."""

from __future__ import annotations

import pytest

from benchmarks.record import Ceiling, Measurement, Piece, Quality, Record

MACHINE = {
    "cpu": "Test CPU",
    "cpu_family": "1 2 3",
    "cores": 2,
    "threads": 2,
    "instruction_sets": ["avx512f"],
    "memory_gib": 8,
    "system": "Linux",
    "gpu": None,
}


def measured(contender: str, seconds: list[float], run: int = 1, suite: str = "network") -> Measurement:
    subject, case = ("Compact x4", "240x136") if suite == "network" else ("Compact x4", "192x144, 8 frames")
    facts = {"flop": 4.2e9, "bytes": 1.7e8, "error": 1e-6} if suite == "network" else {}
    return Measurement(suite, subject, case, contender, "s", seconds, run, facts)


@pytest.fixture
def record() -> Record:
    """Two runs of two contenders: the first is 3 times as fast, then 3.06 times; a video; quality; a missing peer."""
    made = Record(dict(MACHINE), {"python": "3.11.0", "torch": "2.13.0"}, "2026-01-02T03:04:05Z")
    made.ceilings = [
        Ceiling("float32 multiply-adds", "FLOP/s", [1.5e11, 1.6e11, 1.4e11], 1),
        Ceiling("copy", "B/s", [1e10], 1),
    ]
    made.add([measured("srfast", [0.10, 0.11, 0.12]), measured("eager fp32 NCHW", [0.30, 0.33, 0.36])])
    made.add([measured("srfast", [0.10, 0.10, 0.10], 2), measured("eager fp32 NCHW", [0.306, 0.306, 0.306], 2)])
    made.add(
        [
            measured("srfast.upscale_video", [0.5, 0.5], suite="video"),
            measured("plain loop", [1.0, 1.25], suite="video"),
        ]
    )
    made.quality = [
        Quality("compact_x4, x4", "Set5", "bicubic", 5, 28.431, 0.81041, "abc"),
        Quality("compact_x4, x4", "Set5", "eager fp32", 5, 31.154, 0.88021, "abc"),
        Quality("compact_x4, x4", "Set5", "srfast bf16", 5, 31.1, 0.88, "abc"),
    ]
    made.missing = {"TensorRT fp16 (Compact x4)": "not installed"}
    made.pieces = [Piece("network", 1, "2026-01-02T03:04:05Z", 3.0, "0123456789ab", {"load": "0"}, {"load": "0"})]
    return made
