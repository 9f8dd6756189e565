"""Which backend a plan gets, and what is said about the others. Plans are in float32, on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from srfast.backends import BACKENDS, select_backend
from srfast.backends.base import Candidate
from srfast.capture import capture
from srfast.errors import BackendError
from srfast.plan import Plan
from srfast.plan.passes import optimise

CPU = torch.device("cpu")


def large_kernel() -> Plan:
    """A plan that no CUDA kernel runs."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 16, 11, padding=5), nn.Conv2d(16, 3, 3, padding=1))
    return optimise(capture(network.eval()))


def test_auto_takes_no_plan_apart_for_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Device and dtype rule the GPU's backends out; who asks for one of them by name gets all of its reasons."""
    plan = large_kernel()
    with pytest.raises(BackendError, match=r"not float32.*not 11x11"):
        select_backend(plan, CPU, torch.float32, "cuda")

    def taken_apart(plan: Plan) -> Plan:
        raise AssertionError("nothing here runs the CUDA kernels")

    monkeypatch.setattr("srfast.backends.cuda.backend.kernel_plan", taken_apart)
    assert select_backend(plan, CPU, torch.float32).name == "cpu"


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32], ids=str)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_reasons_against_a_device_hold_for_every_plan(backend: Candidate, dtype: torch.dtype, device: str) -> None:
    place = torch.device(device)
    always = backend.device_reasons(place, dtype)
    assert backend.not_supported_reasons(large_kernel(), place, dtype)[: len(always)] == always
