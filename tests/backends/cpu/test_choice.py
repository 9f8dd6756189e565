"""The choice of dtype and kernels on CPUs: by the shipped measurements, and by what ``srfast tune`` wrote."""

from __future__ import annotations

import json
import logging
import os
import re
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import record as records
from srfast.backends import cpu_choices, default_dtype
from srfast.backends.cpu import CpuBackend, tuned
from srfast.backends.cpu.choice import SHIPPED, choose, choose_among
from srfast.backends.cpu.ways import (
    Measurement,
    Way,
    parse_measurements,
    parse_way,
    runnable,
    ways,
)
from srfast.backends.measured import WORTH, network_kind, speedup
from srfast.capture import capture
from srfast.diagnostics.info import collect
from srfast.errors import OutputError
from srfast.kernels import cpu as kernels
from srfast.kernels.configs.networks import KINDS
from srfast.kernels.cpu.classes import CLASSES, real_class, real_vendor
from srfast.models import RRDBNet, SRResNet, SRVGGNetCompact
from srfast.plan import Plan
from srfast.plan.passes import in_units, optimise
from tests.helpers.networks.small import NETWORKS, randomise

CPU = torch.device("cpu")
RECORDS = Path(records.__file__).parent / "records"
FLOAT, BFLOAT = torch.float32, torch.bfloat16
HERE = f"{real_vendor()} {real_class()}"


def plan_of(name: str) -> Plan:
    return optimise(capture(randomise(NETWORKS[name]())))


def row(kind: str = "plain", cpu: str = HERE, **ms: float) -> Measurement:
    return Measurement(cpu, kind, "a network", {name.replace("_", " "): value for name, value in ms.items()}, "a test")


@pytest.fixture
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's choice would lie; no CPU is pretended."""
    monkeypatch.delenv("SRFAST_CPU", raising=False)
    monkeypatch.setenv("SRFAST_TUNED", str(tmp_path / "settings" / "cpu.json"))
    return tmp_path / "settings" / "cpu.json"


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        (SRVGGNetCompact(num_feat=16, num_conv=2, upscale=4), "plain"),
        (SRResNet(4, channels=16, num_blocks=2), "residual"),
        (RRDBNet(num_feat=16, num_grow_ch=16, num_block=1), "dense"),
    ],
    ids=["compact", "srresnet", "rrdbnet"],
)
def test_kinds(network: torch.nn.Module, kind: str) -> None:
    plan = optimise(capture(network.eval()))
    assert network_kind(plan) == network_kind(in_units(plan, 255.0, 255.0)) == kind


@pytest.mark.parametrize(
    ("name", "words", "bfloat"),
    [
        ("none", "float32 portable", "onednn"),
        ("avx2", "float32 avx2", "onednn"),
        ("intel:avx512", "float32 avx512", "onednn"),
        ("amd:avx512_bf16", "float32 avx512", "avx512_bf16"),
        ("intel:avx512_bf16", "float32 avx512", "avx512_bf16"),
        ("amx", "bfloat16 onednn", "onednn"),
    ],
)
def test_shipped_choice(monkeypatch: pytest.MonkeyPatch, name: str, words: str, bfloat: str) -> None:
    monkeypatch.setenv("SRFAST_CPU", name)
    for kind in KINDS:
        assert str(choose(kind).way) == words
        assert choose(kind).reason
        assert choose(kind, FLOAT).way.dtype == FLOAT
        assert choose(kind, BFLOAT).way == Way(BFLOAT, bfloat)
    assert default_dtype(CPU) == parse_way(words).dtype


def test_shipped_choice_is_never_slower_than_what_was_measured() -> None:
    """Of the table's own numbers, by at most what a change is worth."""
    measured = parse_measurements(json.loads(SHIPPED.read_text())["measured"])
    for cpu in {m.cpu for m in measured}:
        for kind in KINDS:
            rows = [m for m in measured if m.cpu == cpu and m.kind == kind]
            found = choose_among(ways(cpu.split()[1]), rows, kind)
            assert found is not None
            assert all(speedup(parse_way(name), found.way, rows) <= WORTH for m in rows for name in m.ms)


def test_numbers_from_records_are_the_records() -> None:
    """Medians of all samples, in milliseconds; oneDNN stands there as plain PyTorch."""
    contenders = {"float32 avx512": "srfast", "float32 onednn": "eager fp32 channels-last"}
    seen = 0
    for m in parse_measurements(json.loads(SHIPPED.read_text())["measured"]):
        if not m.source.startswith("record "):
            continue
        record = records.load(RECORDS / f"{m.source.removeprefix('record ').partition(',')[0]}.json")
        subject, _, case = m.network.rpartition(" ")
        for way, ms in m.ms.items():
            samples = [
                sample
                for one in record.measurements
                if (one.suite, one.subject, one.case, one.contender) == ("network", subject, case, contenders[way])
                for sample in one.samples
            ]
            assert ms == pytest.approx(1000 * statistics.median(samples), abs=0.06)
            seen += 1
    assert seen


