"""Depthwise convolutions of the compiled CPU kernels against torch's grouped convolution in float64, on every instruction set."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.backends.cpu import CpuBackend
from srfast.backends.cpu import schedule as cpu_schedule
from srfast.engine import Engine
from srfast.kernels import cpu
from srfast.kernels.reference import activate
from srfast.plan import Act, Conv, Depthwise, Plan

pytestmark = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason=str(cpu.unavailable_reason()))
CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 9), (7, 1), (2, 3), (5, 8), (13, 21), (4, 33)]


def _randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def _node(channels: int, kernel: int, act: Act = "none", slope: Tensor | None = None) -> Depthwise:
    return Depthwise("y", "x", _randn(channels, 1, kernel, kernel) / kernel, _randn(channels), act, slope)


def _expected(x: Tensor, node: Depthwise) -> Tensor:
    weight, bias = node.weight.double(), node.bias.double()
    y = F.conv2d(x.double(), weight, bias, padding=node.kernel // 2, groups=len(bias))
    return activate(y, node.act, node.slope)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 9, 13])
def test_every_size(kernel: int, isa: str) -> None:
    """Channels that are fewer than a vector, whole vectors, and a part more; images smaller than the kernel."""
    for channels in (2, 3, 16, 17, 44):
        node = _node(channels, kernel)
        run = CpuBackend(path=isa).compile(Plan((node,), "x", "y", channels), CPU, torch.float32)
        for height, width in SIZES:
            x = _randn(2, channels, height, width, seed=1)
            expected = _expected(x, node)
            error = float((run(x) - expected).abs().max())
            assert error < 2e-6 * max(1.0, float(expected.abs().max())), (channels, height, width, error)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
@pytest.mark.parametrize("act", ["prelu", "tanh", "sigmoid", "silu", "gelu", "mish"])
def test_activations(act: Act, isa: str) -> None:
    for channels in (3, 20):
        slopes = [_randn(channels), torch.tensor([0.1])] if act == "prelu" else [None]
        for slope in slopes:
            node = _node(channels, 5, act, slope)
            run = CpuBackend(path=isa).compile(Plan((node,), "x", "y", channels), CPU, torch.float32)
            x = _randn(1, channels, 6, 11, seed=2)
            torch.testing.assert_close(run(x).double(), _expected(x, node), rtol=2e-6, atol=2e-6)


def test_a_value_beyond_the_image_is_not_read() -> None:
    """Rows of another activation lie beside an image's in memory, and there may be anything in them."""
    node = _node(8, 7)
    plan = Plan(
        (Conv("c", "x", _randn(8, 8, 3, 3), _randn(8)), Depthwise("y", "c", node.weight, node.bias)), "x", "y", 8
    )
    run = CpuBackend(winograd=False).compile(plan, CPU, torch.float32)
    x = _randn(1, 8, 9, 10, seed=3)
    run(torch.full_like(x, float("inf")))
    expected = _expected(F.conv2d(x, _randn(8, 8, 3, 3), _randn(8), padding=1), node)
    torch.testing.assert_close(run(x).double(), expected, rtol=1e-5, atol=1e-4)


def _network() -> Plan:
    nodes = (
        Conv("a", "x", _randn(24, 3, 3, 3) / 4, _randn(24), "prelu", torch.tensor([0.2])),
        Depthwise("b", "a", _randn(24, 1, 7, 7) / 7, _randn(24), "mish"),
        Depthwise("c", "b", _randn(24, 1, 5, 5) / 5, _randn(24)),
        Conv("y", "c", _randn(12, 24, 3, 3) / 16, _randn(12), shuffle=2, residual=None),
    )
    return Plan(nodes, "x", "y", 3)


@pytest.mark.parametrize("isa", cpu.instruction_sets())
def test_tiles_threads_and_strips_change_no_bit(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _network()
    assert plan.halo() == 1 + 3 + 2 + 1
    image = torch.rand(1, 37, 45, 3, generator=torch.Generator().manual_seed(4))
    backend = CpuBackend(path=isa)
    whole = Engine(plan, tile=0, dtype=torch.float32, backend=backend)(image)
    assert torch.equal(Engine(plan, tile=16, dtype=torch.float32, backend=backend)(image), whole)
    x = image.permute(0, 3, 1, 2)
    y = backend.compile(plan, CPU, torch.float32)(x)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(backend.compile(plan, CPU, torch.float32)(x), y)
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(cpu_schedule, "CACHED_BYTES", 0)
    for pixels, size in ((1, 1), (400, 1 << 20)):
        monkeypatch.setattr(cpu_schedule, "STRIP_PIXELS", pixels)
        monkeypatch.setattr(cpu_schedule, "STRIP_BYTES", size)
        assert torch.equal(backend.compile(plan, CPU, torch.float32)(x), y)


@pytest.mark.parametrize(("dtype", "white"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_integers_come_out(dtype: torch.dtype, white: int) -> None:
    node = _node(3, 3)
    plan = Plan((node,), "x", "y", 3)
    frames = torch.randint(0, white + 1, (1, 9, 17, 3), generator=torch.Generator().manual_seed(5)).to(dtype)
    y, bad = CpuBackend().compile(plan, CPU, torch.float32).run_frames(frames, 255 / white, 255.0)
    x = frames.permute(0, 3, 1, 2).float() * (255 / white)
    expected = (_expected(x, node).clamp(0, 255) * (white / 255)).permute(0, 2, 3, 1)
    assert float((y.double() - expected).abs().max()) <= (0.5001 if dtype == torch.uint8 else 0.51) and not bad.any()


@pytest.mark.parametrize("isa", cpu.instruction_sets())
def test_what_does_not_fit_is_refused(isa: str) -> None:
    network = cpu.Network(isa)
    a, b = network.activation(4, input=True), network.activation(4, output=True)
    weight, bias = torch.ones(3, 3, 4), torch.ones(4)
    for options in (
        {"curve": "none", "reach": 1, "tensors": [weight]},
        {"curve": "none", "reach": 2, "tensors": [weight, bias]},
        {"curve": "none", "reach": 1, "tensors": [weight, bias[:3]]},
        {"curve": "prelu", "reach": 1, "tensors": [weight, bias]},
        {"curve": "tanh", "reach": 1, "tensors": [weight, bias, bias]},
        {"curve": "none", "reach": 1 << 30, "tensors": [weight, bias]},
    ):
        with pytest.raises(ValueError, match=r"^operation: .*does not fit"):
            network.node([a], b, "depthwise", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^operation: .*does not fit"):
        network.node([a, a], b, "depthwise", curve="none", reach=1, tensors=[weight, bias])
    with pytest.raises(ValueError, match=r"^operation: .*does not fit"):
        network.node([a], b, "activate", curve="none")
