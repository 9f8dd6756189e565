"""Convolutions on squares that begin elsewhere, against plain torch in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import srfast
from srfast.backends.cpu import CpuBackend
from srfast.backends.cpu.lower import MovedShuffle, MovedUnshuffle, with_moved_squares
from srfast.backends.reference import ReferenceBackend
from srfast.engine import Engine
from srfast.kernels import cpu
from srfast.models.cugan import RealCUGAN
from srfast.models.subpixel import conv_before_unshuffle, transposed_as_conv
from srfast.plan import Conv, Plan, Resize, Unshuffle
from srfast.planning import plan_network

pytestmark = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason=str(cpu.unavailable_reason()))
CPU = torch.device("cpu")
SIZES = ((1, 1), (1, 5), (7, 2), (13, 11))


def _randn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _check(plan: Plan, kind: type, path: str, unit: int = 1) -> None:
    assert sum(isinstance(node, kind) for node in with_moved_squares(plan).nodes) == 1
    run = CpuBackend(path=path).compile(plan, CPU, torch.float32)
    reference = ReferenceBackend().compile(plan.map_tensors(Tensor.double), CPU, torch.float64)
    for height, width in SIZES:
        x = _randn(2, plan.in_channels, height * unit, width * unit)
        torch.testing.assert_close(run(x), reference(x.double()).float(), rtol=0, atol=5e-5)


@pytest.mark.parametrize("path", cpu.instruction_sets())
@pytest.mark.parametrize(("factor", "padding"), [(2, 1), (3, 1), (3, 2)])
def test_stride(factor: int, padding: int, path: str) -> None:
    """A convolution as wide as its stride, whose squares begin ``padding`` pixels before the image."""
    weight = conv_before_unshuffle(_randn(19, 7, factor, factor), factor, padding)
    nodes = (
        Unshuffle("squares", "x", factor),
        Conv("conv", "squares", weight, _randn(19), "prelu", _randn(19)),
        Resize("y", "conv", factor, "nearest"),  # a plan's result has no fewer pixels than its image
    )
    _check(Plan(nodes, "x", "y", 7), MovedUnshuffle, path, factor)


@pytest.mark.parametrize("path", cpu.instruction_sets())
@pytest.mark.parametrize("slopes", ["none", "one", "all"])
@pytest.mark.parametrize(("factor", "padding"), [(2, 1), (3, 1), (3, 2)])
def test_transposed(factor: int, padding: int, slopes: str, path: str) -> None:
    """A transposed convolution as wide as its stride, cut by ``padding`` pixels, with all that can follow it."""
    outputs = 5 * factor**2
    weight = transposed_as_conv(_randn(6, 5, factor, factor), factor, padding)
    slope = {"none": None, "one": _randn(1), "all": _randn(outputs)}[slopes]
    conv = Conv(
        "y",
        "x",
        weight,
        _randn(outputs),
        "none" if slope is None else "prelu",
        slope,
        factor,
        gain=0.5,
        residual="small",
        clamp=(-1.0, 1.5),
    )
    before = Conv("first", "x", _randn(5, 6, 1, 1), _randn(5))
    plan = Plan((before, Resize("small", "first", factor, "nearest"), conv), "x", "y", 6)
    _check(plan, MovedShuffle, path)


@pytest.mark.parametrize("path", cpu.instruction_sets())
@pytest.mark.parametrize("factor", [2, 3])
def test_squares_become_pixels_again(factor: int, path: str) -> None:
    """No activation in memory is as small as the squares; float32 and bytes, whole and in tiles."""
    nodes = (
        Unshuffle("squares", "x", factor),
        Conv("y", "squares", _randn(3 * factor**2, 3 * factor**2, 1, 1), _randn(3 * factor**2), shuffle=factor),
    )
    plan = Plan(nodes, "x", "y", 3)
    run = CpuBackend(path=path).compile(plan, CPU, torch.float32)
    reference = ReferenceBackend().compile(plan.map_tensors(Tensor.double), CPU, torch.float64)
    for height, width in SIZES:
        x = _randn(2, 3, height * factor, width * factor)
        torch.testing.assert_close(run(x), reference(x.double()).float(), rtol=0, atol=5e-5)
    images = torch.randint(0, 256, (1, 23, 29, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    results = [
        Engine(plan, backend=CpuBackend(path=path), device="cpu", dtype=torch.float32, tile=t)(images) for t in (0, 9)
    ]
    assert torch.equal(*results)


def test_dense_kernels_stay() -> None:
    weight = _randn(8, 12, 3, 3)
    nodes = (Unshuffle("a", "x", 2), Conv("b", "a", weight, _randn(8), shuffle=2))
    plan = Plan(nodes, "x", "b", 3)
    assert with_moved_squares(plan).nodes == nodes


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("se", [False, True])
def test_cugan(scale: int, se: bool) -> None:
    """The network that has both kinds, in float32 on the CPU: the module's result, and without gates the same in tiles."""
    torch.manual_seed(5)
    module = RealCUGAN(upscale=scale, se=se).eval()
    plan = plan_network(module)
    assert {MovedShuffle, MovedUnshuffle} <= {type(node) for node in with_moved_squares(plan).nodes}
    x = torch.rand(1, 3, 61, 74, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        expected = module(x)
    got = srfast.compile(module, device="cpu", dtype=torch.float32)(x)
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)
    if not se:
        images = (x.permute(0, 2, 3, 1) * 255).round().byte()
        whole, tiled = (Engine(plan, device="cpu", dtype=torch.float32, tile=tile)(images) for tile in (0, 24))
        assert torch.equal(tiled, whole)
