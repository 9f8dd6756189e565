"""The tuner without a GPU: its rehearsal, what it refuses, and what it keeps when the time is up."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from srfast.kernels import gluon
from srfast.kernels.tools.candidates import PAIRS, SHAPES, Shape, Task, candidates, tasks
from srfast.kernels.tools.tune import WORTH, Found, tune, write_entries
from srfast.kernels.triton.config import SHIPPED, Config, PairConfig, find_config

HOT = Shape(64, 64, 3)


class Tuner:
    """Says what it is told."""

    def __init__(self, times: dict[str, float]) -> None:
        self.times = times
        self.asked: list[str] = []

    def best(self, task: Task, deadline: float = float("inf")) -> Found:
        self.asked.append(task.key)
        return Found(task.configs[-1], self.times.get(task.key, 1.0))


def entries_of(times: dict[str, float], todo: list[Task], seconds: float = 60) -> tuple[dict[str, Any], list[Any]]:
    saved: list[Any] = []
    entries = tune(Tuner(times), todo, seconds, lambda found: saved.append(dict(found)))  # type: ignore[arg-type]
    return entries, saved


def test_a_pair_must_be_worth_it() -> None:
    single = Task((HOT,), (Config(), Config(warps=8)), 8, 8)
    pair = Task((HOT, HOT), (PairConfig(),), 8, 8)
    slow, _ = entries_of({pair.key: 2 * WORTH}, [single, pair])
    fast, saved = entries_of({pair.key: 1.9 * WORTH}, [single, pair])
    assert list(slow) == [single.key]
    assert list(fast) == [single.key, pair.key]
    assert [len(found) for found in saved] == [1, 2]
    assert Config(**fast[single.key]).warps == 8
    assert PairConfig(**fast[pair.key]) == PairConfig()


def test_time_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert entries_of({}, [Task((HOT,), (Config(),), 8, 8)], seconds=-1) == ({}, [])
    assert f"not tuned: {HOT.key}" in capsys.readouterr().out


def test_every_shape_has_a_task_and_pairs_come_after_their_parts() -> None:
    found = tasks(270, 480, True)
    assert {task.shapes for task in found} == {(shape,) for shape in SHAPES} | set(PAIRS)
    for position, task in enumerate(found):
        earlier = {t.shapes[0] for t in found[:position] if len(t.shapes) == 1}
        assert len(task.shapes) == 1 or all(s in earlier or s.scale == 4 for s in task.shapes)
        assert len(set(task.configs)) == len(task.configs)
    assert found[0].shapes == (HOT,)
    assert abs(sum(found[0].flops for _ in range(33)) / 1e9 - 315) < 1  # the trunk of SRResNet at 480x270


@pytest.mark.parametrize("hopper", [False, True])
def test_the_shipped_configuration_is_tried_first(hopper: bool) -> None:
    """But for Gluon's, where its kernel fits and there is one."""
    plain = [config for config in candidates(HOT, hopper) if not config.gluon]
    assert plain[0] == find_config(("sm90", "default") if hopper else ("default",), HOT.key)
    assert next(candidates(HOT, hopper)).gluon == (hopper and gluon.unavailable_reason() is None)
    assert SHIPPED.exists()


def test_files_grow(tmp_path: Path) -> None:
    path = tmp_path / "configs.json"
    for gpu, entries in (("a", {"x": 1}), ("b", {"x": 2}), ("a", {"y": 3})):
        write_entries(path, gpu, entries)
    assert json.loads(path.read_text()) == {"a": {"x": 1, "y": 3}, "b": {"x": 2}}


def test_rehearsal(tmp_path: Path) -> None:
    """Compiles for sm_90 in processes of its own, runs in the interpreter, refuses wrong results."""
    code = (
        "import sys; from pathlib import Path; from srfast.kernels.tools import candidates as c, tune as t\n"
        "t.tasks = lambda *a: [t.Task((c.SHAPES[5],), (t.Config(4, 8, 16, 4, 2), t.Config(8, 8, 16, 4, 2)), 4, 8)]\n"
        "t.rehearse(Path(sys.argv[1])); t.TOLERANCE = -1; t.rehearse(Path(sys.argv[2]))\n"
    )
    paths = [tmp_path / "right.json", tmp_path / "wrong.json"]
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    script = tmp_path / "rehearsal.py"  # the compiling processes import it
    script.write_text("if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in code.splitlines()))
    done = subprocess.run(
        [sys.executable, str(script), *map(str, paths)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(json.loads(paths[0].read_text())["dry run"]) == ["conv 3x3 64->48"]
    assert not paths[1].exists()
    assert "is wrong by" in done.stdout
    assert "0 refused" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu() -> None:
    command = [sys.executable, "-m", "srfast.kernels.tools.tune", "--out", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no GPU" in done.stderr
