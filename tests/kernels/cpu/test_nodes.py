"""Nodes other than convolutions on the compiled CPU kernels against plain torch in float64, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from srfast.backends.cpu import CpuBackend
from srfast.backends.cpu import schedule as cpu_schedule
from srfast.backends.cpu.lower import lowered, tail_after_shuffle
from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.engine import Engine
from srfast.kernels import cpu
from srfast.kernels.cpu.classes import VARIABLE
from srfast.models import SRUGAN, ResidualSR, SRResNet
from srfast.plan import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Clamp,
    Concat,
    Conv,
    GroupNorm,
    InstanceNorm,
    Multiply,
    Node,
    PixelNorm,
    Plan,
    Pool,
    Resize,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
)
from srfast.plan.passes import optimise

pytestmark = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason=str(cpu.unavailable_reason()))
CPU = torch.device("cpu")


def _randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


# Nodes that read x of 12 channels, and a second activation z of one or 12.
NODES: dict[str, Callable[[], Node]] = {
    "affine": lambda: Affine("y", "x", _randn(12), _randn(12)),
    "affine_shared": lambda: Affine("y", "x", torch.tensor([0.5]), torch.tensor([3.0])),
    "prelu": lambda: Activate("y", "x", "prelu", _randn(12)),
    "tanh": lambda: Activate("y", "x", "tanh"),
    "sigmoid": lambda: Activate("y", "x", "sigmoid"),
    "silu": lambda: Activate("y", "x", "silu"),
    "gelu": lambda: Activate("y", "x", "gelu"),
    "mish": lambda: Activate("y", "x", "mish"),
    "clamp": lambda: Clamp("y", "x", -0.5, 1.0),
    "add": lambda: Add("y", "x", "x"),
    "multiply": lambda: Multiply("y", "x", "x"),
    "concat": lambda: Concat("y", "x", ("x", "x")),
    "slice": lambda: Slice("y", "x", 3, 5),
    "first_channel": lambda: Slice("y", "x", 0, 1),
    "shuffle": lambda: Shuffle("y", "x", 2),
    "unshuffle": lambda: Unshuffle("y", "x", 2),
    "unshuffle3": lambda: Unshuffle("y", "x", 3),
    "average_pool": lambda: Pool("y", "x", 2, "average"),
    "max_pool": lambda: Pool("y", "x", 3, "max"),
    "nearest": lambda: Resize("y", "x", 3, "nearest"),
    "bilinear": lambda: Resize("y", "x", 4, "bilinear"),
    "bicubic": lambda: Resize("y", "x", 3, "bicubic"),
    "instance_norm": lambda: InstanceNorm("y", "x", _randn(12), _randn(12), 1e-5),
    "pixel_norm": lambda: PixelNorm("y", "x", _randn(12), _randn(12), 1e-6),
    "group_norm": lambda: GroupNorm("y", "x", _randn(12), _randn(12), 1e-5, 3),
    "one_group": lambda: GroupNorm("y", "x", _randn(12), _randn(12), 1e-5, 1),
    "channel_gate": lambda: ChannelGate("y", "x", _randn(5, 12), _randn(5), _randn(12, 5), _randn(12), _randn(5)),
    "root_mean_square": lambda: PixelNorm("y", "x", _randn(12), _randn(12), 1e-6, centred=False),
    "contrast_gate": lambda: ChannelGate(
        "y", "x", _randn(5, 12), _randn(5), _randn(12, 5), _randn(12), _randn(5), moment="contrast"
    ),
    "hard_gate": lambda: ChannelGate(
        "y", "x", _randn(5, 12), _randn(5), _randn(12, 5), _randn(12), _randn(5), curve="hardsigmoid"
    ),
    "spatial_gate": lambda: SpatialGate("y", "x", _randn(1, 2, 7, 7) / 7, _randn(1)),
}


def _wide(node: Node, channels: int) -> Node:
    """The node for more channels."""
    vectors = {
        k: v.repeat(-(-channels // 12))[:channels]
        for k, v in vars(node).items()
        if isinstance(v, Tensor) and v.shape == (12,)
    }
    fields = vars(node) | vectors
    if isinstance(node, ChannelGate):
        fields |= {"squeeze": _randn(5, channels), "expand": _randn(channels, 5)}
    return type(node)(**fields)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("name", NODES)
def test_nodes_equal_float64(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, isa)
    for channels in (12, 36):
        node = _wide(NODES[name](), channels)
        unit = node.factor if isinstance(node, (Unshuffle, Pool)) else 1
        # Above a pool the result would have fewer pixels than the input: the next node enlarges it again.
        nodes = [node] if unit == 1 else [node, Resize("z", "y", unit, "nearest")]
        plan = Plan(tuple(nodes), "x", nodes[-1].output, channels)
        run = CpuBackend().compile(plan, CPU, torch.float32)
        reference = ReferenceBackend().compile(plan.map_tensors(Tensor.double), CPU, torch.float64)
        for height, width in ((1, 1), (1, 9), (5, 3), (13, 17)):
            x = 2 * _randn(2, channels, height * unit, width * unit)
            expected = reference(x.double())
            error = float((run(x) - expected).abs().max())
            assert error < 3e-6 * max(1.0, float(expected.abs().max())), (channels, height, width, error)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("inset", [(1, 0), (0, 2), (3, 4)])
def test_means_leave_out_an_inset(inset: tuple[int, int], isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, isa)
    node = replace(NODES["channel_gate"](), inset=inset)
    plan = Plan((node,), "x", "y", 12)
    run = CpuBackend().compile(plan, CPU, torch.float32)
    reference = ReferenceBackend().compile(plan.map_tensors(Tensor.double), CPU, torch.float64)
    for height, width in ((8, 9), (13, 17)):
        x = 2 * _randn(2, 12, height, width)
        x[:, :, : inset[0]] = 100  # a wrong mean would show
        assert float((run(x) - reference(x.double())).abs().max()) < 3e-4
    with pytest.raises(ValueError, match="inside"):
        run(torch.zeros(1, 12, sum(inset), 9))


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "silu", "gelu", "mish"])
def test_curves_at_large_values(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, isa)
    plan = Plan((NODES[name](),), "x", "y", 12)
    run, reference = (
        CpuBackend().compile(plan, CPU, torch.float32),
        ReferenceBackend().compile(plan, CPU, torch.float64),
    )
    x = (
        torch.tensor([-1e30, -200.0, -88.5, -1e-3, 0.0, 1e-3, 40.0, 87.4, 88.5, 1e4])
        .view(1, 1, 1, -1)
        .expand(1, 12, 1, -1)
    )
    torch.testing.assert_close(run(x), reference(x.double()).float(), rtol=2e-6, atol=2e-7)
    assert run(torch.full((1, 12, 1, 3), float("nan"))).isnan().all()


class Attentive(nn.Module):
    """Everything between convolutions: gates, pools, concatenation, tanh with a residual, several resizes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = SRUGAN(2, channels=16, growth=8, blocks=1, channel_attention=False)
        self.head = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.head(self.inner(x))) * 0.5 + nn.functional.interpolate(x, scale_factor=2, mode="bicubic")
        return y.clamp(-1, 1)


