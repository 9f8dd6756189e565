"""Records: the form is checked, groups are replaced whole, and other machines' records are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine
from benchmarks import record as records
from benchmarks.record import Measurement, Record, RecordError


def test_round_trip(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "2026-01-02-test.json"
    records.save(record, path)
    assert records.load(path) == record
    assert records.latest(tmp_path) == {"test": path}


def test_floats_keep_six_digits(record: Record, tmp_path: Path) -> None:
    record.measurements = [replace(record.measurements[0], samples=[0.123456789])]
    records.save(record, tmp_path / "r.json")
    assert records.load(tmp_path / "r.json").measurements[0].samples == [0.123457]


def _set(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        inner: Any = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema", value=0), "schema"),
        (_set("machine", value=[]), "machine"),
        (_set("extra", value=1), "extra"),
        (_set("measurements", 0, "samples", value=[]), "positive"),
        (_set("measurements", 0, "samples", value=[-1.0]), "positive"),
        (_set("measurements", 0, "samples", value=["1"]), r"samples\[0\]"),
        (_set("measurements", 0, "unit", value="ms"), "unit"),
        (_set("measurements", 0, "run", value=0), "run"),
        (_set("measurements", 0, "run", value=True), "run"),
        (_set("measurements", 0, "wrong", value=1), "wrong"),
        (_set("ceilings", 0, "samples", value=None), "samples"),
        (_set("pieces", 0, "before", value={"load": 1}), "load"),
        (_set("quality", 0, "psnr", value="31"), "psnr"),
    ],
)
def test_wrong_forms_are_named(
    record: Record, tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    content = asdict(record)
    change(content)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=message):
        records.load(path)


def test_not_json(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(RecordError, match="not JSON"):
        records.load(tmp_path / "r.json")


def test_a_group_is_replaced_whole(record: Record) -> None:
    new = Measurement("network", "Compact x4", "240x136", "srfast", "s", [0.5], 2)
    record.add([new])
    runs = [(m.contender, m.run) for m in record.measurements if m.suite == "network"]
    assert runs == [("srfast", 1), ("eager fp32 NCHW", 1), ("srfast", 2)]


def test_another_machine_is_refused(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    records.save(record, path)
    with pytest.raises(RecordError, match="not of this machine"):
        records.open_record(path)


def test_this_machine() -> None:
    """The description is stable, names the file, and a new record of it has the form."""
    here = machine.describe()
    assert here == machine.describe()
    assert here["cores"] >= 1
    name = machine.slug(here)
    assert name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert records.default_path().name.endswith(f"{name}.json")


def test_committed_records_have_the_form() -> None:
    for path in records.FOLDER.glob("*.json"):
        taken = records.load(path)
        assert not taken.notes.get("dry_run"), path
        assert machine.slug(taken.machine) == path.stem[11:], "the file is named after another machine"
        assert taken.commits(), path
