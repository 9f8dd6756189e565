"""The Triton backend on whole plans against the reference in float64, in the interpreter or on a GPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from srfast.backends import select_backend
from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton import TritonBackend
from srfast.backends.triton_program import Program
from srfast.backends.triton_steps import pack_plan
from srfast.capture import capture
from srfast.engine import Engine
from srfast.errors import BackendError
from srfast.kernels.planes import PlaneColour, load_planes_reference, store_planes_reference
from srfast.models import SRUGAN, ResidualSR, RRDBNet, SRResNet, SRVGGNetCompact, edsr, msrresnet
from srfast.nodes import Node
from srfast.passes import optimise
from srfast.plan import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Clamp,
    Concat,
    Conv,
    InstanceNorm,
    Multiply,
    Plan,
    Pool,
    Resize,
    Shuffle,
    SpatialGate,
    Unshuffle,
)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
HALF = torch.float16


def network(build: Callable[[], nn.Module]) -> Plan:
    torch.manual_seed(0)
    module = build().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_((parameter * 1.5).half().float())
    return optimise(capture(module))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "srresnet": lambda: SRResNet(scale=4, channels=16, num_blocks=2),
    "compact": lambda: SRVGGNetCompact(num_feat=16, num_conv=2, upscale=4),
    "rrdb": lambda: RRDBNet(scale=4, num_feat=16, num_block=1, num_grow_ch=16),
    "rrdb_unshuffled": lambda: RRDBNet(scale=2, num_feat=24, num_block=1, num_grow_ch=8),
    "rrdb_plus": lambda: RRDBNet(scale=4, num_feat=32, num_block=1, num_grow_ch=16, plus=True),
    "msrresnet": lambda: msrresnet(channels=16, num_blocks=2),
    "edsr": lambda: edsr(2, channels=16, num_blocks=2),
    "instance": lambda: ResidualSR((2,), channels=16, num_blocks=1, norm="instance", act="silu", head="tanh"),
    "ugan": lambda: SRUGAN(2, channels=8, growth=8, blocks=1),
}


def image(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).half()


def compile_triton(plan: Plan, dtype: torch.dtype = HALF):  # type: ignore[no-untyped-def]
    backend = TritonBackend(interpret=True)
    assert backend.not_supported_reasons(plan, DEVICE, dtype) == []
    return backend.compile(plan, DEVICE, dtype)


def reference(plan: Plan, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    return ReferenceBackend().compile(plan, torch.device("cpu"), dtype)(x.to(dtype)).double()


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
    )
    plan = Plan(nodes, "x", "z", 3)
    missing = {kind.__name__ for kind in get_args(Node)} - {type(node).__name__ for node in nodes}
    assert not missing
    x = image(1, 3, 5, 6)
    run = compile_triton(plan)
    for seed in range(2):
        x = image(1, 3, 5, 6, seed=seed)
        torch.testing.assert_close(run(x.to(DEVICE)).double().cpu(), reference(plan, x), rtol=2e-2, atol=1e-2)


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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("last", ["convolution", "clamp"])
def test_frames(last: str, dtype: torch.dtype) -> None:
    """Frames through the kernels equal frames converted by torch around the network, up to half a step."""
    plan = network(NETWORKS["srresnet"])
    if last == "clamp":
        plan = Plan((*plan.nodes, Clamp("clamped", plan.output, 0.0, 1.0)), plan.input, "clamped", 3)
    peak = 255 if dtype == torch.uint8 else 65535
    frames = (image(2, 6, 7, 3).double() * peak).round().to(dtype)
    out, flag = compile_triton(plan).run_frames(frames, 1 / peak, 1.0)
    expected = reference(plan, frames.permute(0, 3, 1, 2).double() / peak).permute(0, 2, 3, 1).clamp(0, 1) * peak
    error = (out.double().cpu() - expected).abs()
    assert out.dtype == dtype
    assert int(flag) == 0
    assert float(error.max()) <= 0.5 + 4e-3 * peak


@pytest.mark.parametrize("last", ["convolution", "clamp"])
def test_bgr_frames(last: str) -> None:
    """Channels turned round on both sides by the kernels, with the base that a residual adds among them."""
    plan = network(NETWORKS["compact"])
    if last == "clamp":
        plan = Plan((*plan.nodes, Clamp("clamped", plan.output, 0.0, 1.0)), plan.input, "clamped", 3)
    frames = (image(1, 3, 5, 3) * 255).to(torch.uint8)
    run = compile_triton(plan)
    expected, _ = run.run_frames(frames.flip(3), 1 / 255, 1.0)
    out, _ = run.run_frames(frames, 1 / 255, 1.0, bgr=True)
    assert torch.equal(out, expected.flip(3))


@pytest.mark.parametrize("colour", [PlaneColour(1), PlaneColour(6, True, torch.uint16)])
def test_planes(colour: PlaneColour) -> None:
    """Planes through the kernels equal planes converted in float64 around the network, but for its rounding."""
    plan = network(NETWORKS["compact"])
    rgb = image(1, 3, 4, 6)
    planes = store_planes_reference(rgb, 1.0, colour)
    out, flag = compile_triton(plan).run_planes(planes, 1.0, 1.0)
    y = reference(plan, load_planes_reference(planes, 1.0))
    expected = store_planes_reference(y, 1.0, colour)
    assert int(flag) == 0
    for ours, theirs in ((out.luma, expected.luma), (out.chroma, expected.chroma)):
        error = (ours.double().cpu() - theirs.double()).abs().max() / colour.step
        assert float(error) <= 0.5 + 6e-3 * colour.peak


def test_frames_report_overflow() -> None:
    first = Conv("y", "x", torch.full((3, 3, 3, 3), 6e4), torch.zeros(3))
    plan = Plan((first, Conv("z", "y", torch.ones(3, 3, 1, 1), torch.zeros(3))), "x", "z", 3)
    run = compile_triton(plan)
    for value, found in ((0, 0), (200, 1), (0, 0)):
        _, flag = run.run_frames(torch.full((1, 4, 5, 3), value, dtype=torch.uint8), 1.0, 255.0)
        assert int(flag) == found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_engine(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of frames equal the whole frame to the bit, and are within a step of the reference engine."""
    monkeypatch.setattr("srfast.backends.BACKENDS", (TritonBackend(interpret=True), ReferenceBackend()))
    peak = {torch.uint8: 255, torch.uint16: 65535, torch.float32: 1}[dtype]
    frames = (image(1, 9, 13, 3).double() * peak).to(dtype)
    plan = network(lambda: SRVGGNetCompact(num_feat=16, num_conv=1, upscale=2))
    whole = Engine(plan, backend="triton", device=DEVICE, dtype=HALF, tile=0)(frames)
    tiled = Engine(plan, backend="triton", device=DEVICE, dtype=HALF, tile=5)(frames)
    assert torch.equal(whole, tiled)
    expected = Engine(plan, backend="reference", device="cpu", dtype=torch.float32)(frames)
    error = (whole.double() - expected.double()).abs().max()
    assert float(error) <= max(1.0 if peak == 255 else 0, 4e-3 * peak)


