"""Depthwise convolutions from module to plan and back to files, and the gates and norms beside them, against plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.checkpoint import load_model
from srfast.errors import UnsupportedModelError
from srfast.models.norms import RootMeanSquare2d
from srfast.plan import Affine, ChannelGate, Conv, Depthwise, PixelNorm, Plan
from srfast.plan.export_onnx import export_onnx
from srfast.plan.passes import optimise
from tests.helpers.networks.small import randomise


def run(plan: Plan, x: Tensor) -> Tensor:
    return ReferenceBackend().compile(plan, x.device, x.dtype)(x)


def kinds(plan: Plan) -> list[str]:
    return [type(node).__name__ for node in plan.nodes]


def depthwise(channels: int, kernel: int, **options: object) -> nn.Conv2d:
    options = {"padding": kernel // 2, **options}
    return nn.Conv2d(channels, channels, kernel, groups=channels, **options)  # type: ignore[arg-type]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "activation": (lambda: nn.Sequential(depthwise(4, 5), nn.PReLU(4)), ["Depthwise"]),
    "no bias": (lambda: nn.Sequential(depthwise(4, 3, bias=False), nn.GELU()), ["Depthwise"]),
    "normalised": (lambda: nn.Sequential(depthwise(4, 3), nn.BatchNorm2d(4), nn.ReLU()), ["Depthwise"]),
    "one pixel": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), depthwise(4, 1)), ["Conv"]),
    # A 1x1 convolution and a small kernel are one convolution; a large one costs less by itself.
    "separable": (lambda: nn.Sequential(depthwise(16, 3), nn.Conv2d(16, 16, 1)), ["Conv"]),
    "separable, large": (lambda: nn.Sequential(depthwise(16, 7), nn.Conv2d(16, 16, 1)), ["Depthwise", "Conv"]),
    "separable, to few": (lambda: nn.Sequential(depthwise(16, 9), nn.Conv2d(16, 3, 1)), ["Conv"]),
    # Groups of several channels, channels that become several, and strides stay dense.
    "groups": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2), ["Conv"]),
    "multiplied": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), ["Conv"]),
    "one channel": (lambda: nn.Conv2d(1, 1, 3, padding=1), ["Conv"]),
    "strided": (
        lambda: nn.Sequential(depthwise(4, 3, stride=2), nn.Upsample(scale_factor=2)),
        ["Unshuffle", "Conv", "Resize"],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_plan_equals_module(name: str) -> None:
    """In float64 but for the weights' one rounding to float32."""
    build, expected = NETWORKS[name]
    module = randomise(build(), seed=1).double().eval()
    plan = capture(module)
    short = optimise(plan)
    assert kinds(short) == expected
    for height, width in ((2, 2), (2, 6), (8, 14)):
        x = torch.rand(2, plan.in_channels, height, width, dtype=torch.float64)
        with torch.no_grad():
            y = module(x)
        torch.testing.assert_close(run(plan, x), y, rtol=0, atol=1e-12)
        torch.testing.assert_close(run(short, x), y, rtol=0, atol=1e-5)


def test_what_a_depthwise_convolution_says_of_itself() -> None:
    plan = optimise(capture(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), depthwise(8, 7), nn.Tanh()).eval()))
    assert plan.halo() == 4
    assert plan.flops(1, 1) == 2 * (3 * 8 * 9 + 8 * 49)
    assert "depthwise 7x7 tanh" in str(plan)
    node = plan.nodes[1]
    assert isinstance(node, Depthwise)
    x = torch.rand(1, 8, 5, 6)
    torch.testing.assert_close(
        run(Plan((node,), plan.nodes[0].output, node.output, 8), x),
        run(Plan((node.dense(),), plan.nodes[0].output, node.output, 8), x),
    )


@pytest.mark.parametrize(
    ("weight", "bias", "act", "slope"),
    [
        (torch.ones(4, 1, 3, 3), torch.ones(3), "none", None),
        (torch.ones(4, 1, 2, 2), torch.ones(4), "none", None),
        (torch.ones(3, 1, 3, 3), torch.ones(3), "none", None),
        (torch.ones(4, 1, 3, 3), torch.ones(4), "prelu", None),
        (torch.ones(4, 1, 3, 3), torch.ones(4), "prelu", torch.ones(2)),
    ],
)
def test_a_node_that_does_not_fit_is_refused(weight: Tensor, bias: Tensor, act: str, slope: Tensor | None) -> None:
    with pytest.raises(ValueError, match="'y'"):
        Plan((Depthwise("y", "x", weight, bias, act, slope),), "x", "y", 4)  # type: ignore[arg-type]


