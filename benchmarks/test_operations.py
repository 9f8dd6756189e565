"""Single operations against every peer: the sizes are those of the image; later operations see it enlarged."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.contenders import contenders
from benchmarks.session import Session
from benchmarks.subjects import OPERATIONS, Subject

SIZES = {"cpu": ((240, 135),), "cuda": ((480, 270), (960, 540))}
CASES = [(subject, device, size) for subject in OPERATIONS for device, sizes in SIZES.items() for size in sizes]


@pytest.mark.parametrize(("subject", "device", "size"), CASES, ids=[f"{s.name}-{d}-{w}x{h}" for s, d, (w, h) in CASES])
def test_operation(
    bench: Session, benchmark: BenchmarkFixture, subject: Subject, device: str, size: tuple[int, int]
) -> None:
    if device != bench.device.type:
        pytest.skip(f"a size for {device}")
    bench.compare("operation", subject, size, contenders(bench.device), benchmark.pedantic)
