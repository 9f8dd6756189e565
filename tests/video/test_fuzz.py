"""Random combinations of inputs, options and outputs, each run end to end: right, or refused in time; nothing else."""

from __future__ import annotations

import logging
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.helpers.video.children import save_tiny, start
from tests.helpers.video.fuzzing import KINDS, Run, drawn, sources, tried


def campaign(folder: Path, count: int) -> tuple[Counter[str], list[str]]:
    """Runs ``count`` of them; returns how many had each outcome, and what is wrong."""
    (folder / "in").mkdir()
    inputs, model = sources(folder / "in"), save_tiny(folder / "tiny.safetensors")
    chance, outcomes, wrong = random.Random(count), Counter[str](), []
    columns: Counter[str] = Counter()
    for number in range(count):
        run: Run = drawn(chance, inputs, model)
        place = folder / "out"
        place.mkdir()
        outcome, fault = tried(run, place)
        shutil.rmtree(place)
        outcomes[outcome] += 1
        columns[f"{run.kind} {outcome}"] += 1
        if fault:
            wrong.append(
                f"{number}: {run.source.name} ({run.source.path.suffix}) to {run.kind}, {run.options[6:]}: {outcome}, {fault}"
            )
    rows = [
        f"{kind:6}" + "".join(f"{columns[f'{kind} {outcome}']:18}" for outcome in sorted(outcomes)) for kind in KINDS
    ]
    print("      " + "".join(f"{outcome:>18}" for outcome in sorted(outcomes)), *rows, sep="\n")
    return outcomes, wrong


def in_child(folder: Path, count: int) -> None:
    torch.set_num_threads(1)
    logging.getLogger().addHandler(logging.NullHandler())
    outcomes, wrong = campaign(folder, count)
    (folder / "counts.txt").write_text("\n".join([str(dict(outcomes)), *wrong]))
    raise SystemExit(2 if wrong else 0)


@pytest.mark.parametrize("count", [25, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_random_runs(tmp_path: Path, count: int) -> None:
    """In a process of its own: a crash is a failure too. Both right outputs and refusals are among them."""
    process = start(in_child, tmp_path, count)
    process.join()
    said = (tmp_path / "counts.txt").read_text() if (tmp_path / "counts.txt").exists() else "no counts"
    print(said)
    assert process.exitcode == 0, f"exit {process.exitcode}: {said}"
    assert "'done'" in said and "'refused: output'" in said and "'refused: usage'" in said
