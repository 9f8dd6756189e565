"""Whole networks, image and result as tensors, against every peer."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.contenders import contenders
from benchmarks.session import Session
from benchmarks.subjects import NETWORKS, Subject

SMALL, QUARTER, HALF, FULL, LARGE = (64, 64), (240, 136), (480, 270), (960, 540), (1920, 1080)
# The lowest rows of a device are the largest that end in a reasonable time.
SIZES = {
    "cpu": {
        "SRResNet x4": (SMALL, QUARTER, HALF),
        "SRResNet x2": (SMALL, QUARTER),
        "Compact x4": (SMALL, QUARTER, HALF),
        "Compact x2": (SMALL, QUARTER, LARGE),
        "RRDBNet x4": (SMALL,),
        "SR-UGAN x4": (SMALL, QUARTER),
        "SPAN x4": (QUARTER,),
        "Real-CUGAN x2": (QUARTER,),
        "RealPLKSR x4": (QUARTER,),
        "upconv_7 x2": (QUARTER,),
        "RCAN x4": (QUARTER,),
    },
    "cuda": {
        "SRResNet x4": (SMALL, HALF, FULL),
        "SRResNet x2": (HALF, FULL),
        "Compact x4": (SMALL, HALF, FULL),
        "Compact x2": (HALF, FULL, LARGE),
        "RRDBNet x4": (SMALL, HALF),
        "SR-UGAN x4": (SMALL, (480, 272)),
    },
}
CASES = [(s, device, size) for device, sizes in SIZES.items() for s in NETWORKS for size in sizes.get(s.name, ())]


@pytest.mark.parametrize(("subject", "device", "size"), CASES, ids=[f"{s.name}-{d}-{w}x{h}" for s, d, (w, h) in CASES])
def test_network(
    bench: Session, benchmark: BenchmarkFixture, subject: Subject, device: str, size: tuple[int, int]
) -> None:
    if device != bench.device.type:
        pytest.skip(f"a size for {device}")
    bench.compare("network", subject, size, contenders(bench.device), benchmark.pedantic)
