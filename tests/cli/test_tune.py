"""``srfast tune``: what it measures, prints and writes, and that auto obeys it until it is deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from srfast.backends.cpu.choice import choose
from srfast.backends.cpu.ways import Measurement, Way, ways
from srfast.cli import main
from srfast.diagnostics import tuning
from srfast.kernels.configs.networks import KINDS
from srfast.kernels.cpu.classes import real_class
from srfast.models import RRDBNet, SRResNet, SRVGGNetCompact

WAYS = [way for way in ways(real_class()) if way.dtype == torch.float32]
pytestmark = pytest.mark.skipif(len(WAYS) < 2, reason="there is one way only on this CPU")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new user's settings, and networks of which each run takes no time."""
    small = {
        "plain": lambda: SRVGGNetCompact(num_feat=16, num_conv=1, upscale=2),
        "residual": lambda: SRResNet(2, channels=16, num_blocks=2),
        "dense": lambda: RRDBNet(num_feat=16, num_grow_ch=16, num_block=1),
    }
    monkeypatch.setattr(tuning, "NETWORKS", {kind: (f"a {kind} one", small[kind], (20, 14)) for kind in KINDS})
    monkeypatch.delenv("SRFAST_CPU", raising=False)
    monkeypatch.delenv("SRFAST_TUNED")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "srfast" / "cpu.json"


def test_as_a_new_user(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--seconds", "1"]) == 0
    said = capsys.readouterr()
    assert f"written to {place}" in said.out and "against the shipped choice" in said.out
    for kind in KINDS:
        assert f"{kind} (a {kind} one 20x14, " in said.out
        assert str(place) in choose(kind).reason
    assert all(f"{way} " in said.out for way in WAYS)
    assert main(["tune", "--seconds", "1"]) == 0  # again, over the first
    capsys.readouterr()
    assert main(["info"]) == 0
    assert f"by {place}" in capsys.readouterr().out
    assert main(["tune", "--delete"]) == 0
    assert f"{place} is deleted" in capsys.readouterr().out
    assert not place.exists()
    assert main(["tune", "--delete"]) == 0
    assert "no file to delete" in capsys.readouterr().out
    assert all(str(place) not in choose(kind).reason for kind in KINDS)


def test_json_and_nothing_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "--seconds", "1", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] is None and not place.exists()
    assert [m["kind"] for m in found["measured"]] == list(KINDS)
    assert all(set(m["ms"]) >= {str(way) for way in WAYS} for m in found["measured"])


def test_what_is_not_tuned(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SRFAST_CPU", "amx")
    assert main(["tune"]) == 1
    assert "unset it to tune" in capsys.readouterr().err
    for wrong in ("0", "nan", "601", "x"):
        with pytest.raises(SystemExit):
            main(["tune", "--seconds", wrong])
    monkeypatch.delenv("SRFAST_CPU")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/dev/null/here")
    assert main(["tune", "--seconds", "1"]) == 7
    assert "cannot make the folder" in capsys.readouterr().err


class Clock:
    """Time that passes as the ways say."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_median_of_ratios_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slows down meanwhile, and single rounds that go wrong, change nothing."""
    clock, calls = Clock(), dict.fromkeys(map(str, WAYS), 0)

    def runs(self: object, plan: object, device: object, dtype: torch.dtype) -> object:
        way = str(Way(dtype, self.path))  # type: ignore[attr-defined]

        def run(x: torch.Tensor) -> None:
            calls[way] += 1
            slower = 1.3 ** calls[way]  # each round
            clock.now += slower * {"onednn": 0.008}.get(way.split()[1], 0.010) * (50 if calls[way] % 4 == 0 else 1)

        return run

    monkeypatch.delenv("SRFAST_CPU", raising=False)
    monkeypatch.setattr(tuning.CpuBackend, "compile", runs)
    monkeypatch.setattr(tuning, "ways", lambda _: WAYS)
    for found in tuning.tune(3.0, clock):
        assert found.found.way == Way(torch.float32, "onednn")
        ms = found.measurement.ms
        assert ms["float32 onednn"] / ms[str(WAYS[0])] == pytest.approx(0.8, abs=0.01)
        assert found.rounds >= tuning.ROUNDS
        assert isinstance(found.measurement, Measurement)
        assert "found" in str(found) and "shipped" in str(found)
