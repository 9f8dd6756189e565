"""The GPU tests' plugin: a worker whose GPU is lost or whose test hangs is replaced, and every other test has its result."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.steps import REPOSITORY

# In place of a GPU: lost as soon as a test says so, for as long as the process lives.
CONFTEST = """
import sys, types
LOST = []
def synchronize():
    if LOST:
        raise RuntimeError("an illegal memory access was encountered\\nmore")
sys.modules["torch"] = types.SimpleNamespace(
    cuda=types.SimpleNamespace(is_initialized=lambda: True, synchronize=synchronize), lost=LOST
)
"""
TESTS = """
import time, pytest, torch
@pytest.mark.parametrize("number", range(4))
def test_good(number):
    assert not torch.lost
def test_loses_it():
    torch.lost.append(1)
def test_hangs():
    time.sleep(60)
@pytest.mark.parametrize("number", range(4))
def test_later(number):
    assert not torch.lost
"""


def run(folder: Path, *options: str) -> str:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_them.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    plugins = ["-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "benchmarks.gpu.lost_context"]
    limits = ["--timeout=3", "--timeout-method=thread"]
    command = [sys.executable, "-m", "pytest", "-v", *plugins, *limits, *options, "test_them.py"]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": ""}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200).stdout


def test_a_worker_that_lost_the_gpu_is_replaced(tmp_path: Path) -> None:
    text = run(tmp_path, "-n", "2", "--max-worker-restart=10")
    passed = set(re.findall(r"PASSED (\S+)", text))
    assert {f"test_them.py::test_{kind}[{i}]" for kind in ("good", "later") for i in range(4)} <= passed, text
    crashed = set(re.findall(r"crashed while running '(\S+)'", text))
    assert crashed == {"test_them.py::test_loses_it", "test_them.py::test_hangs"}


def test_without_workers_it_ends_at_once(tmp_path: Path) -> None:
    """No later test is blamed for what an earlier one did."""
    text = run(tmp_path, "-p", "no:xdist", "-k", "not hangs")
    assert len(re.findall("PASSED", text)) == 5
    assert "FAILED" not in text
    assert "nothing can take this process's place" in text
