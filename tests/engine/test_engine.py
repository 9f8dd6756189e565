"""The engine: exact tiles, image types, guards."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from srfast.backends import select_backend
from srfast.backends.base import FunctionExecutable
from srfast.capture import capture
from srfast.devices import usable_device
from srfast.engine import Engine
from srfast.engine.pixels import finite
from srfast.engine.tiling import tile_by_memory, windows
from srfast.errors import BackendError, InputError, SrfastError
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.plan import Plan
from srfast.plan.nodes import describe
from srfast.plan.passes import in_units, optimise
from srfast.upscaler import Upscaler
from tests.helpers.networks.small import NETWORKS, randomise

CPU = torch.device("cpu")


def plan_of(module: nn.Module) -> Plan:
    return optimise(capture(module))


def image(height: int, width: int, dtype: torch.dtype = torch.uint8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (1, height, width, 3), generator=generator, dtype=torch.uint8)
    return values if dtype == torch.uint8 else (values.to(torch.int32) * 257).to(torch.uint16)


@pytest.mark.parametrize("length", [1, 2, 7, 16, 17, 100, 101])
@pytest.mark.parametrize("tile", [1, 5, 16, 100])
@pytest.mark.parametrize("halo", [0, 3, 40])
def test_windows_cover_once_with_context(length: int, tile: int, halo: int) -> None:
    parts = windows(length, tile, halo)
    assert [i for w in parts for i in range(w.first, w.last)] == list(range(length))
    assert len({w.size for w in parts}) == 1
    for w in parts:
        assert w.last - w.first <= tile
        assert w.start >= 0
        assert w.start + w.size <= length
        assert w.first - w.start >= min(halo, w.first)
        assert w.start + w.size - w.last >= min(halo, length - w.last)


def test_tiles_by_memory_respect_the_budget_or_are_small() -> None:
    for height, width, pixels in ((1080, 1920, 200_000), (100, 4000, 30_000), (50, 50, 10), (1, 1, 0)):
        tiling = tile_by_memory(height, width, 18, pixels)
        assert tiling.window_pixels <= pixels or max(tiling.rows[0].last, tiling.columns[0].last) <= 16
    assert len(tile_by_memory(270, 480, 40, 1 << 30)) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 37), (16, 16), (17, 31), (33, 64), (41, 53)])
def test_tiled_equals_untiled(network: nn.Module, size: tuple[int, int]) -> None:
    plan = plan_of(network)
    whole = Engine(plan, tile=0)(image(*size))
    for tile in (1 if size[0] * size[1] < 40 else 16, 23):
        tiled = Engine(plan, tile=tile)(image(*size))
        different = int((whole != tiled).sum())
        # oneDNN's blocking may depend on the shape: one level in 100,000 values at most.
        assert different <= whole.numel() // 100_000, different
        assert (whole.int() - tiled.int()).abs().max() <= 1


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_matches_the_module_in_float32(network: nn.Module, backend: str) -> None:
    x = image(19, 23)
    with torch.no_grad():
        expected = network(x.permute(0, 3, 1, 2).float() / 255).clamp(0, 1).permute(0, 2, 3, 1)
    engine = Engine(plan_of(network), backend=backend, device="cpu", dtype=torch.float32)
    torch.testing.assert_close(engine(x.float() / 255), expected, rtol=0, atol=2e-5)
    off = (engine(x).float() - (expected * 255).round()).abs()
    assert off.max() <= 1
    assert (off > 0).float().mean() < 1e-3
    deep = engine(image(19, 23, torch.uint16)).to(torch.int32).float()
    assert (deep - expected * 65535).abs().max() < 2


@pytest.mark.parametrize("batch", [2, 3])
def test_a_batch_is_its_images(batch: int, small_network: nn.Module) -> None:
    engine = Engine(plan_of(small_network))
    images = torch.cat([image(9, 11, seed=i) for i in range(batch)])
    torch.testing.assert_close(engine(images), torch.cat([engine(x[None]) for x in images]), rtol=0, atol=0)


def test_strided_images() -> None:
    engine = Engine(plan_of(randomise(NETWORKS["compact_x4"]())))
    large = image(30, 40)
    view = large[:, 3:20:2, 5:30].flip(2)
    assert torch.equal(engine(view), engine(view.contiguous()))


@pytest.mark.parametrize(
    "bad",
    [
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, 3, dtype=torch.uint8),
        torch.zeros(1, 8, 8, 3, dtype=torch.int64),
        torch.zeros(1, 0, 8, 3),
    ],
)
def test_bad_images_are_refused(bad: Tensor, small_network: nn.Module) -> None:
    with pytest.raises(InputError, match="images"):
        Engine(plan_of(small_network))(bad)


class Overflowing(nn.Module):
    """Exceeds float16 inside, for bright images only, and returns to the range."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.Sequential(*(nn.Conv2d(3, 3, 1, bias=False) for _ in range(4)))
        for conv, gain in zip(self.convs, (400, 400, 1 / 400, 1 / 400), strict=True):
            conv.weight.data = torch.eye(3).view(3, 3, 1, 1) * gain

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = torch.relu(conv(x))
        return x


