"""The Triton backend on whole plans against the reference in float64, in the interpreter or on a GPU."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from srfast.backends import select_backend
from srfast.backends.cpu import CpuBackend
from srfast.backends.cuda import CudaBackend
from srfast.backends.gpu.buffers import Canvases
from srfast.backends.triton import TritonBackend
from srfast.backends.triton.program import Program, pack_plan
from srfast.errors import BackendError
from srfast.models import SRResNet
from srfast.plan import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Clamp,
    Concat,
    Conv,
    Depthwise,
    Eager,
    GroupNorm,
    InstanceNorm,
    Multiply,
    PixelNorm,
    Plan,
    Pool,
    Resize,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
)
from srfast.plan.nodes import node_types
from tests.helpers.triton_plans import DEVICE, HALF, NETWORKS, compile_triton, image, network, reference


@pytest.mark.parametrize(
    ("name", "size"), [(name, (3, 5)) for name in NETWORKS] + [(name, (1, 1)) for name in ("srresnet", "compact")]
)
def test_networks(name: str, size: tuple[int, int]) -> None:
    """At most twice the error of plain torch in the same dtype."""
    plan = network(NETWORKS[name])
    size = (plan.alignment * size[0], plan.alignment * size[1])
    x = image(1 if "rrdb" in name else 2, 3, *size)
    expected = reference(plan, x)
    ours = compile_triton(plan)(x.to(DEVICE)).double().cpu()
    assert ours.shape == expected.shape
    allowed = (reference(plan, x, HALF) - expected).abs().max()
    assert (ours - expected).abs().max() <= 2 * allowed + 1e-4


def test_every_node() -> None:
    """One plan with every kind of node, none of them absorbed, and activations that live long."""
    g = torch.Generator().manual_seed(0)
    weight = torch.randn(12, 3, 3, 3, generator=g) * 0.3
    wide = torch.randn(12, 12, 1, 1, generator=g) * 0.3
    nodes = (
        Affine("a", "x", torch.tensor([2.0]), torch.tensor([0.1, -0.2, 0.3])),
        Conv("b", "a", weight, torch.randn(12, generator=g)),
        Activate("c", "b", "prelu", torch.full((12,), 0.1)),
        Conv("d", "c", wide, torch.randn(12, generator=g), residual="b"),
        Add("e", "d", "c"),
        Add("f", "e", "e"),
        Shuffle("g", "f", 2),
        Resize("h", "a", 2, "bicubic"),
        Resize("i", "x", 2, "bilinear"),
        Add("j", "g", "h"),
        Add("k", "j", "i"),
        Activate("l", "k", "tanh"),
        Activate("m", "i", "sigmoid"),
        Add("n", "l", "m"),
        Clamp("o", "n", -0.5, 0.9),
        Concat("p", "o", ("l", "i")),
        Activate("q", "p", "silu"),
        Unshuffle("r", "q", 2),
        Pool("s", "q", 2, "max"),
        Pool("t", "p", 2, "average"),
        Multiply("u", "s", "t"),
        InstanceNorm("v", "u", torch.rand(9, generator=g), torch.randn(9, generator=g), 1e-3),
        ChannelGate("w", "v", torch.randn(2, 9, generator=g), *(torch.ones(s) for s in ((2,), (9, 2), (9,), (1,)))),
        SpatialGate("sg", "w", torch.randn(1, 2, 5, 5, generator=g), torch.tensor([0.3])),
        Conv("one", "sg", torch.randn(1, 9, 1, 1, generator=g), torch.zeros(1), act="sigmoid"),
        Multiply("masked", "sg", "one"),
        Conv("y", "masked", torch.randn(5, 45, 3, 3, generator=g) * 0.05, torch.zeros(5), more=("r",)),
        Activate("z", "y", "gelu"),
        Activate("aa", "y", "mish"),
        Slice("ab", "aa", 1, 4),
        GroupNorm("ac", "ab", torch.rand(4, generator=g), torch.randn(4, generator=g), 1e-3, 2),
        Slice("ad", "z", 0, 4),
        PixelNorm("ae", "ad", torch.rand(4, generator=g), torch.randn(4, generator=g), 1e-3),
        Add("af", "ac", "ae"),
        Depthwise("ag", "af", torch.randn(4, 1, 3, 3, generator=g), torch.randn(4, generator=g), act="silu"),
    )
    plan = Plan(nodes, "x", "ag", 3)
    assert {type(node) for node in nodes} == {*node_types()} - {Eager}
    x = image(1, 3, 5, 6)
    run = compile_triton(plan)
    for seed in range(2):
        x = image(1, 3, 5, 6, seed=seed)
        torch.testing.assert_close(run(x.to(DEVICE)).double().cpu(), reference(plan, x), rtol=2e-2, atol=1e-2)


def test_means_inside_an_inset() -> None:
    g = torch.Generator().manual_seed(3)
    weights = (
        torch.randn(2, 9, generator=g),
        torch.ones(2),
        torch.randn(9, 2, generator=g),
        torch.ones(9),
        torch.ones(1),
    )
    x = image(2, 9, 7, 11)
    got = {}
    for inset in ((0, 0), (1, 3)):
        plan = Plan((ChannelGate("y", "x", *weights, inset=inset),), "x", "y", 9)
        got[inset] = compile_triton(plan)(x.to(DEVICE)).double().cpu()
        torch.testing.assert_close(got[inset], reference(plan, x), rtol=5e-3, atol=1e-3)
    assert (got[0, 0] - got[1, 3]).abs().max() > 0.01


def test_what_only_the_reference_has() -> None:
    """Compiled backends say so, and the CPU backend gives what the reference gives."""
    nodes = (Resize("y", "x", Fraction(3, 2), "bicubic"), Resize("z", "y", 2, "nearest"))
    plan = Plan(nodes, "x", "z", 4)
    for backend in (TritonBackend(interpret=True), CudaBackend()):
        reasons = backend.not_supported_reasons(plan, torch.device("cpu"), torch.float16)
        assert any("resizes by a fraction" in reason for reason in reasons)
    x = torch.randn(2, 4, 6, 10, generator=torch.Generator().manual_seed(4))
    run = CpuBackend().compile(plan, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(run(x).double(), reference(plan, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("last", [Resize("y", "x", 2, "nearest"), Shuffle("y", "x", 2), Clamp("y", "x", 0.2, 0.8)])
def test_plans_without_a_convolution(last: Resize | Shuffle | Clamp) -> None:
    plan = Plan((last,), "x", "y", 4)
    x = image(1, 4, 3, 5)
    torch.testing.assert_close(compile_triton(plan)(x.to(DEVICE)).double().cpu(), reference(plan, x), rtol=1e-3, atol=0)


def test_results_do_not_alias() -> None:
    """A result survives the next call, and the same input gives the same bits after another one."""
    run = compile_triton(network(NETWORKS["srresnet"]))
    first = run(image(1, 3, 4, 5).to(DEVICE))
    copy = first.clone()
    other = run(image(1, 3, 4, 5, seed=1).to(DEVICE))
    assert torch.equal(first, copy)
    assert not torch.equal(first, other)
    for size in ((3, 3), (5, 2), (4, 5)):
        again = run(image(1, 3, *size).to(DEVICE))
    assert torch.equal(again, copy)


def test_bfloat16() -> None:
    plan = network(NETWORKS["compact"])
    x = image(1, 3, 5, 6).bfloat16()
    expected = reference(plan, x)
    ours = compile_triton(plan, torch.bfloat16)(x.to(DEVICE)).double().cpu()
    allowed = (reference(plan, x, torch.bfloat16) - expected).abs().max()
    # Triton's interpreter cuts bfloat16 off where GPUs round: twice the error in each step.
    assert (ours - expected).abs().max() <= (2 if DEVICE.type == "cuda" else 4) * allowed


def test_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With a configuration that asks for it two convolutions are one launch: the same bits."""
    plan = network(NETWORKS["srresnet"])
    x = image(1, 3, 5, 9).to(DEVICE)
    apart = compile_triton(plan)(x)
    entry = {"region_h": 8, "region_w": 16, "chunk": 64, "block_o": 64, "warps": 4, "stages": 2, "swap": False}
    (tmp_path / "pairs.json").write_text(json.dumps({"default": {"pair": entry}}))
    monkeypatch.setenv("SRFAST_TRITON_CONFIGS", str(tmp_path / "pairs.json"))
    steps = pack_plan(plan, ("default",), HALF, DEVICE)
    assert sum(step.pair is not None for step in steps) == 3  # two residual blocks and the tail
    assert steps[-1].pair is not None
    assert torch.equal(compile_triton(plan)(x), apart)
    frames = (image(1, 3, 4, 3) * 255).to(torch.uint8)
    fused, _ = compile_triton(plan).run_frames(frames, 1 / 255, 1.0)
    monkeypatch.delenv("SRFAST_TRITON_CONFIGS")
    assert torch.equal(fused, compile_triton(plan).run_frames(frames, 1 / 255, 1.0)[0])


