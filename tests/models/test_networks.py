"""The architectures: what their plans compute, and that every part of a plan beyond convolutions is right on odd shapes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from srfast.backends.cpu import CpuBackend
from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.engine import Engine
from srfast.errors import BackendError, InputError, UnsupportedModelError
from srfast.models import SRUGAN, ResidualSR, RRDBNet, digit_srgan, edsr, msrresnet
from srfast.plan import Concat, Conv, Plan
from srfast.plan.passes import optimise
from tests.helpers.networks.small import randomise

FLOAT32 = torch.device("cpu"), torch.float32

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "rrdb_x1": lambda: RRDBNet(scale=1, num_feat=4, num_block=1, num_grow_ch=3),
    "rrdb_x2": lambda: RRDBNet(scale=2, num_feat=4, num_block=2, num_grow_ch=2),
    "rrdb_x2_old": lambda: RRDBNet(scale=2, unshuffle=1, num_feat=4, num_block=1, num_grow_ch=2),
    "rrdb_x3": lambda: RRDBNet(scale=3, num_feat=4, num_block=1, num_grow_ch=2),
    "rrdb_x8": lambda: RRDBNet(scale=8, num_feat=4, num_block=0, num_grow_ch=2),
    "esrgan_plus": lambda: RRDBNet(num_feat=4, num_block=1, num_grow_ch=4, plus=True),
    "msrresnet_x4": lambda: msrresnet(4, channels=6, num_blocks=2),
    "edsr_x3": lambda: edsr(3, channels=6, num_blocks=2, res_scale=0.1),
    "digits": lambda: digit_srgan(2),
    "tanh": lambda: ResidualSR(
        channels=6,
        num_blocks=1,
        head="tanh",
        input_mean=(0.5,) * 3,
        input_std=(0.5,) * 3,
        output_scale=(0.5,),
        output_shift=(0.5,),
    ),
    "clamp_silu": lambda: ResidualSR(
        (2,), channels=6, num_blocks=2, act="silu", head_act="silu", up_act="silu", head="clamp"
    ),
    "instance": lambda: ResidualSR((2,), channels=6, num_blocks=1, norm="instance", act="leaky0.2"),
    "instance_affine": lambda: ResidualSR((2,), channels=6, num_blocks=1, norm="instance_affine", middle="prelu"),
    "separable": lambda: ResidualSR(channels=6, num_blocks=1, act="prelu_channels", separable=True, middle="norm"),
    "upconv": lambda: ResidualSR((2, 2), channels=6, num_blocks=1, nearest=True, up_norm="batch", up_act="relu"),
    "ugan_x4": lambda: SRUGAN(4, channels=4, growth=2, blocks=1),
    "ugan_x2_local": lambda: SRUGAN(2, channels=4, growth=2, blocks=1, channel_attention=False),
}
GLOBAL = {"instance", "instance_affine", "ugan_x4"}


@pytest.fixture(params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def built(name: str) -> nn.Module:
    return randomise(NETWORKS[name]())


def run(plan: Plan, x: torch.Tensor) -> torch.Tensor:
    return ReferenceBackend().compile(plan, x.device, x.dtype)(x)


@pytest.mark.parametrize("blocks", [(1, 1), (2, 3), (5, 3)])
def test_plan_equals_module_in_float64(built: nn.Module, blocks: tuple[int, int]) -> None:
    built = built.double()
    plan = capture(built)
    if "instance" in str(built).lower() and blocks == (1, 1):
        blocks = (2, 1)  # one pixel has no variance; PyTorch refuses it
    x = torch.rand(2, plan.in_channels, *(plan.alignment * n for n in blocks), dtype=torch.float64)
    with torch.no_grad():
        expected = built(x)
    torch.testing.assert_close(run(plan, x), expected, rtol=0, atol=1e-12)
    # optimise() rounds the weights to float32.
    torch.testing.assert_close(run(optimise(plan), x), expected, rtol=0, atol=2e-5)


def test_cpu_backend_in_float32(built: nn.Module) -> None:
    plan = optimise(capture(built))
    x = torch.rand(1, plan.in_channels, plan.alignment * 5, plan.alignment * 3)
    with torch.no_grad():
        expected = built.double()(x.double())
    for backend in (CpuBackend(), CpuBackend(path="onednn")):
        got = backend.compile(plan, *FLOAT32)(x)
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=3e-5)


def test_bfloat16_error_is_at_most_twice_eager(built: nn.Module) -> None:
    plan = optimise(capture(built))
    x = torch.rand(1, plan.in_channels, plan.alignment * 7, plan.alignment * 11).bfloat16()
    with torch.no_grad():
        exact = built.double()(x.double())
        eager = built.bfloat16()(x).double()
    fused = ReferenceBackend().compile(plan, torch.device("cpu"), torch.bfloat16)(x).double()
    assert (fused - exact).square().mean().sqrt() <= 2 * (eager - exact).square().mean().sqrt() + 1e-6


def test_engine_tiles_exactly_or_says_that_it_cannot(name: str, built: nn.Module) -> None:
    plan = optimise(capture(built))
    torch.manual_seed(1)
    images = torch.randint(0, 256, (1, 37, 29, plan.in_channels), dtype=torch.uint8)
    whole = Engine(plan, backend="cpu", dtype=torch.float32, tile=0)(images)
    assert list(whole.shape) == [1, 37 * plan.scale, 29 * plan.scale, plan.out_channels]
    if name in GLOBAL:
        assert plan.halo() is None
        with pytest.raises(BackendError, match="whole image"):
            Engine(plan, backend="cpu", dtype=torch.float32, tile=16)
        return
    tiled = Engine(plan, backend="cpu", dtype=torch.float32, tile=8)
    assert torch.equal(tiled(images), whole)
    assert tiled.statistics.tiles > 1


def test_receptive_field_is_not_too_small(name: str, built: nn.Module) -> None:
    """What lies beyond the halo does not change an aligned block."""
    plan = optimise(capture(built.double()))
    halo, unit, s = plan.halo(), plan.alignment, plan.scale
    if halo is None:
        assert name in GLOBAL
        return
    side = halo + unit
    size = -(-(2 * side + unit) // unit) * unit
    first = -(-side // unit) * unit
    x = torch.rand(1, plan.in_channels, unit, size, dtype=torch.float64)
    y = run(plan, x)[..., first * s : (first + unit) * s]
    other = x.clone()
    other[..., : first - halo] += 3
    other[..., first + unit + halo :] += 3
    assert torch.equal(run(plan, other)[..., first * s : (first + unit) * s], y)


def test_dense_blocks_copy_nothing() -> None:
    plan = optimise(capture(RRDBNet(num_feat=8, num_block=2, num_grow_ch=4)))
    assert not [node for node in plan.nodes if isinstance(node, Concat)]
    convs = [node for node in plan.nodes if isinstance(node, Conv)]
    assert len(convs) == 2 * 3 * 5 + 6
    # Both 0.2s are in the weights, and the block's own identity in the middle tap.
    assert {node.gain for node in convs} == {1.0}


def test_known_sizes() -> None:
    """Parameters and operations by hand, for the published networks."""
    blocks = 23 * 3 * sum(9 * (64 + 32 * i) * (32 if i < 4 else 64) + (32 if i < 4 else 64) for i in range(5))
    rest = 9 * 3 * 64 + 64 + 4 * (9 * 64 * 64 + 64) + 9 * 64 * 3 + 3
    assert sum(p.numel() for p in RRDBNet().parameters()) == blocks + rest == 16_697_987
    assert sum(p.numel() for p in msrresnet().parameters()) == 1_517_571
    assert sum(p.numel() for p in edsr(2, 256, 32, 0.1).parameters()) == 40_729_603


def test_half_precision_rrdbnet_stays_finite() -> None:
    """A deep trunk in bfloat16 and float16 on an image of extremes."""
    torch.manual_seed(0)
    plan = optimise(capture(RRDBNet(num_feat=8, num_block=8, num_grow_ch=4).eval()))
    x = (torch.rand(1, 3, 12, 9) > 0.5).float()
    exact = run(plan, x)
    for dtype in (torch.bfloat16, torch.float16):
        y = run(plan, x.to(dtype))
        assert torch.isfinite(y).all()
        assert (y.float() - exact).abs().max() < 0.05


class Operations(nn.Module):
    """The other operations that capture covers, in an order that no shipped network has."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.strided = nn.Conv2d(8, 6, 4, stride=2, padding=1)
        self.grouped = nn.Conv2d(6, 6, 3, padding=1, groups=3)
        self.transposed = nn.ConvTranspose2d(6, 8, 4, stride=2, padding=1)
        self.pool = nn.AvgPool2d(2)
        self.gelu = nn.GELU()
        self.tail = nn.Conv2d(24, 12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.gelu(self.first(x))
        b = self.transposed(F.silu(self.grouped(self.strided(a))))
        c = F.interpolate(self.pool(a), scale_factor=2, mode="bicubic")
        mixed = torch.cat([a, torch.sub(b, c, alpha=0.5), b * a], 1)
        return F.pixel_shuffle(self.tail(mixed), 2)


def test_other_operations() -> None:
    module = randomise(Operations()).double()
    plan = capture(module)
    assert plan.alignment == 2
    for size in ((2, 2), (6, 10)):
        x = torch.rand(2, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            expected = module(x)
        torch.testing.assert_close(run(plan, x), expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(run(optimise(plan), x), expected, rtol=0, atol=2e-5)


class LoneGate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1))


def test_other_gates_are_named() -> None:
    with pytest.raises(UnsupportedModelError, match="gate"):
        capture(nn.Sequential(nn.Conv2d(3, 3, 1), LoneGate()))


def test_wrong_options_are_named() -> None:
    for make, says in (
        (lambda: ResidualSR(act="swash"), "swash"),
        (lambda: ResidualSR(norm="layer"), "layer"),
        (lambda: ResidualSR(head="sigmoid"), "sigmoid"),
        (lambda: RRDBNet(scale=5), "5"),
        (lambda: SRUGAN(3), "3"),
        (lambda: msrresnet(6), "6"),
    ):
        with pytest.raises(ValueError, match=says):
            make()


def test_wrong_channels_are_named() -> None:
    engine = Engine(optimise(capture(digit_srgan(2))), dtype=torch.float32)
    with pytest.raises(InputError, match=r"\[N, H, W, 1\]"):
        engine(torch.zeros(1, 4, 4, 3, dtype=torch.uint8))
