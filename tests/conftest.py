"""Shared fixtures: small networks with non-trivial weights, small clips, and the optional evaluation data."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key  # the standard error that is not captured
from torch import nn

from srfast.kernels import cuda
from srfast.models import SRVGGNetCompact
from tests.helpers.cuda import emulation
from tests.helpers.networks.small import NETWORKS, randomise

REPOSITORY = Path(__file__).parent.parent

# Files that take a worker a minute or more, the longest first: one that began last would leave the other worker idle.
LONG = (
    "kernels/cuda/test_hopper.py",
    "kernels/cuda/test_planted.py",
    "video/test_rehearsal.py",
    "kernels/cuda/test_tail.py",
    "benchmarks/gpu/test_bare_checkout.py",
    "video/test_failures.py",
    "service/test_videos.py",
    "service/test_page.py",
    "cluster/test_schedulers.py",
    "training/test_distributed.py",
    "video/test_matrix.py",
    "video/test_kept.py",
    "cluster/test_ray.py",
    "cluster/test_job.py",
    "test_packaging.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the tests of long files first; the order is otherwise as it was."""
    rank = {Path(__file__).parent / name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(LONG)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Ends the process of a test that its own time limit could not end, with the stacks of all threads.

    The limit is a signal, which Python handles between two instructions: a thread that waits in compiled code for one
    that wants the interpreter's lock never gets there. What ends the process needs no interpreter.
    """
    marker = item.get_closest_marker("timeout")
    limit = float(marker.args[0] if marker else item.config.getini("timeout") or 0)
    if not limit or item.config.getoption("usepdb"):
        return (yield)
    faulthandler.dump_traceback_later(limit + 60, exit=True, file=item.config.stash[fault_handler_stderr_fd_key])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> Iterator[None]:
    """Commands that tests start can be interrupted, also where the tests run as a background job of a script.

    A shell starts such jobs with SIGINT ignored, which processes hand on to their children.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def _untuned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No choice in a test depends on what ``srfast tune`` wrote for whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRFAST_TUNED", str(tmp_path_factory.mktemp("untuned") / "cpu.json"))
        yield


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    """One small network of every kind."""
    return randomise(NETWORKS[request.param]())


@pytest.fixture
def small_network() -> nn.Module:
    """The fastest network, x2."""
    return randomise(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2))


@pytest.fixture(scope="session")
def emulated_module() -> Any:
    """The CUDA kernels compiled for the host; kept between runs in ``build``."""
    return emulation.load(emulation.build(emulation.REPOSITORY / "build" / "emulated"))


@pytest.fixture
def emulated_cuda(emulated_module: Any) -> Iterator[None]:
    """``srfast.kernels.cuda`` runs the emulated kernels."""
    before = cuda.use_module(emulated_module)
    yield
    cuda.use_module(before)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Evaluation images and checkpoints that are not part of the repository."""
    folder = Path(os.environ.get("SRFAST_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no evaluation data at {folder}; set SRFAST_DATA to its folder")
    return folder
