"""Records: everything one machine measured on one day, with every raw sample, as JSON.

A record grows piece by piece: each piece of the suite opens it, replaces what it measured again, and writes it whole. The
form is checked on the way in and out; ``SCHEMA`` changes with it.
"""

from __future__ import annotations

import datetime
import json
import os
import types
import typing
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks import machine

SCHEMA = 1
FOLDER = Path(__file__).parent / "records"


class RecordError(ValueError):
    """A record that does not have the form."""


@dataclass(frozen=True)
class Measurement:
    """Samples of one contender in one case.

    Attributes:
        suite: operation, network, frame, video, growth, startup or waterfall.
        subject: the operation or network.
        case: the size (width x height of the input) or what was varied.
        contender: exactly what ran.
        unit: of the samples: s (seconds for each image or video) or B (bytes).
        samples: in the order they were taken. Contenders of one suite, subject, case and run took turns, so the n-th
            samples of all of them belong together.
        run: 1 for the first pass over the suite, 2 for the second.
        facts: further numbers, as ``flop``, ``bytes``, ``error`` (largest difference from eager float32, of 0..1).
    """

    suite: str
    subject: str
    case: str
    contender: str
    unit: str
    samples: list[float]
    run: int
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, int]:
        """The group whose contenders took turns."""
        return self.suite, self.subject, self.case, self.run

    def check(self) -> None:
        """Raises RecordError where values make no sense."""
        where = f"{self.suite}, {self.subject}, {self.case}, {self.contender}"
        if self.unit not in ("s", "B"):
            raise RecordError(f"unit must be s or B, not {self.unit!r} ({where})")
        if not self.samples or not all(0 < value < 1e15 for value in self.samples):
            raise RecordError(f"samples must be positive numbers, not {self.samples} ({where})")
        if self.run < 1:
            raise RecordError(f"run counts from 1, not {self.run} ({where})")


@dataclass(frozen=True)
class Ceiling:
    """A limit of the machine, measured in the same run: what nothing can exceed by much."""

    name: str
    unit: str  # FLOP/s or B/s
    samples: list[float]
    run: int


@dataclass(frozen=True)
class Quality:
    """Mean PSNR-Y in dB and SSIM-Y of one model over one data set, by precision mode."""

    model: str
    data: str
    mode: str
    images: int
    psnr: float
    ssim: float
    commit: str


@dataclass(frozen=True)
class Piece:
    """When a piece ran, on what commit, and how the machine stood before and after."""

    name: str
    run: int
    started: str
    seconds: float
    commit: str
    before: dict[str, str]
    after: dict[str, str]


@dataclass
class Record:
    """One machine's measurements."""

    machine: dict[str, Any]
    versions: dict[str, str]
    taken: str
    schema: int = SCHEMA
    ceilings: list[Ceiling] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    quality: list[Quality] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    def add(self, measurements: list[Measurement]) -> None:
        """Adds whole groups; a group that is there already is replaced."""
        for measurement in measurements:
            measurement.check()
        keys = {m.key for m in measurements}
        self.measurements = [m for m in self.measurements if m.key not in keys] + measurements

    def commits(self) -> list[str]:
        """Every commit that was measured, first to last."""
        return list(dict.fromkeys(piece.commit for piece in self.pieces))


def now() -> str:
    """UTC, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def new() -> Record:
    """An empty record of this machine."""
    return Record(machine.describe(), machine.versions(), now())


def default_path() -> Path:
    """``records/<date>-<device>.json`` for today and this machine."""
    return FOLDER / f"{now()[:10]}-{machine.slug(machine.describe())}.json"


def open_record(path: Path) -> Record:
    """The record at ``path``, or an empty one.

    Raises:
        RecordError: the file is another machine's or has another form.
    """
    if not path.exists():
        return new()
    record = load(path)
    here = machine.describe()
    if record.machine != here:
        raise RecordError(f"{path} is a record of {record.machine}, not of this machine, {here}; give another file")
    record.versions = machine.versions()
    return record


def load(path: Path) -> Record:
    """Reads and checks a record.

    Raises:
        RecordError: it does not have the form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise RecordError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise RecordError(f"{path} is not a record of schema {SCHEMA}")
    record: Record = _parse(Record, content, path.name)
    for measurement in record.measurements:
        measurement.check()
    return record


def save(record: Record, path: Path) -> None:
    """Writes the record whole or not at all; one measurement a line, so that two records can be compared as text."""
    content = asdict(record)
    parts = []
    for key, value in content.items():
        if isinstance(value, list) and value:
            rows = ",\n".join("  " + json.dumps(_rounded(row)) for row in value)
            parts.append(f' "{key}": [\n{rows}\n ]')
        else:
            parts.append(f' "{key}": {json.dumps(_rounded(value))}')
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    os.replace(partial, path)


def latest(folder: Path = FOLDER) -> dict[str, Path]:
    """The last record of each device, by its file name's device part."""
    return {path.stem[11:]: path for path in sorted(folder.glob("????-??-??-*.json"))}


def _rounded(value: Any) -> Any:
    """Floats to six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return value


def _parse(kind: Any, value: Any, where: str) -> Any:
    """``value`` of JSON as ``kind``: a dataclass, list, dict, str, int, float or Any."""
    if kind is Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and not isinstance(kind, types.GenericAlias) and hasattr(kind, "__dataclass_fields__"):
        hints = typing.get_type_hints(kind)
        names = {f.name for f in fields(kind)}
        if not isinstance(value, dict) or set(value) != names:
            given = sorted(value) if isinstance(value, dict) else value
            raise RecordError(f"{where} must have {sorted(names)}, not {given}")
        return kind(**{name: _parse(hints[name], value[name], f"{where}.{name}") for name in names})
    if origin is list and isinstance(value, list):
        return [_parse(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {str(k): _parse(arguments[1], item, f"{where}.{k}") for k, item in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str) and type(value) is kind:
        return value
    raise RecordError(f"{where} must be {kind}, not {value!r}")