def test_a_later_way_must_be_worth_it() -> None:
    exact, fast = Way(FLOAT, "avx512"), Way(BFLOAT, "onednn")
    for ms, best in ((100 / 1.04, exact), (100 / 1.06, fast), (101, exact)):
        found = choose_among([exact, fast], [row(float32_avx512=100, bfloat16_onednn=ms)], "plain")
        assert found is not None and found.way == best
    # Of the kind's own networks where there are some, else of all; the mean is one of ratios.
    rows = [
        row("dense", float32_avx512=10, bfloat16_onednn=5),
        row("plain", float32_avx512=100, bfloat16_onednn=200),
        row("plain", float32_avx512=1, bfloat16_onednn=0.4),
    ]
    assert speedup(fast, exact, rows[1:]) == pytest.approx((0.5 * 2.5) ** 0.5)
    for kind, best in (("dense", fast), ("plain", fast), ("residual", fast)):
        found = choose_among([exact, fast], rows, kind)
        assert found is not None and found.way == best
    assert choose_among([exact, fast], [row(float32_avx512=100)], "plain") is None


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("dtype", [FLOAT, BFLOAT], ids=str)
def test_every_class_computes_here(monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype) -> None:
    """With instructions that this CPU may lack: its own kernels, and bfloat16 as the hardware would round it."""
    monkeypatch.setenv("SRFAST_CPU", name)
    for network in ("srresnet_x2", "compact_x4", "edsr_x2"):
        module = randomise(NETWORKS[network]())
        plan = optimise(capture(module))
        if dtype == BFLOAT and name not in ("avx512_bf16", "amx"):
            assert "neither AVX512-BF16 nor AMX" in CpuBackend().not_supported_reasons(plan, CPU, dtype)[0]
            continue
        assert not CpuBackend().not_supported_reasons(plan, CPU, dtype)
        x = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(0)).to(dtype)
        y = CpuBackend().compile(plan, CPU, dtype)(x)
        expected = module(x.float()).detach()
        assert y.dtype == dtype
        error = float((y.float() - expected).abs().max() / expected.abs().max())
        assert error < (1e-5 if dtype == FLOAT else 0.04)
        assert dtype == FLOAT or error > 1e-4  # it was bfloat16


def test_kernels_that_stand_for_others() -> None:
    for way in ways("amx"):
        here = runnable(way)
        assert here.dtype == way.dtype
        assert here.path == "onednn" or here.path in (*kernels.instruction_sets(), "avx512_bf16", "amx")
        assert runnable(here) == here


def test_a_path_by_name() -> None:
    plan, x = plan_of("compact_x4"), torch.rand(1, 3, 9, 11)
    for path in (*kernels.instruction_sets(), "onednn"):
        run: Any = CpuBackend(path=path).compile(plan, CPU, FLOAT)
        assert run.path == path or run.path.startswith("oneDNN")
        torch.testing.assert_close(run(x), CpuBackend().compile(plan, CPU, FLOAT)(x), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="there are onednn, "):
        CpuBackend(path="sse9")