def test_overflow_is_redone_in_float32() -> None:
    engine = Engine(plan_of(Overflowing()), backend="reference", dtype=torch.float16, tile=8)
    dark, bright = torch.full((1, 12, 12, 3), 20, dtype=torch.uint8), image(12, 12)
    assert torch.equal(engine(dark), dark)
    assert engine.statistics.redone == 0
    assert torch.equal(engine(bright), bright)
    assert engine.statistics.redone == 1


def test_a_network_that_is_never_finite_is_an_error(small_network: nn.Module) -> None:
    plan = plan_of(small_network).map_tensors(lambda t: t * float("inf"))
    with pytest.raises(SrfastError, match="NaN or infinite"):
        Engine(plan)(image(8, 8))


def test_out_of_memory_halves_the_tile(small_network: nn.Module) -> None:
    """An allocator that gives up above 24x24 pixels: the image still comes out, and is the same."""
    plan = plan_of(small_network)
    expected = Engine(plan)(image(60, 50))
    engine = Engine(plan)
    run = engine._runner.run

    def limited(x: Tensor) -> Tensor:
        if x.shape[-1] * x.shape[-2] > 24 * 24:
            raise torch.OutOfMemoryError("test")
        return run(x)

    engine._runner.run = FunctionExecutable(limited, run.traits)
    assert torch.equal(engine(image(60, 50)), expected)
    assert engine.statistics.out_of_memory >= 1


def test_memory_for_no_tile_is_told(small_network: nn.Module) -> None:
    engine = Engine(plan_of(small_network))

    def full(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("test")

    engine._runner.run = FunctionExecutable(full, engine._runner.run.traits)
    with pytest.raises(
        SrfastError, match=r"not even a tile of \d+ pixels of an image of 50x60 fits in the memory of cpu"
    ):
        engine(image(60, 50))


def test_other_errors_are_not_taken_for_memory(small_network: nn.Module) -> None:
    engine = Engine(plan_of(small_network))

    def broken(x: Tensor) -> Tensor:
        raise RuntimeError("shape mismatch")

    engine._runner.run = FunctionExecutable(broken, engine._runner.run.traits)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        engine(image(40, 40))


def test_backends_say_why_not(small_network: nn.Module) -> None:
    plan = plan_of(small_network)
    with pytest.raises(BackendError, match="there are auto"):
        select_backend(plan, CPU, torch.float32, "tpu")
    with pytest.raises(BackendError, match="not float16"):
        select_backend(plan, CPU, torch.float16, "cpu")
    assert select_backend(plan, CPU, torch.float16).name == "reference"


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "meta", "vulkan", "foo", "cuda:-1", "", 1.5])
def test_devices_that_are_not_there(small_network: nn.Module, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="device"):
        Engine(plan_of(small_network), device=name)
    assert Engine(plan_of(small_network), device="cpu:0").device.type == "cpu"


def test_gpus_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(
            BackendError, match=r"cuda:0: (this PyTorch is a CPU build|no GPU or driver).*default.* cpu"
        ):
            usable_device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert usable_device("cuda:1").index == 1
    with pytest.raises(BackendError, match="cuda:0 to cuda:1"):
        usable_device("cuda:2")


def half_error(module: nn.Module, dtype: torch.dtype, backend: str) -> tuple[float, float]:
    """Root mean square errors against float32 of the engine and of the eager module in ``dtype``."""
    x = torch.rand(1, 24, 24, 3)
    with torch.no_grad():
        planes = x.permute(0, 3, 1, 2)
        exact = module(planes).clamp(0, 1)
        eager = module.to(dtype)(planes.to(dtype)).float().clamp(0, 1)
    module.float()
    ours = Engine(plan_of(module), backend=backend, dtype=dtype)(x).permute(0, 3, 1, 2)
    return float((ours - exact).square().mean().sqrt()), float((eager - exact).square().mean().sqrt())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["srresnet_x4", "compact_x4"])
def test_half_precision_error_is_at_most_twice_eagers(name: str, dtype: torch.dtype) -> None:
    ours, eager = half_error(randomise(NETWORKS[name]()), dtype, "reference")
    assert ours <= 2 * eager


