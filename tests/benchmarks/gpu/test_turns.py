"""Jobs in processes of their own: each has its line, whatever becomes of the others, and one at a time has its turn."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.jobs import Job, jobs, rehearsed
from benchmarks.gpu.table import main
from benchmarks.gpu.turns import Link, Turns
from srfast.kernels import cuda


def job(what: str, seconds: float = 30) -> Job:
    return Job("conv", what, seconds=seconds)


def by_what(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["what"]: row for row in rows}


def test_a_bad_job_costs_its_own_line(tmp_path: Path) -> None:
    """Killed, crashing, failing, hanging in its turn and out of it, while good ones run beside and after."""

    def start(job: Job, number: int) -> int:
        faulthandler.disable()
        link = Link(number)
        link.report({"begun": True})
        if job.what == "hangs before":
            time.sleep(100)
        with link.turn():
            if job.what == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if job.what == "hangs in its turn":
                time.sleep(100)
            if job.what == "crashes":
                os.abort()
            if job.what == "raises":
                raise ValueError("a wrong shape")
            link.report({"us": 2.0})
        return 3 if job.what == "bad end" else 0

    names = ["good", "killed", "hangs before", "crashes", "hangs in its turn", "raises", "bad end", "also good", "last"]
    given = [job(name, 1.0 if name.startswith("hangs") else 30) for name in names]
    path = tmp_path / "table.jsonl"
    rows = by_what(Turns(path, start, 3, 60).run(given))
    assert set(rows) == set(names)
    assert all(row["begun"] for row in rows.values())
    for name in ("good", "also good", "last"):
        assert rows[name]["us"] == 2.0 and "failed" not in rows[name]
    assert rows["killed"]["failed"] == "killed by signal 9"
    assert rows["crashes"]["failed"] == "killed by signal 6"
    assert rows["hangs before"]["failed"] == "hung: more than 1 s of its own"
    assert rows["hangs in its turn"]["failed"].startswith("hung: more than")
    assert "a wrong shape" in rows["raises"]["why"]
    assert rows["bad end"]["failed"] == "ended with code 3" and rows["bad end"]["us"] == 2.0
    assert by_what([json.loads(line) for line in path.read_text().splitlines()]) == rows


def test_one_at_a_time_and_waiting_is_free(tmp_path: Path) -> None:
    """Turns never overlap; a job may wait for longer than its own limit."""
    log = tmp_path / "log"

    def start(job: Job, number: int) -> int:
        link = Link(number)
        for _ in range(2):
            with link.turn():
                with open(log, "a") as file:
                    file.write("<")
                time.sleep(0.3)
                with open(log, "a") as file:
                    file.write(">")
        return 0

    rows = Turns(tmp_path / "table.jsonl", start, 4, 60).run([job(str(i), 1.5) for i in range(4)])
    assert not [row for row in rows if "failed" in row]
    assert log.read_text() == "<>" * 8


def test_the_end_of_time(tmp_path: Path) -> None:
    """What runs is stopped, what has not begun says so, and both have lines."""

    def start(job: Job, number: int) -> int:
        Link(number).report({"begun": True})
        time.sleep(100)
        return 0

    rows = Turns(tmp_path / "table.jsonl", start, 1, 1.0).run([job("a"), job("b"), job("c")])
    assert [row["failed"] for row in rows] == ["no time was left"] * 3
    assert [row.get("begun", False) for row in sorted(rows, key=lambda row: row["name"])] == [True, False, False]


def test_jobs_are_named_apart_and_the_most_valuable_come_first() -> None:
    given = jobs()
    names = [job.name for job in given]
    assert len(set(names)) == len(names)
    assert names[0] == "device"
    assert all("64->64" in name and "480x270" in name for name in names[1:4])
    assert names.index("net SRResNet x4 cuda 480x270") < names.index("net Compact x4 triton 480x270")
    for backend in ("eager", "triton", "gluon", "cuda", "mixed", "trunk"):
        assert f"net SRResNet x4 {backend} 480x270" in names
    assert {job.kind for job in rehearsed(given)} == {job.kind for job in given}


def test_without_a_fork_that_can_use_the_gpu_every_job_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulated_module: Any
) -> None:
    def forked(job: Job, bench: Bench) -> None:
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess")

    monkeypatch.setattr("benchmarks.gpu.job.perform", forked)
    monkeypatch.setattr(cuda, "_module", emulated_module)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    path = tmp_path / "table.jsonl"
    assert main(["--dry-run", "--only", "^device$", "--at-once", "1", "--out", str(path)]) == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert "Cannot re-initialize" in lines[0]["why"]
    assert [line.get("failed") for line in lines] == ["ended with code 1", None]
