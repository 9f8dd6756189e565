"""Runs steps one after another, each in a process of its own with a limit; what there is so far is whole after each."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.gpu.decisions import rows_of, write_decisions

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Step:
    """A command with its limits.

    Attributes:
        name: for the summary.
        command: what to run.
        most: seconds after which it is stopped; what it wrote until then stays.
        least: it is skipped with fewer seconds left.
        dry: what to run instead in a rehearsal; None for the command itself.
        environment: variables beside the common ones.
    """

    name: str
    command: Sequence[str]
    most: float
    least: float = 15
    dry: Sequence[str] | None = None
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How a step ended: 'ok', 'failed (code)', 'stopped at its limit' or 'skipped: ...'."""

    name: str
    result: str
    seconds: float


class Run:
    """Steps within a time, into a folder.

    Args:
        out: the folder: ``log.txt``, ``summary.json``, ``record.json``, and what the steps write.
        seconds: for everything.
        dry: a rehearsal.
    """

    def __init__(self, out: Path, seconds: float, dry: bool) -> None:
        self._out, self._dry = out, dry
        self._ends = time.monotonic() + seconds
        self._outcomes: list[Outcome] = []
        out.mkdir(parents=True, exist_ok=True)

    def perform(self, steps: Sequence[Step]) -> list[Outcome]:
        """Runs all steps; outcomes of other steps of an earlier run into the same folder stay in the summary."""
        earlier = self._earlier({step.name for step in steps})
        rehearsed: set[tuple[str, ...]] = set()
        for step in steps:
            command = tuple(step.command if not self._dry or step.dry is None else step.dry)
            left = self._ends - time.monotonic()
            if left < step.least:
                outcome = Outcome(step.name, f"skipped: {left:.0f} s are left", 0.0)
            elif self._dry and command in rehearsed:
                outcome = Outcome(step.name, "ok", 0.0)
            else:
                outcome = self._one(step, command, left)
            rehearsed.add(command)
            self._outcomes.append(outcome)
            self._note([*earlier, *(asdict(one) for one in self._outcomes)])
            print(f"{outcome.name:40} {outcome.result:24} {outcome.seconds:6.1f} s", flush=True)
        return self._outcomes

    def _one(self, step: Step, command: tuple[str, ...], left: float) -> Outcome:
        started = time.monotonic()
        with open(self._out / "log.txt", "ab") as log:
            log.write(f"\n=== {step.name}: {' '.join(command)}\n".encode())
            log.flush()
            environment = environment_of(self._out, self._dry) | dict(step.environment)
            try:
                process = subprocess.Popen(
                    command,
                    cwd=REPOSITORY,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                return Outcome(step.name, f"failed ({error})", 0.0)
            try:
                code = process.wait(left if self._dry else min(step.most, left))
                result = "ok" if code == 0 else f"failed ({code})"
            except subprocess.TimeoutExpired:
                result = "stopped at its limit"
            # Its own session: what it started goes too, also what outlives it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)  # one that the driver holds on to is left behind
        return Outcome(step.name, result, round(time.monotonic() - started, 1))

    def _earlier(self, without: set[str]) -> list[dict[str, Any]]:
        try:
            found = json.loads((self._out / "summary.json").read_text(encoding="utf-8"))["steps"]
            return [step for step in found if step["name"] not in without]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _note(self, steps: list[dict[str, Any]]) -> None:
        """Writes the summary, and puts it and the table into the record; nothing a step left can keep that from happening."""
        summary = {"dry_run": self._dry, "steps": steps}
        partial = self._out / ".summary.partial"
        partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        partial.replace(self._out / "summary.json")
        table, path = self._out / "table.jsonl", self._out / "record.json"
        if not self._dry:
            write_decisions(table)
        try:
            taken = record.load(path) if path.exists() else None
        except (OSError, record.RecordError) as error:
            print(f"{path} cannot be used and is put aside: {error}", flush=True)
            path.replace(path.with_suffix(".broken"))
            taken = None
        if taken is None:
            taken = record.Record({"gpu": None}, {}, record.now())
        taken.notes |= {"summary": summary, "table": rows_of(table)}
        record.save(taken, path)


def environment_of(out: Path, dry: bool) -> dict[str, str]:
    """Makes every step's environment: this checkout first, measured configurations, no skipping for want of a GPU, no network."""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    added = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1"}
    names = {"configs.json": "SRFAST_TRITON_CONFIGS", "cuda_configs.json": "SRFAST_CUDA_CONFIGS"}
    added |= {variable: str(out / name) for name, variable in names.items() if (out / name).exists()}
    if not dry:
        added["SRFAST_REQUIRE_GPU"] = "1"
    return os.environ | added


def matching(steps: Sequence[Step], only: str) -> list[Step]:
    """Chooses the steps whose names match a regular expression."""
    return [step for step in steps if re.search(only, step.name)]
