"""Options of the suite: ``python -m pytest benchmarks --record auto`` (see ``make bench``)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import record
from benchmarks.sampling import Gate
from benchmarks.session import Session
from srfast.backends import default_device


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("srfast benchmarks")
    group.addoption("--record", help="record to add to: a file, or 'auto' for records/<date>-<device>.json")
    group.addoption("--run", default="1", help="passes over the suite to take: 1, then 2 to show repeatability, or 1,2")
    group.addoption("--budget", type=float, default=20.0, help="seconds to sample each case")
    group.addoption("--longest", type=float, default=3.0, help="leave contenders out that take longer for an image")
    group.addoption("--without", help="leave contenders out whose names match this regular expression")
    group.addoption("--least", type=int, default=5, help="fewest rounds")
    group.addoption("--gate", help="command that holds the machine while something is timed, as 'flock /tmp/lock'")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.pluginmanager.hasplugin("timeout"):
        for item in items:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def bench(request: pytest.FixtureRequest) -> Session:
    """How this run measures."""
    option = request.config.getoption
    path = option("--record")
    target = None if path is None else record.default_path() if path == "auto" else Path(path)
    device = default_device()
    if device.type == "cpu":
        torch.set_float32_matmul_precision("highest")
    return Session(
        path=target,
        passes=tuple(int(number) for number in option("--run").split(",")),
        budget=option("--budget"),
        longest=option("--longest"),
        gate=Gate(option("--gate")),
        device=device,
        least=option("--least"),
        without=option("--without"),
    )