def test_user_file(user_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Obeyed until it is deleted, for its kind alone where others were measured too, and named where it decides."""
    if real_class() == "none":
        pytest.skip("there is nothing to choose from on this CPU")
    best, usual = ways(real_class())[0], choose("plain", FLOAT)
    slow = {f"float32 {best.path}": 20.0, "float32 onednn": 10.0}
    rows = [Measurement(HERE, "plain", "a network", slow, "a test")]
    rows.append(Measurement(HERE, "dense", "another", {k: 30 - v for k, v in slow.items()}, "a test"))
    assert tuned.save(rows) == user_file
    assert choose("plain", FLOAT).way == Way(FLOAT, "onednn")
    assert str(user_file) in choose("plain", FLOAT).reason
    assert choose("dense", FLOAT).way == best
    assert choose("plain", FLOAT, user=False) == usual
    assert cpu_choices()["plain"].way.dtype == FLOAT
    with caplog.at_level(logging.INFO, "srfast"):
        run: Any = CpuBackend().compile(plan_of("compact_x4"), CPU, FLOAT)
    assert run.path.startswith("oneDNN")
    assert f"float32 through oneDNN: float32 {best.path} takes 2.00 times as long" in caplog.text
    assert collect().cpu["tuned"] == f"by {user_file}"
    assert tuned.delete() == user_file
    assert choose("plain", FLOAT) == usual
    assert tuned.delete() is None
    assert "shipped choice counts" in collect().cpu["tuned"]


def test_a_pretended_cpu_does_not_obey_the_file(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.save([row(float32_avx2=20, float32_onednn=1)])
    monkeypatch.setenv("SRFAST_CPU", "avx2")
    assert choose("plain").way == Way(FLOAT, "avx2")
    assert "as SRFAST_CPU is set" in collect().cpu["tuned"]


GOOD = {
    "format": "srfast tune 1",
    "machine": tuned.machine(),
    "measured": [asdict(row(float32_avx2=1, float32_onednn=2))],
}


def changed(**fields: Any) -> bytes:
    return json.dumps(GOOD | fields).encode()


def measured(**fields: Any) -> bytes:
    return changed(measured=[{**GOOD["measured"][0], **fields}])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (changed()[:-9], "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[" * 100_000, "damaged|recursion"),
        (b"[]", "nothing that this version"),
        (changed(format="srfast tune 9"), "nothing that this version"),
        (changed(machine={"cpu": "Z80\x1b[31m\n", "class": "zilog none"}), r"it is of Z80\\x1b\[31m\\n \(zilog none\)"),
        (changed(machine="mine"), "unknown machine"),
        (changed(measured=[]), "no measurements"),
        (changed(measured=[1]), "has the fields"),
        (measured(kind="round"), "a kind of plain"),
        (measured(cpu=3), "vendor and class"),
        (measured(ms={"float32 sse9": 1}), "no way to run"),
        (measured(ms={"float32 avx2": 0}), "positive"),
        (measured(ms={"float32 avx2": float("nan")}), "positive"),
        (measured(ms={"float32 avx2": True}), "positive"),
        (measured(ms={}), "by the way"),
        (b" " * (1 << 20) + changed(), "too large"),
    ],
)
def test_a_file_that_cannot_be_used(
    user_file: Path, caplog: pytest.LogCaptureFixture, content: bytes, says: str
) -> None:
    """It is named, once, with what helps; the shipped choice counts, and it can be deleted."""
    usual = choose("plain")
    user_file.parent.mkdir()
    user_file.write_bytes(content)
    assert choose("plain") == choose("plain") == usual
    assert len(caplog.records) == 1
    assert str(user_file) in caplog.text and "srfast tune --delete" in caplog.text
    assert caplog.records[0].getMessage().isprintable() and len(caplog.records[0].getMessage()) < 600
    problem = tuned.problem()
    assert problem is not None and collect().cpu["tuned"] == problem
    assert re.search(says, problem), problem
    assert tuned.delete() == user_file
    assert tuned.problem() is None


def test_what_is_no_file(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = choose("plain")
    user_file.mkdir(parents=True)
    assert choose("plain") == usual
    assert "it is no file" in str(tuned.problem())
    with pytest.raises(OutputError, match="cannot delete"):
        tuned.delete()
    with pytest.raises(OutputError, match="folder"):
        tuned.save([row(float32_avx2=1)])
    monkeypatch.setenv("SRFAST_TUNED", "/dev/zero")  # it never ends
    assert choose("plain") == usual
    monkeypatch.setenv("SRFAST_TUNED", os.devnull + "/cpu.json")
    assert choose("plain") == usual and tuned.problem() is None
    with pytest.raises(OutputError, match="folder"):
        tuned.save([row(float32_avx2=1)])


def test_a_write_that_fails_keeps_the_file(user_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.save([row(float32_avx2=1, float32_onednn=2)])
    before = user_file.read_bytes()

    def full(self: Path, text: str, **_: Any) -> int:
        self.write_bytes(text[:20].encode())
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            tuned.save([row(float32_avx2=3)])
    assert user_file.read_bytes() == before
    assert [p.name for p in user_file.parent.iterdir()] == ["cpu.json"]


def test_where_the_file_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SRFAST_TUNED", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert tuned.tuned_path() == tmp_path / "srfast" / "cpu.json"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for relative in ("", "settings"):
        monkeypatch.setenv("XDG_CONFIG_HOME", relative)
        assert tuned.tuned_path() == tmp_path / "home" / ".config" / "srfast" / "cpu.json"
    monkeypatch.setenv("SRFAST_TUNED", "here.json")
    assert tuned.tuned_path() == Path("here.json")
