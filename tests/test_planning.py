"""Networks of which PyTorch runs a part: the same result, fast where it can be, in tiles, and refused where it must be."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import srfast
from srfast.backends.base import has_no_kernel
from srfast.backends.parts import Segment, segments
from srfast.engine import Engine
from srfast.errors import UnsupportedModelError
from srfast.models import ResidualSR, SRVGGNetCompact
from srfast.plan import Conv, Eager
from srfast.planning import parts, plan_network


class Attention(nn.Module):
    """Self-attention over windows, whose code depends on the image's size."""

    def __init__(self, channels: int, window: int = 5) -> None:
        super().__init__()
        self.window, self.qkv = window, nn.Linear(channels, 3 * channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        size = self.window
        if h % size or w % size:
            x = F.pad(x, (0, -w % size, 0, -h % size), mode="reflect")
        rows, columns = x.shape[2] // size, x.shape[3] // size
        tokens = x.view(n, c, rows, size, columns, size).permute(0, 2, 4, 3, 5, 1).reshape(-1, size * size, c)
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, -1)
        tokens = tokens + F.softmax(q @ k.transpose(1, 2) / c**0.5, -1) @ v
        image = tokens.view(n, rows, columns, size, size, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, *x.shape[2:])
        return image[:, :, :h, :w]


class Traced(nn.Module):
    """Operations that are traced, and that no node covers: another normalisation, a variance, tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = self.mix(self.norm(x.flatten(2).transpose(1, 2)))
        contrast = torch.sigmoid(x.var((2, 3), keepdim=True).sqrt() + x.mean((2, 3), keepdim=True))
        return tokens.transpose(1, 2).view(n, c, h, w) * contrast + F.softplus(x)


class Residual(nn.Module):
    """A plain residual network with something else in each block."""

    def __init__(self, part: Callable[[int], nn.Module], channels: int = 8, blocks: int = 2) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.convs = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
            )
            for _ in range(blocks)
        )
        self.parts = nn.ModuleList(part(channels) for _ in range(blocks))
        self.mid = nn.Conv2d(channels, channels, 3, padding=1)
        self.tail = nn.Sequential(nn.Conv2d(channels, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.head(x)
        for conv, part in zip(self.convs, self.parts, strict=True):
            y = part(conv(y)) + y
        return self.tail(self.mid(y) + first)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "windows": lambda: Residual(Attention),
    "traced": lambda: Residual(Traced),
    "softplus": lambda: Residual(lambda channels: nn.Softplus()),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(3)
    module = NETWORKS[name]().eval().requires_grad_(False)
    return module, torch.rand(1, 3, 43, 58, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_result(name: str, backend: str) -> None:
    """Float32 on the CPU, at a size that nobody saw while the plan was made."""
    module, x = made(name)
    with pytest.raises(UnsupportedModelError):
        srfast.compile(module, strict=True)
    fast = srfast.compile(module, backend=backend, device="cpu", dtype=torch.float32)
    for image in (x, torch.cat([x, x.flip(2)])[:, :, :31]):
        torch.testing.assert_close(fast(image), module(image), rtol=0, atol=2e-5)
    again = pickle.loads(pickle.dumps(fast))
    assert torch.equal(again(x), fast(x))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", NETWORKS)
def test_autocast_changes_nothing(name: str, backend: str) -> None:
    """The dtype is the one that was asked for: float32, while a plan is made and while it runs."""
    module, x = made(name)
    with torch.autocast("cpu", torch.bfloat16):
        got = srfast.compile(module, backend=backend, device="cpu", dtype=torch.float32)(x)
    torch.testing.assert_close(got, module(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_of_any_type(name: str, dtype: torch.dtype) -> None:
    """As float32, whatever PyTorch makes new tensors in; the module keeps its own."""
    module, x = made(name)
    module = module.to(dtype)
    expected = copy.deepcopy(module).float()(x)
    try:
        torch.set_default_dtype(dtype)
        fast = srfast.compile(module, device="cpu", dtype=torch.float32)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(fast(x), expected, rtol=0, atol=2e-5)
    assert next(module.parameters()).dtype == dtype


@pytest.mark.parametrize("name", NETWORKS)
def test_convolutions_are_compiled(name: str) -> None:
    """All seven in the plan, and in segments: head and each block's, with what follows."""
    module, _ = made(name)
    plan = plan_network(module)
    eager = [node for node in plan.nodes if isinstance(node, Eager)]
    assert len(eager) == 2
    assert sum(isinstance(node, Conv) for node in plan.nodes) == 7
    inside = [node for part in segments(plan) if isinstance(part, Segment) for node in part.plan.nodes]
    assert sum(isinstance(node, Conv) for node in inside) >= 6
    assert not any(has_no_kernel(node) for node in inside)
    assert plan.halo() is None
    assert "7 of them convolutions, PyTorch runs 2: " in parts(plan)


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_are_blended(name: str, caplog: pytest.LogCaptureFixture) -> None:
    module, x = made(name)
    images = F.interpolate(x[:, :, :20, :20], size=(150, 170), mode="bilinear").permute(0, 2, 3, 1)
    plan = plan_network(module)
    whole = Engine(plan, device="cpu", dtype=torch.float32, tile=0)
    tiled = Engine(plan, device="cpu", dtype=torch.float32, tile=40)
    assert not whole.exact
    assert not tiled.exact
    expected, got = whole(images), tiled(images)
    assert tiled.statistics.tiles > 4
    assert "not exact" in caplog.text
    if name == "softplus":  # which is pointwise: only the blending itself shows
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)
    elif name == "windows":
        assert float((got - expected).abs().mean()) < 0.02
    bytes_ = (images * 255).round().to(torch.uint8)
    assert tiled(bytes_).shape == (1, 300, 340, 3)
    # No seam: the difference to the whole image does not jump where a part begins.
    if name != "traced":
        error = (got - expected)[0].mean(-1)
        jumps = (error[1:] - error[:-1]).abs().mean(1)
        assert float(jumps.max()) <= 6 * float(jumps.mean()) + 1e-5