def test_bf16_on_the_cpu_backend() -> None:
    plan = plan_of(SRVGGNetCompact(num_feat=8, num_conv=1))
    reasons = select_backend(plan, CPU, torch.float32, "cpu").not_supported_reasons(plan, CPU, torch.bfloat16)
    if reasons:
        pytest.skip(f"no bfloat16 hardware: {reasons[0]}")
    ours, eager = half_error(randomise(SRResNet(4, channels=16, num_blocks=2)), torch.bfloat16, "cpu")
    assert ours <= 2 * eager


def test_numpy_and_engine_share_memory_layout() -> None:
    """A numpy frame goes in and out without being reordered."""
    engine = Engine(plan_of(randomise(NETWORKS["compact_x2_leaky"]())))
    frame = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    out = engine(torch.from_numpy(frame)[None])
    assert out.is_contiguous()
    assert out.shape == (1, 14, 18, 3)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda engine: pickle.loads(pickle.dumps(engine))])
def test_copies(network: nn.Module, again: Callable[[Engine], Engine]) -> None:
    """A copy has the plan and the settings of its model, and memory of its own."""
    engine = Engine(plan_of(network), tile=16, dtype=torch.float32, backend="cpu")
    x = image(20, 30)
    expected = engine(x)
    other = again(engine)
    engine.close()
    assert (other.backend.name, other.dtype, other.statistics.images) == ("cpu", torch.float32, 0)
    assert torch.equal(other(x), expected)
    assert other.statistics.tiles == 4


def test_an_upscaler_in_another_process(small_network: nn.Module) -> None:
    upscaler = Upscaler(small_network, outscale=3)
    frame = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.map(upscaler, [frame])[0], upscaler(frame))


class Limited(nn.Module):
    """A network that ends in a clamp."""

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.conv, self.low, self.high = nn.Conv2d(3, 3, 3, padding=1), low, high

    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(self.conv(x), self.low, self.high)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize(
    "limits", [(0.25, 0.5), (None, 0.5), (0.3, None), (0.0, 0.5), (1.5, 2.0), (-2.0, -1.0), (0.0, 1.0), (-1.0, 3.0)]
)
def test_a_last_clamp_is_kept(limits: tuple[float | None, float | None], backend: str) -> None:
    """Of any range; every image type is limited to its own beside that."""
    torch.manual_seed(0)
    network = Limited(*limits).eval()
    engine = Engine(plan_of(network), backend=backend, dtype=torch.float32)
    for dtype, peak in ((torch.float32, 1), (torch.uint8, 255), (torch.uint16, 65535)):
        given = (torch.rand(1, 12, 9, 3) * peak).to(dtype)
        with torch.no_grad():
            expected = network(given.permute(0, 3, 1, 2).float() / peak).clamp(0, 1).permute(0, 2, 3, 1) * peak
        assert (engine(given).float() - expected).abs().max() <= (1e-5 if peak == 1 else 0.51)


def test_a_clamp_to_the_range_of_images_costs_nothing() -> None:
    assert [describe(node) for node in in_units(plan_of(Limited(0.0, 1.0)), 255.0, 255.0).nodes] == ["conv 3x3"]


def test_overflow_is_seen_before_a_clamp() -> None:
    """Of a range in which infinity would be a value like others: such tiles are done again in float32."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.Hardtanh(0.1, 0.9))
    for layer, gain in ((network[0], 1e6), (network[2], 3e-7)):
        torch.nn.init.dirac_(layer.weight)  # type: ignore[arg-type]
        layer.weight.data *= gain  # type: ignore[union-attr,operator]
        torch.nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    given = torch.full((1, 5, 7, 3), 200, dtype=torch.uint8)
    engine = Engine(plan_of(network), backend="reference", dtype=torch.float16)
    assert (engine(given) == 60).all()
    assert engine.statistics.redone == 1


@pytest.mark.parametrize("size", [1e34, 3e38])
def test_large_values_are_not_taken_for_infinite_ones(size: float) -> None:
    """Their sum overflows; they are limited to white. A true infinity is still found."""
    network = nn.Conv2d(3, 3, 3, padding=1)
    torch.nn.init.zeros_(network.weight)
    torch.nn.init.constant_(network.bias, size / 255)  # type: ignore[arg-type]
    assert bool((Engine(plan_of(network), dtype=torch.float32)(torch.rand(1, 200, 200, 3)) == 1).all())
    values = torch.full((1, 200, 200, 3), size)
    assert finite(values)
    for wrong in (float("inf"), -float("inf"), float("nan")):
        values[0, 1, 2, 0] = wrong
        assert not finite(values)
