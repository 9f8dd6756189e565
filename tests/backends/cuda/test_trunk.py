"""Trunks of plans: which runs of convolutions they are, and that one launch changes no bit of a network's result."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from srfast.backends.cuda import CudaBackend, TrunkBackend
from srfast.backends.cuda.program import pack_plan
from srfast.backends.cuda.trunk import fused_trunks, trunks
from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.config import VARIABLE
from srfast.kernels.cuda.trunk import Layer, trunk_launch
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.plan import Plan
from srfast.plan.passes import optimise

CPU, HALF = torch.device("cpu"), torch.float16
HELD = {"conv 3x3 64->64": {"kernel": "wgmma_held"}}
TRUNK = HELD | {"trunk 3x3 64": {"speedup": 1.2}, "pair 3x3 64->64, 3x3 ->64": {"kernel": "pair_wgmma", "speedup": 1.5}}


pytestmark = pytest.mark.usefixtures("emulated_cuda")


def plan_of(network: nn.Module) -> Plan:
    torch.manual_seed(0)
    for p in network.parameters():
        nn.init.normal_(p, std=0.05)
    return optimise(capture(network.eval()))


def run(plan: Plan, x: Tensor, entries: dict[str, object], file: Path, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    file.write_text(json.dumps({"default": entries}))
    monkeypatch.setenv(VARIABLE, str(file))
    return CudaBackend().compile(plan, CPU, HALF)(x).clone()


class Shared(nn.Module):
    """Five convolutions, of which the second one's result is read again behind the last."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(3, 64, 3, padding=1), *(nn.Conv2d(64, 64, 3, padding=1) for _ in range(5))]
        )
        self.last = nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs[0](x)
        made = [x := torch.relu(conv(x)) for conv in self.convs[1:]]
        return self.last(torch.sigmoid(made[-1]) * made[1])


class Wide(nn.Module):
    """A residual that lies in a wider canvas than the trunk's own, side by side with another's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1) for _ in range(3))
        self.last = nn.Conv2d(128, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = y = self.first(x)
        for conv in self.convs:
            y = torch.relu(conv(y))
        return self.last(torch.cat([x, y], 1))


@pytest.mark.parametrize(
    ("network", "lengths"),
    [
        (lambda: SRResNet(2, channels=64, num_blocks=2), [5]),
        (lambda: SRVGGNetCompact(num_feat=64, num_conv=4, upscale=2), [4]),
        (lambda: SRVGGNetCompact(num_feat=64, num_conv=2, upscale=2), []),
        (lambda: SRVGGNetCompact(num_feat=48, num_conv=4, upscale=2), []),
        (Shared, [3]),
    ],
)
def test_what_is_a_trunk(network: type[nn.Module], lengths: list[int]) -> None:
    found = trunks(plan_of(network()))
    assert [len(run) for run in found] == lengths
    for nodes in found:
        assert all(node.input == before.output for before, node in pairwise(nodes))


def test_off_unless_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(SRResNet(2, channels=64, num_blocks=1))
    assert all(step.trunk is None for step in pack_plan(plan, ("default",), HALF, CPU))
    for speedup, expected in ((0.9, 0), (1.2, 1)):
        file = tmp_path / f"{speedup}.json"
        monkeypatch.setenv(VARIABLE, str(file))
        file.write_text(json.dumps({"default": {"trunk 3x3 64": {"speedup": speedup}}}))
        assert sum(step.trunk is not None for step in pack_plan(plan, ("default",), HALF, CPU)) == expected


def test_a_backend_that_always_has_it() -> None:
    """Without a measurement, for networks with a trunk only; on GPUs ``auto`` takes it where whole networks were faster."""
    plan, backend = plan_of(SRResNet(2, channels=64, num_blocks=2)), TrunkBackend()
    assert backend.not_supported_reasons(plan, CPU, HALF) == []
    assert "not float32" in backend.not_supported_reasons(plan, CPU, torch.float32)[0]
    narrow = plan_of(SRVGGNetCompact(num_feat=48, num_conv=4, upscale=2))
    assert "has no run of three 3x3" in backend.not_supported_reasons(narrow, CPU, HALF)[0]
    steps = pack_plan(plan, ("default",), HALF, CPU, measured_trunks=False)
    assert sum(step.trunk is not None for step in steps) == 1
    x = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(0)).half()
    expected = ReferenceBackend().compile(plan, CPU, torch.float32)(x.float())
    assert float((backend.compile(plan, CPU, HALF)(x) - expected).abs().max()) <= 4e-3 * float(expected.abs().max())


@pytest.mark.parametrize(
    "network",
    [lambda: SRResNet(2, channels=64, num_blocks=2), lambda: SRVGGNetCompact(num_feat=64, num_conv=3, upscale=2), Wide],
)
def test_networks_have_the_same_bits(network: type[nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the canvases lie apart, so that the convolutions are launches of their own."""
    plan = plan_of(network())
    x = torch.rand(2, 3, 6, 9, generator=torch.Generator().manual_seed(0)).half()
    apart = run(plan, x, HELD, tmp_path / "held.json", monkeypatch)
    together = run(plan, x, TRUNK, tmp_path / "trunk.json", monkeypatch)
    steps = pack_plan(plan, ("default",), HALF, CPU)
    assert sum(step.trunk is not None for step in steps) == 1
    assert all(step.fused is None or step.fused.tail is not None for step in steps), (
        "a convolution is in one launch only"
    )
    assert torch.equal(together, apart)


def test_without_room_for_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU whose shared memory is too small the convolutions are launches of their own, and what cannot be says why."""
    plan = plan_of(SRResNet(2, channels=64, num_blocks=1))
    x = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0)).half()
    measured = HELD | {"trunk 3x3 64": {"speedup": 1.2}}
    together = run(plan, x, measured, tmp_path / "trunk.json", monkeypatch)
    (trunk,) = fused_trunks(plan, ("default",), HALF, CPU)
    monkeypatch.setenv("SRFAST_EMULATED_SHARED", "100000")
    assert torch.equal(run(plan, x, measured, tmp_path / "trunk.json", monkeypatch), together)
    steps = pack_plan(plan, ("default",), HALF, CPU)
    assert {node.output for node in trunk.nodes} <= {step.node.output for step in steps}
    assert fused_trunks(plan, ("default",), HALF, CPU) == []
    (reason,) = TrunkBackend().not_supported_reasons(plan, CPU, HALF)
    assert reason.endswith("this GPU has no room for one of them")
    canvases = [Canvas.allocate(1, 64, 5, 7) for _ in range(2)]
    layers = [Layer(canvases[i % 2], canvases[1 - i % 2], canvases[i % 2]) for i in range(len(trunk.nodes))]
    with pytest.raises(ValueError, match="a trunk cannot run here: its blocks of threads wait for each other"):
        trunk_launch(trunk.packed, layers)
