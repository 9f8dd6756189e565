"""Contenders compute the same thing, a wrong one is left out, and a missing one is named."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import loops, peers
from benchmarks import record as records
from benchmarks.contenders import EAGER, OURS, Contender, _configured, contenders, eager_run, reference_run, srfast_run
from benchmarks.sampling import Gate, Run
from benchmarks.session import Session, difference
from benchmarks.subjects import NETWORKS, OPERATIONS, Subject
from srfast.kernels.cuda import config as cuda_config
from srfast.models import SRVGGNetCompact
from srfast.upscaler import Upscaler

TINY = Subject("tiny", lambda: SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2))


def wrong(module: nn.Module, x: Tensor) -> Run:
    return lambda: module(x) + 1


def absent(module: nn.Module, x: Tensor) -> Run:
    raise peers.MissingError("not installed: no module")


def broken(module: nn.Module, x: Tensor) -> Run:
    raise RuntimeError("no kernel image")


def test_compare(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    session = Session(path, (1, 2), 0.0, 10.0, Gate(None), torch.device("cpu"), least=2, without="torch.compile")
    ways = [
        Contender(OURS, partial(srfast_run, dtype=torch.float32)),
        Contender(EAGER, partial(eager_run, dtype=torch.float32, last=False)),
        Contender("reference", reference_run),
        Contender("wrong", wrong),
        Contender("absent", absent),
        Contender("broken", broken),
        Contender("torch.compile", absent),
    ]
    found = session.compare("network", TINY, (13, 7), ways, None)
    assert [(m.contender, m.run) for m in found] == [(n, run) for run in (1, 2) for n in (OURS, EAGER, "reference")]
    saved = records.load(path)
    assert [(m.contender, m.run) for m in saved.measurements] == [(m.contender, m.run) for m in found]
    reasons = {name.split(" (")[0]: reason for name, reason in saved.missing.items()}
    assert reasons["absent"] == "not installed: no module"
    assert "no kernel image" in reasons["broken"]
    assert "wrong result" in reasons["wrong"]
    assert "left out by --without" in reasons["torch.compile"]
    facts = saved.measurements[0].facts
    assert facts["flop"] == 2 * (3 * 8 * 9 + 8 * 8 * 9 + 8 * 12 * 9) * 13 * 7
    assert saved.pieces[0].name == "network: tiny 13x7"


def test_the_gate_is_held_while_something_is_timed(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    free: list[bool] = []

    def watching(module: nn.Module, x: Tensor) -> Run:
        def run() -> Tensor:
            free.append(subprocess.run(["flock", "-n", str(lock), "true"]).returncode == 0)
            result: Tensor = module(x)
            return result

        run()
        return run

    session = Session(None, (1,), 0.0, 10.0, Gate(f"flock {lock}"), torch.device("cpu"), least=1)
    session.compare("network", TINY, (5, 5), [Contender(OURS, watching)], None)
    assert free[:2] == [True, True]  # while it is built, and while its result is checked
    assert len(free) > 3
    assert not any(free[2:])


def test_a_failing_srfast_is_no_missing_peer() -> None:
    session = Session(None, (1,), 0.0, 10.0, Gate(None), torch.device("cpu"), least=1)
    with pytest.raises(RuntimeError, match="no kernel image"):
        session.compare("network", TINY, (5, 5), [Contender(OURS, broken)], None)


def test_difference() -> None:
    expected = torch.tensor([1.0, -4.0])
    assert difference(torch.tensor([1.0, -4.0]), expected) == 0
    assert difference(np.array([3.0, -4.0]), expected) == 0.5
    assert difference(torch.tensor([float("nan"), -4.0]), expected) == float("inf")
    assert difference(torch.zeros(3), expected) == float("inf")


def test_names_are_unique() -> None:
    for device in ("cpu", "cuda"):
        names = [c.name for c in contenders(torch.device(device))]
        assert len(set(names)) == len(names)
        assert names[:2] == [OURS, EAGER]
    assert len({s.name for s in (*OPERATIONS, *NETWORKS)}) == len(OPERATIONS) + len(NETWORKS)


@pytest.mark.parametrize(
    ("package", "run"),
    [
        ("openvino", partial(peers.openvino_run, precision="f32", hint="THROUGHPUT")),
        ("onnxruntime", peers.onnxruntime_run),
        ("ncnn", peers.ncnn_run),
    ],
)
def test_peers_agree_or_say_what_is_missing(package: str, run: Any) -> None:
    module, x = TINY.module(), TINY.image(12, 10)
    try:
        __import__(package)
    except ImportError:
        with pytest.raises(peers.MissingError, match="not installed"):
            run(module, x)
        return
    with torch.inference_mode():
        assert difference(run(module, x)(), module(x)) < 1e-4


def test_hand_written_loops_give_the_same_frames() -> None:
    """Real-ESRGAN's padding changes only what is near the bottom and right borders."""
    generator = np.random.default_rng(0)
    frame = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    cpu = torch.device("cpu")
    ours = Upscaler(TINY.module(), device=cpu, dtype=torch.float32)(frame).astype(int)
    plain = loops.eager_frame(TINY.module(), cpu, torch.float32)(frame)
    real = loops.real_esrgan_frame(TINY.module(), cpu, torch.float32)(frame)
    assert np.abs(ours - plain).max() <= 1
    assert real.shape == ours.shape
    assert np.abs(ours - real)[:-12, :-12].max() <= 1


def test_every_backend_is_a_contender_of_its_own_on_gpus() -> None:
    names = {contender.name for contender in contenders(torch.device("cuda"))}
    assert {OURS, EAGER, *(f"{OURS} {name}" for name in ("triton", "gluon", "cuda", "mixed", "trunk"))} <= names


def test_a_named_backend_runs_what_was_measured_or_else_its_own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is set for as long as the plan is compiled, and never where the caller has set it."""
    name = cuda_config.VARIABLE
    monkeypatch.delenv(name, raising=False)
    given = {"default": {"conv": {"kernel": "mma_large", "speedup": 2.0}}}
    with _configured(name, given):
        assert cuda_config.find_config(("default",), 64, 64, 3).kernel == "mma_large"
    assert name not in os.environ
    monkeypatch.setenv(name, "measured.json")
    with _configured(name, given):
        assert os.environ[name] == "measured.json"
    assert os.environ[name] == "measured.json"
