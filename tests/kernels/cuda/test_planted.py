"""Faults planted in the special endings and in the tail on Hopper: a check that the tests of the kernels make finds each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from srfast.kernels import cuda
from tests.helpers.cuda import (
    emulation,
    planted_int8,
    planted_rows,
    planted_tail_rows,
    planted_tails,
    planted_tiles,
    planting,
)
from tests.helpers.cuda.planting import Fault

FAULTS = (
    *planted_tiles.FAULTS,
    *planted_rows.FAULTS,
    *planted_tails.FAULTS,
    *planted_tail_rows.FAULTS,
    *planted_int8.FAULTS,
)


@pytest.fixture(scope="module")
def module() -> Iterator[Path]:
    path = planting.build(FAULTS)
    before = cuda.use_module(emulation.load(path, planting.NAME))
    yield path
    cuda.use_module(before)


def test_without_a_fault(module: Path) -> None:
    """What finds a fault finds nothing where there is none."""
    planting.plant(module, 0)
    for check in dict.fromkeys(fault.check for fault in FAULTS):
        check()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.kind)
def test_fault_is_found(module: Path, fault: Fault) -> None:
    planting.plant(module, 1 + FAULTS.index(fault))
    # A wrong value, or what the emulation sees of barriers and of shared memory.
    with pytest.raises((AssertionError, RuntimeError)):
        fault.check()