class Uncovered(nn.Module):
    """Nothing in it is covered, and its code depends on the size."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 4 or x.shape[3] % 4:
            raise ValueError("multiples of 4")
        return torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[2:])


def test_a_whole_network(small_network: nn.Module) -> None:
    fast = srfast.compile(Uncovered(), device="cpu", dtype=torch.float32)
    assert (fast.plan.alignment, fast.plan.multiple) == (4, 4)
    x = torch.rand(1, 3, 24, 36)
    torch.testing.assert_close(fast(x), x * 0.5, rtol=0, atol=1e-5)
    image = np.full((21, 30, 3), 200, np.uint8)  # continued to a multiple
    out = srfast.Upscaler(Uncovered(), device="cpu", dtype="fp32")(image)
    assert out.shape == image.shape
    assert plan_network(small_network, strict=True).multiple == 1


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x) + torch.rand_like(x)


class Two(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.softplus(x) + y


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return F.softplus(x) * self.calls


class Strided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)[:, :, ::2, ::2]


class Training(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout()

    def eval(self) -> Any:
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(F.softplus(x))


@pytest.mark.parametrize("kind", [Random, Two, Counting, Strided, Training])
def test_what_is_no_function_of_an_image_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(UnsupportedModelError):
        srfast.compile(kind(), device="cpu")


class InPlace(nn.Module):
    """Changes an activation that another operation reads later."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        z = F.softplus(y)
        y.view(-1).mul_(2)
        return self.last(y + z)


def test_changes_in_place_are_kept() -> None:
    torch.manual_seed(5)
    module, x = InPlace().eval(), torch.rand(1, 3, 20, 24)
    fast = srfast.compile(module, device="cpu", dtype=torch.float32)
    given = x.clone()
    torch.testing.assert_close(fast(x), module(x.clone()), rtol=0, atol=1e-5)
    assert torch.equal(x, given)


def test_plans_differ_by_what_pytorch_runs() -> None:
    """The fingerprint, by which an interrupted video is continued, has the weights of those parts too."""
    module, _ = made("traced")
    other: Any = copy.deepcopy(module)
    other.parts[1].mix.weight[0, 0] += 1
    first, second = (srfast.Upscaler(m, device="cpu", dtype="fp32").fingerprint for m in (module, other))
    assert first == srfast.Upscaler(copy.deepcopy(module), device="cpu", dtype="fp32").fingerprint
    assert first != second


def test_covered_networks_stay_as_they_are() -> None:
    for module in (SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2), ResidualSR((2,), channels=4, num_blocks=1)):
        plan = plan_network(module.eval())
        assert not plan.blends
        assert parts(plan) == f"srfast's kernels run all {len(plan.nodes)} operations"