def test_engine_redoes_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srfast.backends.BACKENDS", (TritonBackend(interpret=True), ReferenceBackend()))
    first = Conv("y", "x", torch.full((3, 3, 1, 1), 6e4), torch.zeros(3), act="prelu", slope=torch.ones(3))
    plan = Plan((first, Conv("z", "y", torch.full((3, 3, 1, 1), 2e-6), torch.zeros(3))), "x", "z", 3)
    engine = Engine(plan, backend="triton", device=DEVICE, dtype=HALF)
    out = engine(torch.full((1, 4, 5, 3), 200, dtype=torch.uint8))
    assert engine.statistics.redone == 1
    assert out.unique().tolist() == [216]  # 200 * 3 * 6e4 * 3 * 2e-6


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


def test_memory_is_reused() -> None:
    """A chain of equal convolutions needs two canvases, and residual sums happen in place."""
    plan = network(lambda: SRResNet(scale=2, channels=16, num_blocks=8))
    program = Program(plan, pack_plan(plan, ("default",), HALF, DEVICE), (1, 8, 8), HALF, DEVICE)
    held = {c.data.data_ptr() for c in program._canvases.values()}
    held |= {c.data.data_ptr() for free in program._free.values() for c in free}
    # The input, three of the trunk (the long skip, a block's input, its middle), and the tail's.
    assert len(held) <= 5


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
