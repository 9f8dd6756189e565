"""The GPU run: its budget, its record of what happened, and the whole rehearsal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu import Step


def fake_steps(*steps: Step) -> object:
    return lambda out: list(steps)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_budget_and_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        gpu,
        "steps",
        fake_steps(
            Step("good", python("print('hello')"), 30, 0),
            Step("bad", python("raise SystemExit(3)"), 30, 0),
            Step("endless", python("import time; print('begun', flush=True); time.sleep(100)"), 2, 0),
            Step("too long", python("print('never')"), 900, 900),
            Step("last", python("import srfast.kernels, os; print(os.environ['SRFAST_REQUIRE_GPU'])"), 60, 0),
        ),
    )
    outcomes = gpu.run(tmp_path, 2, dry=False)
    results = [outcome.result for outcome in outcomes]
    assert results[:3] == ["ok", "failed (3)", "stopped at its limit"]
    assert results[3].startswith("skipped")
    assert results[4] == "ok"
    log = (tmp_path / "log.txt").read_text()
    assert "hello" in log
    assert "begun" in log
    assert "never\n" not in log
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [step["result"] for step in summary["steps"]] == results


def test_some_steps_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several runs into one folder: each adds to the summary and the log."""
    both = [Step(name, python(f"print('{name}')"), 30, 0) for name in ("first", "second")]
    monkeypatch.setattr(gpu, "steps", fake_steps(*both))
    for only in ("first", "sec", "first"):
        assert len(gpu.run(tmp_path, 1, dry=False, only=only)) == 1
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert sorted(step["name"] for step in summary["steps"]) == ["first", "second"]
    assert (tmp_path / "log.txt").read_text().count("first") >= 2


def test_what_must_be_right_comes_first(tmp_path: Path) -> None:
    names = [step.name for step in gpu.steps(tmp_path)]
    order = ["GPU tests", "sanitizer: memcheck", "sanitizer: racecheck", "experiments", "tuning", "main networks"]
    assert [name for name in names if name in order] == order


def test_few_files_come_back(tmp_path: Path) -> None:
    """A run leaves at most five files, so that they can be fetched at once."""
    written = {
        str(part) for step in gpu.steps(tmp_path) for part in step.command if str(part).startswith(str(tmp_path))
    }
    assert {Path(name).name for name in written} | {"summary.json", "log.txt"} <= {
        "record.json",
        "summary.json",
        "log.txt",
        "experiments.json",
        "configs.json",
    }


def test_refuses_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu.main(["--out", str(tmp_path / "out")]) == 1
    assert "--dry-run" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.timeout(600)
def test_rehearsal(tmp_path: Path) -> None:
    """Every step runs as far as it can, and nothing measured on the way is kept."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=gpu.REPOSITORY, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "record.json").exists()
    assert "discarded" in done.stdout
