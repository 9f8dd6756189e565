"""Gated sums as one operation, against plain torch in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srfast.backends.cpu import CpuBackend
from srfast.backends.cpu.gates import GatedSum, with_gated_sums
from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.kernels import cpu
from srfast.models import SPAN
from srfast.plan import Activate, Add, Affine, Concat, Conv, Multiply, Node, Plan
from srfast.plan.nodes import Act
from srfast.plan.passes import optimise

pytestmark = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason=str(cpu.unavailable_reason()))
CPU = torch.device("cpu")


def _randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _plan(channels: int, act: Act = "sigmoid", shift: float = -0.5, swapped: bool = False, **more: Node) -> Plan:
    """``(x + y) * (act(y) + shift)`` with y = conv(x), and ``more`` in place of operations of the same names."""
    term, gate = ("y", "x") if swapped else ("x", "y"), "shifted" if shift else "curve"
    factors = (gate, "sum") if swapped else ("sum", gate)
    nodes: list[Node] = [
        Conv("y", "x", _randn(channels, channels, 3, 3) / channels, _randn(channels)),
        Activate("curve", "y", act),
        *([Affine("shifted", "curve", torch.ones(1), torch.tensor([shift]))] if shift else []),
        Add("sum", *term),
        Multiply("z", *factors),
    ]
    return Plan(tuple(more.pop(node.output, node) for node in nodes) + tuple(more.values()), "x", "z", channels)


def _assert_equal_to_float64(plan: Plan, path: str, channels: int) -> None:
    run = CpuBackend(path=path).compile(plan, CPU, torch.float32)
    reference = ReferenceBackend().compile(plan.map_tensors(Tensor.double), CPU, torch.float64)
    for height, width in ((1, 1), (1, 9), (5, 3), (13, 17)):
        x = 2 * _randn(2, channels, height, width)
        torch.testing.assert_close(run(x), reference(x.double()).float(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("path", cpu.instruction_sets())
@pytest.mark.parametrize("act", ["tanh", "sigmoid", "silu", "gelu", "mish"])
@pytest.mark.parametrize(("channels", "shift", "swapped"), [(48, -0.5, False), (5, 0.0, True), (20, 1.5, True)])
def test_a_gated_sum(act: Act, channels: int, shift: float, swapped: bool, path: str) -> None:
    plan = _plan(channels, act, shift, swapped)
    assert [type(node) for node in with_gated_sums(plan).nodes] == [Conv, GatedSum]
    _assert_equal_to_float64(plan, path, channels)


@pytest.mark.parametrize(
    "other",
    [
        {"sum": Add("sum", "x", "x")},  # its curve is of something else
        {"curve": Activate("curve", "y", "prelu", torch.tensor([0.25]))},
        {"shifted": Affine("shifted", "curve", torch.full((1,), 2.0), torch.zeros(1))},
        {"shifted": Affine("shifted", "curve", torch.ones(1), _randn(48))},
        {"y": Activate("y", "x", "tanh"), "z": Multiply("z", "sum", "y")},
    ],
)
def test_what_is_none_stays(other: dict[str, Node]) -> None:
    plan = _plan(48, **other)
    assert not any(isinstance(node, GatedSum) for node in with_gated_sums(plan).nodes)
    _assert_equal_to_float64(plan, cpu.default_instruction_set(), 48)


@pytest.mark.parametrize("name", ["curve", "shifted", "sum"])
def test_what_somebody_else_reads_stays(name: str) -> None:
    plan = _plan(48)
    plan = Plan((*plan.nodes, Concat("both", "z", (name,))), "x", "both", 48)
    assert not any(isinstance(node, GatedSum) for node in with_gated_sums(plan).nodes)
    _assert_equal_to_float64(plan, cpu.default_instruction_set(), 48)


def test_span_has_one_in_each_block() -> None:
    torch.manual_seed(0)
    plan = with_gated_sums(optimise(capture(SPAN(num_blocks=3).eval())))
    assert sum(isinstance(node, GatedSum) for node in plan.nodes) == 3
    assert not any(isinstance(node, (Multiply, Add, Activate)) for node in plan.nodes)