def test_a_shift_is_not_folded_past_the_border() -> None:
    """Outside the image there are zeros, which a shift before the convolution does not move; a scale may go in."""
    weight, bias = torch.rand(4, 1, 3, 3), torch.rand(4)
    scale = Affine("a", "x", torch.rand(4), torch.zeros(4))
    shift = Affine("a", "x", torch.rand(4), torch.rand(4))
    x = torch.rand(1, 4, 5, 6)
    for before, expected in ((scale, ["Depthwise"]), (shift, ["Affine", "Depthwise"])):
        plan = Plan((before, Depthwise("y", "a", weight, bias)), "x", "y", 4)
        assert kinds(optimise(plan)) == expected
        torch.testing.assert_close(run(optimise(plan), x), run(plan, x), rtol=0, atol=1e-6)


class Gated(nn.Module):
    """A gate of a moment that ``of`` computes, as a part of a network that enlarges."""

    def __init__(self, of: Callable[[Tensor], Tensor], end: nn.Module) -> None:
        super().__init__()
        self.of, self.first = of, nn.Conv2d(3, 12, 3, padding=1)
        self.gate = nn.Sequential(nn.Conv2d(12, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 1), end)
        self.norm = RootMeanSquare2d(12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return F.pixel_shuffle(self.norm(y * self.gate(self.of(y))), 2)


def _unpacked(x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return torch.sqrt(variance) + mean


MOMENTS: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "mean": (lambda x: x.mean((2, 3), keepdim=True), "mean"),
    "var_mean": (_unpacked, "contrast"),
    "std": (lambda x: x.mean((2, 3), keepdim=True) + x.std((2, 3), unbiased=False, keepdim=True), "contrast"),
    "var": (
        lambda x: x.var((2, 3), correction=0, keepdim=True).sqrt() + x.mean((2, 3), keepdim=True),
        "contrast",
    ),
}


@pytest.mark.parametrize("end", [nn.Sigmoid(), nn.Hardsigmoid()], ids=["sigmoid", "hardsigmoid"])
@pytest.mark.parametrize("name", MOMENTS)
def test_gates(name: str, end: nn.Module) -> None:
    of, moment = MOMENTS[name]
    module = randomise(Gated(of, end), seed=1).double().eval()
    plan = capture(module)
    gate, norm = plan.nodes[1], plan.nodes[2]
    assert isinstance(gate, ChannelGate) and isinstance(norm, PixelNorm)
    assert (gate.moment, gate.curve, norm.centred) == (moment, type(end).__name__.lower(), False)
    assert plan.halo() is None
    for height, width in ((1, 1), (1, 5), (7, 4)):
        x = torch.rand(2, 3, height, width, dtype=torch.float64)
        with torch.no_grad():
            expected = module(x)
        torch.testing.assert_close(run(plan, x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "of",
    [
        lambda x: x.std((2, 3), keepdim=True) + x.mean((2, 3), keepdim=True),  # divided by one pixel less
        lambda x: x.std((2, 3), unbiased=False, keepdim=True),
        lambda x: x.var((2, 3), correction=0, keepdim=True) + x.mean((2, 3), keepdim=True),
        lambda x: x.mean((2, 3), keepdim=True) + x.mean((2, 3), keepdim=True),
        lambda x: torch.sqrt(x.mean((2, 3), keepdim=True)),
        lambda x: x.var(1, correction=0, keepdim=True),
    ],
)
def test_other_moments_are_refused(of: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(UnsupportedModelError, match="no plan node covers"):
        capture(Gated(of, nn.Sigmoid()).eval())


def test_a_hard_sigmoid_of_an_image() -> None:
    module = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Hardsigmoid()).eval()
    x = 9 * torch.randn(1, 3, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(run(optimise(capture(module)), x), module(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["activation", "no bias", "separable, large", "mean", "var_mean"])
def test_onnx(name: str, tmp_path: Path) -> None:
    """Run by ONNX Runtime, and read back."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    made = NETWORKS[name][0]() if name in NETWORKS else Gated(MOMENTS[name][0], nn.Hardsigmoid())
    module = randomise(made, seed=1).eval()
    plan = optimise(capture(module))
    export_onnx(plan, tmp_path / "n.onnx")
    x = torch.rand(1, plan.in_channels, 6, 10)
    with torch.no_grad():
        expected = module(x)
    session = runtime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
    torch.testing.assert_close(
        torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), expected, rtol=0, atol=1e-5
    )
    if name in NETWORKS:
        again = optimise(capture(load_model(tmp_path / "n.onnx").module))
        assert kinds(again) == kinds(plan)
        assert not any(isinstance(node, Conv) and node.kernel > 1 for node in again.nodes)
        torch.testing.assert_close(run(again, x), expected, rtol=0, atol=1e-5)
