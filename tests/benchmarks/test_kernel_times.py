"""The timing of CUDA kernels rehearsed over their emulation, and what is decided from times."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks import kernel_times
from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.pack import pack_conv
from srfast.kernels.cuda.pair import pair_launch
from tests.helpers.cuda import emulation as cuda_emulation


@pytest.fixture
def on_the_host(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Everything that is for a GPU stays on the host; every launch runs once and takes a millisecond."""

    def without_device(function: Any) -> Any:
        return lambda *args, **options: function(*args, **{k: v for k, v in options.items() if k != "device"})

    module = cuda_emulation.load(cuda_emulation.build(cuda_emulation.REPOSITORY / "build" / "emulated"))
    before = cuda.use_module(module)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    monkeypatch.setattr(Canvas, "allocate", staticmethod(without_device(Canvas.allocate)))
    monkeypatch.setattr(kernel_times, "pack_conv", without_device(pack_conv))
    monkeypatch.setattr(kernel_times, "milliseconds", lambda run: (run(), 1.0)[1])
    yield
    cuda.use_module(before)


def test_wrong_forms_are_not_timed(on_the_host: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, form: str, **options: Any) -> cuda.Launch:
        return (lambda: None) if form == "pair_wgmma" else pair_launch(*args, form=form, **options)

    assert set(kernel_times._pair(2, 3)["ms"]) == {"two launches", "pair", "pair_wgmma"}
    monkeypatch.setattr(kernel_times, "pair_launch", broken)
    assert set(kernel_times._pair(2, 3)["ms"]) == {"two launches", "pair"}


def test_decisions() -> None:
    rows = [
        {"key": "conv 3x3 64->64", "ms": {"mma": 3.0, "wgmma": 2.0, "wgmma_held": 1.0, "triton": 4.0}},
        {"key": "pair 3x3 64->64, 3x3 ->64", "ms": {"two launches": 2.0, "pair": 4.0, "pair_wgmma": 1.6}},
        {"key": "pair 3x3 64->256, 5x5 ->12", "ms": {"two launches": 2.0}},
    ]
    assert kernel_times.decisions(rows, early=True) == {
        "conv 3x3 64->64": {"kernel": "wgmma_held", "early": True, "speedup": 4.0},
        "pair 3x3 64->64, 3x3 ->64": {"kernel": "pair_wgmma", "early": True, "speedup": 1.25},
    }
