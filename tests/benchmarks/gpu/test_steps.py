"""Steps of the GPU run: one that is killed, hangs or crashes costs its own result, and what there is stays whole."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import record
from benchmarks.gpu import plans
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.steps import Run, Step, matching

ADD = (
    "import sys; from pathlib import Path; from benchmarks import record;"
    "path = Path(sys.argv[1]); taken = record.load(path);"
    "taken.ceilings.append(record.Ceiling(sys.argv[2], 'B/s', [1.0], 1)); record.save(taken, path)"
)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def results(folder: Path) -> dict[str, str]:
    summary = json.loads((folder / "summary.json").read_text())
    return {step["name"]: step["result"] for step in summary["steps"]}


def test_a_bad_step_costs_its_own_result(tmp_path: Path) -> None:
    """Killed, hanging past its limit, crashing, leaving rubbish, not there at all: the record holds the others."""
    path, table = str(tmp_path / "record.json"), tmp_path / "table.jsonl"
    lines = 'import sys; file = open(sys.argv[1], \'a\'); file.write(\'{"name": "conv", "us": 1.5}\\n{"name": "cut o\')'
    steps = [
        Step("empty", python("print('hello')"), 30, 0),
        Step("first", python(ADD, path, "first"), 60, 0),
        Step("killed", python("import os; os.kill(os.getpid(), 9)"), 30, 0),
        Step("table", python(lines, str(table)), 30, 0),
        Step("hangs", python("import time; print('begun', flush=True); time.sleep(100)"), 1, 0),
        Step("crashes", python("import ctypes; ctypes.string_at(0)"), 30, 0),
        Step("not there", ["/nonexistent/tool"], 30, 0),
        Step("too long", python("print('never')"), 900, 900),
        Step("last", python(ADD, path, "last"), 60, 0),
    ]
    outcomes = Run(tmp_path, 300, dry=False).perform(steps)
    found = results(tmp_path)
    assert found == {outcome.name: outcome.result for outcome in outcomes}
    assert [name for name, result in found.items() if result == "ok"] == ["empty", "first", "table", "last"]
    assert found["killed"] == "failed (-9)"
    assert found["hangs"] == "stopped at its limit"
    assert found["crashes"] == "failed (-11)"
    assert found["not there"].startswith("failed ([Errno 2]")
    assert found["too long"].startswith("skipped")
    taken = record.load(Path(path))
    assert [ceiling.name for ceiling in taken.ceilings] == ["first", "last"]
    assert taken.notes["table"] == [{"name": "conv", "us": 1.5}]
    assert len(taken.notes["summary"]["steps"]) == len(steps)
    log = (tmp_path / "log.txt").read_text()
    assert "hello" in log and "begun" in log and "never\n" not in log


def test_the_record_is_whole_after_every_step(tmp_path: Path) -> None:
    """Each step finds a record that can be read and that holds those before it; a broken one is put aside."""
    path = tmp_path / "record.json"
    count = "import json, sys; print(len(json.load(open(sys.argv[1]))['notes']['summary']['steps']))"
    steps = [
        Step("one", python("raise SystemExit(3)"), 30, 0),
        Step("two", python(count, str(path)), 30, 0),
        Step("breaks it", python("import sys; open(sys.argv[1], 'w').write('{\"half')", str(path)), 30, 0),
        Step("three", python(count, str(path)), 30, 0),
    ]
    Run(tmp_path, 60, dry=False).perform(steps)
    log = [line for line in (tmp_path / "log.txt").read_text().splitlines() if line and not line.startswith("===")]
    assert log == ["1", "3"]
    assert record.load(path).notes["summary"]["steps"][0]["result"] == "failed (3)"
    assert (tmp_path / "record.broken").read_text() == '{"half'


def test_what_a_step_started_ends_with_it(tmp_path: Path) -> None:
    """A process that outlives its step would go on using the GPU."""
    alive = tmp_path / "alive"
    child = f"import time, pathlib; time.sleep(1.5); pathlib.Path({str(alive)!r}).touch()"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])"
    Run(tmp_path / "out", 60, dry=False).perform([Step("leaves one", python(code), 30, 0)])
    time.sleep(2.5)
    assert not alive.exists()


def test_several_runs_into_one_folder(tmp_path: Path) -> None:
    both = [Step(name, python(f"print('{name}')"), 30, 0) for name in ("first", "second")]
    for only in ("first", "sec", "first"):
        assert len(Run(tmp_path, 60, dry=False).perform(matching(both, only))) == 1
    assert sorted(results(tmp_path)) == ["first", "second"]
    assert (tmp_path / "log.txt").read_text().count("first") >= 2


def test_steps_see_this_checkout_and_must_use_a_gpu(tmp_path: Path) -> None:
    code = "import os, srfast.kernels, srfast.training; print(os.environ['SRFAST_REQUIRE_GPU'], srfast.__file__)"
    (tmp_path / "configs.json").write_text("{}")
    code += "; print(os.environ['SRFAST_TRITON_CONFIGS'])"
    outcome = Run(tmp_path, 60, dry=False).perform([Step("look", python(code), 60, 0)])
    assert outcome[0].result == "ok", (tmp_path / "log.txt").read_text()
    assert str(tmp_path / "configs.json") in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("minutes", [5, 7])
def test_limits_fit_the_time(minutes: int, tmp_path: Path) -> None:
    """Every step can take its whole limit where nothing has to be built, but for what comes last because it matters least."""
    steps = plans.steps(minutes, tmp_path)
    least = [step for step in steps if step.name.startswith(("counters", "sanitizer"))]
    assert steps[-len(least) :] == least
    assert sum(step.most for step in steps[2 : -len(least)]) <= 60 * minutes - 30
    assert [step.name for step in steps[:2]] == ["machine", "compiled modules"]
    assert steps[2].name == ("parity" if minutes == 5 else "ceilings")


def test_few_files_come_back(tmp_path: Path) -> None:
    parts = [str(part) for minutes in (5, 7) for step in plans.steps(minutes, tmp_path) for part in step.command]
    written = {Path(part).name for part in parts if part.startswith(str(tmp_path))}
    assert written | {"summary.json", "log.txt", "configs.json", "cuda_configs.json"} <= {
        "record.json",
        "summary.json",
        "log.txt",
        "table.jsonl",
        "configs.json",
        "cuda_configs.json",
    }


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["--dry-run", "--only", "nothing", "--out", str(out)]) == 1
    assert "matches none of: machine, compiled modules, parity" in capsys.readouterr().err
    assert main(["--dry-run", "--modules", str(tmp_path / "no"), "--out", str(out)]) == 1
    assert "is not a folder" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert main(["--out", str(out)]) == 1
        assert "--dry-run" in capsys.readouterr().err
    assert not out.exists()
