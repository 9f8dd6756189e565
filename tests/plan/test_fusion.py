"""Capture and passes: the plan computes what the module computes, and is as short as it can be."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.errors import UnsupportedModelError
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.models.subpixel import conv_after_shuffle, conv_before_shuffle
from srfast.plan import Conv, Plan
from srfast.plan.passes import fuse, in_units, optimise

SIZES = [(1, 1), (2, 3), (7, 5), (13, 17)]


def run(plan: Plan, x: torch.Tensor) -> torch.Tensor:
    return ReferenceBackend().compile(plan, x.device, x.dtype)(x)


@pytest.mark.parametrize("size", SIZES)
def test_plan_equals_module_in_float64(network: nn.Module, size: tuple[int, int]) -> None:
    network = network.double()
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    plan = capture(network)
    with torch.no_grad():
        expected = network(x)
    torch.testing.assert_close(run(plan, x), expected, rtol=0, atol=1e-12)
    fused = fuse(plan.map_tensors(lambda t: t.double()))
    torch.testing.assert_close(run(fused, x), expected, rtol=0, atol=1e-12)
    # optimise() rounds its result to float32 once.
    torch.testing.assert_close(run(optimise(plan), x), expected, rtol=0, atol=2e-5)


def test_units_fold_into_the_weights(network: nn.Module) -> None:
    network = network.double()
    plan = in_units(optimise(capture(network)), 255.0, 1023.0)
    x = torch.rand(1, 3, 9, 7, dtype=torch.float64)
    with torch.no_grad():
        expected = network(x).clamp(0, 1) * 1023
    torch.testing.assert_close(run(plan, x * 255).clamp(0, 1023), expected, rtol=0, atol=2e-2)


def test_srresnet_fuses_to_one_convolution_a_layer() -> None:
    plan = optimise(capture(SRResNet(4)))
    assert len(plan.nodes) == 1 + 2 * 16 + 1 + 2 + 1
    assert all(isinstance(node, Conv) for node in plan.nodes)
    tail = plan.nodes[-1]
    assert isinstance(tail, Conv)
    assert (list(tail.weight.shape), tail.shuffle, tail.clamp) == ([12, 256, 5, 5], 2, (0.0, 1.0))


def test_compact_fuses_to_convolutions_and_the_base() -> None:
    plan = optimise(capture(SRVGGNetCompact()))
    assert [type(node).__name__ for node in plan.nodes] == ["Conv"] * 17 + ["Resize", "Conv"]


def test_receptive_field_is_the_true_one(network: nn.Module) -> None:
    """Changing the input beyond the halo changes nothing; the network's true reach is not smaller."""
    plan = optimise(capture(network.double()))
    halo, s = plan.halo(), plan.scale
    size = 2 * halo + 5
    x = torch.rand(1, 3, 1, size, dtype=torch.float64)
    middle = size // 2
    y = run(plan, x)[..., middle * s : (middle + 1) * s]
    for distance, same in ((halo + 1, True), (halo, False)):
        other = x.clone()
        other[..., middle + distance :] = torch.rand_like(other[..., middle + distance :]) * 7
        other[..., : middle - distance + 1] = torch.rand_like(other[..., : middle - distance + 1]) * 7
        z = run(plan, other)[..., middle * s : (middle + 1) * s]
        assert torch.equal(y, z) == same, (distance, halo)


@pytest.mark.parametrize(("network_scale", "halo"), [(SRResNet(4), 40), (SRVGGNetCompact(), 18)])
def test_known_receptive_fields(network_scale: nn.Module, halo: int) -> None:
    assert capture(network_scale).halo() == halo
    assert optimise(capture(network_scale)).halo() == halo


def test_flops_are_those_of_the_layers() -> None:
    # 143.7 GFLOP at 240x135 by hand: 33 trunk layers, input, two upsamplings, 9x9 output at 16 times the pixels.
    macs = 243 * 64 + 33 * 9 * 64 * 64 + 9 * 64 * 256 * (1 + 4) + 16 * 81 * 64 * 3
    assert capture(SRResNet(4)).flops(135, 240) == 2 * macs * 135 * 240


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5, 9])
def test_convolution_moves_before_the_shuffle(kernel: int, factor: int) -> None:
    torch.manual_seed(kernel * factor)
    x = torch.rand(2, 2 * factor**2, 4, 5, dtype=torch.float64)
    weight = torch.randn(3, 2, kernel, kernel, dtype=torch.float64)
    expected = F.conv2d(F.pixel_shuffle(x, factor), weight, padding=kernel // 2)
    moved = conv_before_shuffle(weight, factor)
    got = F.pixel_shuffle(F.conv2d(x, moved, padding=moved.shape[-1] // 2), factor)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    back = conv_after_shuffle(moved, factor)
    assert back is not None
    edge = (back.shape[-1] - kernel) // 2
    assert torch.equal(back, F.pad(weight, (edge, edge, edge, edge)))
    moved[-1, -1, 0, 0] += 1
    assert conv_after_shuffle(moved, factor) is None


class Tail(nn.Module):
    """A user's own module: value ranges, a gain, an in-place clamp, functional calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.slopes = nn.PReLU(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 12, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x * 2 - 1
        y = self.slopes(self.first(x))
        y = y + F.leaky_relu(self.second(y), 0.1) * 0.2
        y = F.pixel_shuffle(torch.tanh(self.last(y)), 2)
        y = (y + 1) / 2
        y.clamp_(0.1, 0.9)
        return y


def test_a_users_module() -> None:
    torch.manual_seed(3)
    module = Tail().double().eval()
    x = torch.rand(1, 3, 6, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = module(x)
    torch.testing.assert_close(run(capture(module), x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(run(optimise(capture(module)), x), expected, rtol=0, atol=1e-6)


class Softmaxed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.conv(x), 1)


@pytest.mark.parametrize(
    ("module", "named"),
    [
        (Softmaxed(), "softmax"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Softplus()), "Softplus"),
        (nn.Sequential(nn.Conv2d(3, 3, 3)), "1 and 1 pixels less"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, stride=2, padding=1)), "1/2 pixels per input pixel"),
        (nn.Sequential(nn.Conv2d(3, 3, 4, padding="same")), "Conv2d"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Upsample(scale_factor=1.5)), "interpolate"),
    ],
)
def test_uncovered_operations_are_named(module: nn.Module, named: str) -> None:
    with pytest.raises(UnsupportedModelError, match=named):
        capture(module)


def test_capture_leaves_the_module_alone() -> None:
    module = SRResNet(2, channels=4, num_blocks=1).train()
    capture(module)
    assert module.training


def test_the_table_prints() -> None:
    table = str(optimise(capture(SRVGGNetCompact(num_conv=1))))
    assert "conv 3x3 prelu/channel" in table
    assert "receptive field 3 px" in table