def _networks() -> dict[str, nn.Module]:
    torch.manual_seed(1)
    return {
        "attentive": Attentive(),
        "ugan": SRUGAN(4, channels=16, growth=16, blocks=1),
        "narrow": SRUGAN(2, channels=6, growth=3, blocks=1),
        "instance": ResidualSR((2, 2), channels=16, num_blocks=2, norm="instance"),
    }


@pytest.mark.parametrize("name", ["attentive", "ugan", "narrow", "instance"])
def test_networks_are_one_program(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node in one call, to the same bits for any threads and strips, and in tiles where tiles are exact."""
    plan = optimise(capture(_networks()[name].eval()))
    x = torch.rand(1, 3, 36, 44)
    run = CpuBackend().compile(plan, CPU, torch.float32)
    expected = ReferenceBackend().compile(plan, CPU, torch.float64)(x.double())
    y = run(x)
    assert (y - expected).abs().max() < 2e-5 * expected.abs().max()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(run(x), y)
    finally:
        torch.set_num_threads(threads)
    if plan.halo() is not None:
        image = x.permute(0, 2, 3, 1).contiguous()
        whole = Engine(plan, tile=0, dtype=torch.float32)(image)
        assert torch.equal(Engine(plan, tile=16, dtype=torch.float32)(image), whole)
    monkeypatch.setattr(cpu_schedule, "CACHED_BYTES", 0)
    for pixels, size in ((1, 1), (400, 1 << 20), (1 << 20, 1 << 14)):
        monkeypatch.setattr(cpu_schedule, "STRIP_PIXELS", pixels)
        monkeypatch.setattr(cpu_schedule, "STRIP_BYTES", size)
        assert torch.equal(CpuBackend().compile(plan, CPU, torch.float32)(x), y)


def test_integers_come_out_of_any_node() -> None:
    plan = Plan((Affine("y", "x", torch.tensor([2.0]), torch.tensor([-20.0])),), "x", "y", 3)
    frames = torch.arange(0, 255, dtype=torch.uint8).view(1, 5, 17, 3)
    y, bad = CpuBackend().compile(plan, CPU, torch.float32).run_frames(frames, 1.0, 255.0)
    assert torch.equal(y, (frames.float() * 2 - 20).clamp(0, 255).byte()) and not bad.any()
    words = (frames.int() * 257).to(torch.uint16)
    y, bad = CpuBackend().compile(plan, CPU, torch.float32).run_frames(words, 255.0 / 65535.0, 255.0)
    assert torch.equal(y.int(), (words.int() * 2 - 20 * 257).clamp(0, 65535)) and not bad.any()
    broken = plan.map_tensors(lambda t: t * float("inf"))
    assert CpuBackend().compile(broken, CPU, torch.float32).run_frames(frames, 1.0, 255.0)[1].all()


@pytest.mark.parametrize("name", ["attentive", "ugan"])
def test_lowering_leaves_what_the_kernels_have(name: str) -> None:
    """Of the first a tanh with a gain and a residual, of the second convolutions of several activations, 1x1 ones too."""
    plan = optimise(capture(_networks()[name].eval()))
    assert lowered(plan, winograd=True).nodes == plan.nodes
    assert lowered(plan, winograd=False).nodes == plan.nodes


def test_a_9x9_tail_goes_back_behind_its_shuffle() -> None:
    torch.manual_seed(0)
    plan = optimise(capture(SRResNet(scale=2, channels=16, num_blocks=1).eval()))
    assert (plan.nodes[-1].kernel, plan.nodes[-1].shuffle) == (5, 2)
    low = tail_after_shuffle(plan)
    last, before = low.nodes[-1], low.nodes[-2]
    assert (last.kernel, last.shuffle, before.shuffle) == (9, 1, 2)
    x = torch.rand(1, 3, 13, 9)
    moved, expected = (ReferenceBackend().compile(p, CPU, torch.float32)(x) for p in (low, plan))
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("change", ["bias", "weight", "slope", "lowp"])
def test_a_tail_that_is_none_stays(change: str) -> None:
    plan = optimise(capture(SRResNet(scale=2, channels=16, num_blocks=1).eval()))
    last, before = plan.nodes[-1], plan.nodes[-2]
    assert isinstance(last, Conv) and isinstance(before, Conv)
    if change == "bias":
        last = replace(last, bias=torch.arange(float(last.bias.numel())))
    elif change == "weight":
        last = replace(last, weight=torch.rand_like(last.weight))
    elif change == "slope":
        before = replace(before, slope=torch.rand(before.weight.shape[0]))
    changed = replace(plan, nodes=(*plan.nodes[:-2], before, last))
    assert tail_after_shuffle(changed, [last.output] if change == "lowp" else []) is changed


def test_what_does_not_fit_is_refused() -> None:
    network = cpu.Network()
    a, b = network.activation(4, input=True), network.activation(3, output=True)
    for operation, options in (
        ("affine", {"tensors": [torch.ones(4), torch.zeros(3)]}),
        ("clamp", {}),
        ("shuffle", {"factor": 0}),
        ("channel_gate", {"tensors": [torch.ones(4)] * 5}),
        ("spatial_gate", {"reach": 3, "tensors": [torch.ones(2, 5, 5), torch.ones(1)]}),
    ):
        with pytest.raises(ValueError, match=r"^operation: .*does not fit"):
            network.node([a], b, operation, **options)
    run = CpuBackend().compile(
        Plan((Pool("y", "x", 2, "max"), Resize("z", "y", 2, "nearest")), "x", "z", 3), CPU, torch.float32
    )
    with pytest.raises(ValueError, match="multiples of 2"):
        run(torch.rand(1, 3, 5, 4))
