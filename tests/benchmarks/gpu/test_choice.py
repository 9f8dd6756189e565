"""From a run's folder to the file that decides. The folders are made up here: no GPU was measured for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from benchmarks.gpu.choice import CONTENDERS, main
from benchmarks.gpu.jobs import BACKENDS as TIMED
from srfast.backends.gpu.choice import choose
from srfast.kernels.configs.networks import BACKENDS, VARIABLE, parse
from srfast.kernels.cuda.config import find_config


def net(what: str, us: float, shape: str = "SRResNet x4", width: int = 480, height: int = 270, **more: Any) -> Any:
    name = f"net {shape} {what} {width}x{height}"
    return {
        "name": name,
        "kind": "net",
        "what": what,
        "shape": shape,
        "width": width,
        "height": height,
        "us": us,
    } | more


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder as two runs leave it."""
    folder = tmp_path / "gpu-run"
    folder.mkdir()
    rows = [
        {"name": "device", "gpu": "GPU X"},
        net("eager", 5000.0),
        net("triton", 4000.0),
        net("gluon", 3000.0),
        net("cuda", 100.0, failed="wrong result"),
        net("mixed", 2000.0),
        net("triton", 2000.0, "Compact x4"),
        {"name": "conv wgmma_held", "kind": "conv", "what": "wgmma_held", "us": 1.0, "width": 480, "height": 270},
    ]
    (folder / "table.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"name": "net cut')
    (folder / "cuda_configs.json").write_text(
        json.dumps({"GPU X": {"conv 3x3 64->64": {"kernel": "wgmma_held", "speedup": 2.5}}})
    )
    return folder


def with_record(folder: Path) -> None:
    taken = record.Record({"gpu": "GPU X"}, {}, "2026-01-02T03:04:05Z")
    times = {"srfast": 9.0, "srfast triton": 0.004, "srfast cuda": 0.001, "eager fp16 channels-last": 0.008}
    times["eager fp16 channels-last, CUDA graph"] = 0.006
    taken.add(
        [
            record.Measurement("network", "SRResNet x4", "480x270", name, "s", [9.0, value, value / 2], 1)
            for name, value in times.items()
        ]
    )
    record.save(taken, folder / "record.json")


def test_of_the_table(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """One command turns the folder into a file that the choice follows, kernels and all."""
    out = tmp_path / "gpu.json"
    assert main([str(run), "--out", str(out)]) == 0
    found = parse(out)
    assert found.gpu == "GPU X"
    (row,) = found.measured
    assert row.seconds == {"triton": 0.004, "gluon": 0.003, "mixed": 0.002, "eager": 0.005}, (
        "wrong and alone do not count"
    )
    assert (row.kind, row.size, row.network) == ("residual", "medium", "SRResNet x4 480x270")
    assert row.source == "table of GPU X"
    assert "residual, medium: SRResNet x4 480x270: triton 4 ms, gluon 3 ms" in capsys.readouterr().out
    monkeypatch.setenv(VARIABLE, str(out))
    choice = choose("residual", ("GPU X", "sm90"), "medium")
    assert choice is not None and choice.way == "mixed"
    assert find_config(("GPU X", "sm90"), 64, 64, 3).kernel == "wgmma_held"


def test_the_record_goes_before_the_table(run: Path, tmp_path: Path) -> None:
    """There contenders took turns; medians count, and of eager PyTorch its fastest form."""
    with_record(run)
    out = tmp_path / "gpu-sm90.json"
    assert main([str(run), "--gpu", "sm90", "--out", str(out)]) == 0
    found = parse(out)
    assert found.gpu == "sm90"
    (row,) = found.measured
    assert row.seconds == {"triton": 0.004, "cuda": 0.001, "eager": 0.006}
    assert row.source == "record of GPU X, 2026-01-02"
    assert found.kernels == {"cuda": {"conv 3x3 64->64": {"kernel": "wgmma_held", "speedup": 2.5}}}


def test_every_backend_that_a_run_times_is_one_of_the_file() -> None:
    assert set(TIMED) == set(BACKENDS) == set(CONTENDERS.values())


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("table.jsonl", "", "names a GPU"),
        ("table.jsonl", '{"name": "device", "gpu": "GPU X"}', "no network that was right"),
        ("record.json", "{", "is not JSON"),
        ("cuda_configs.json", '{"GPU X": {"conv": {"colonel": "mma"}}}', "has no 'colonel'"),
        ("cuda_configs.json", "{", "Expecting"),
        ("configs.json", '{"GPU X": {"conv 3x3 64->64": {"tile_h": 3}}}', "powers of two"),
    ],
)
def test_what_is_no_run(run: Path, tmp_path: Path, capsys: Any, name: str, text: str, says: str) -> None:
    """What existed stays as it was."""
    (run / name).write_text(text)
    out = tmp_path / "gpu.json"
    out.write_text("before")
    assert main([str(run), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1
    assert out.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu-run", "gpu.json"]