@pytest.mark.parametrize("name", ["rrdb", "msrresnet", "compact"])
def test_the_tail_is_one_launch_where_asked_for(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last two convolutions of every family."""
    (tmp_path / "pairs.json").write_text(json.dumps({"default": {"pair": {}}}))
    monkeypatch.setenv("SRFAST_TRITON_CONFIGS", str(tmp_path / "pairs.json"))
    last = pack_plan(network(NETWORKS[name]), ("default",), HALF, DEVICE)[-1]
    assert last.first is not None
    assert last.pair is not None


def test_memory_is_reused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of equal convolutions needs two canvases, and residual sums happen in place."""
    plan = network(lambda: SRResNet(scale=2, channels=16, num_blocks=8))
    made, new = [], Canvases.new
    monkeypatch.setattr(Canvases, "new", lambda self, shape: made.append(shape) or new(self, shape))
    Program(plan, pack_plan(plan, ("default",), HALF, DEVICE), (1, 8, 8), HALF, DEVICE)
    # The input, three of the trunk (the long skip, a block's input, its middle), and the tail's.
    assert len(made) <= 5


def test_reasons() -> None:
    plan = network(NETWORKS["compact"])
    reasons = TritonBackend().not_supported_reasons(plan, torch.device("cpu"), torch.float32)
    assert any("not float32" in r for r in reasons)
    assert any("not on cpu" in r for r in reasons)
    if DEVICE.type == "cpu":
        assert select_backend(plan, DEVICE, torch.float32).name == "cpu"
        with pytest.raises(BackendError, match="it runs on GPUs, not on cpu"):
            select_backend(plan, DEVICE, HALF, "triton")


def test_triton_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    reasons = TritonBackend().not_supported_reasons(network(NETWORKS["compact"]), DEVICE, HALF)
    assert any("not installed" in r for r in reasons)
