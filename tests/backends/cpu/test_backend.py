"""Whole plans on the CPU backend: schedules, tiling, and nodes that the compiled kernels do not cover."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from srfast.backends import FrameExecutable
from srfast.backends.cpu import CpuBackend
from srfast.backends.cpu import schedule as cpu_schedule
from srfast.backends.cpu.network import CompiledNetwork
from srfast.backends.cpu.schedule import Chain, Layer, schedule
from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.engine import Engine
from srfast.engine.tiling import tile_by_size, windows
from srfast.errors import SrfastError
from srfast.kernels import cpu
from srfast.models import RealPLKSR, RRDBNet, SRResNet, SRVGGNetCompact
from srfast.plan import Plan
from srfast.plan.passes import in_units, optimise

needs_kernels = pytest.mark.skipif(cpu.unavailable_reason() is not None, reason=str(cpu.unavailable_reason()))
CPU = torch.device("cpu")


class Mixed(nn.Module):
    """A tanh and a bilinear skip, which go through torch; an activation that is both output and input of parts."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (
            nn.Conv2d(3, 16, 3, padding=1),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.Conv2d(16, 12, 5, padding=2),
        )
        self.prelu = nn.PReLU(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.prelu(self.a(x))
        z = torch.tanh(self.b(y)) + y
        return F.pixel_shuffle(self.c(z), 2) + F.interpolate(x, scale_factor=2, mode="bilinear")


class Enlarged(nn.Module):
    """Nearest neighbour as the input of a convolution, and as a skip that a covered convolution adds."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (
            nn.Conv2d(3, 16, 3, padding=1),
            nn.Conv2d(16, 3, 3, padding=1),
            nn.Conv2d(3, 12, 3, padding=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.b(F.interpolate(self.a(x), scale_factor=2, mode="nearest"))
        skip = F.interpolate(x, scale_factor=4, mode="nearest")
        return F.pixel_shuffle(self.c(y), 2) + skip


def _plan(name: str) -> Plan:
    torch.manual_seed(0)
    models = {
        "srresnet": lambda: SRResNet(4, num_blocks=2),
        "narrow": lambda: SRResNet(2, channels=24, num_blocks=1),
        "compact": lambda: SRVGGNetCompact(num_conv=3),
        "rrdb": lambda: RRDBNet(num_feat=32, num_block=1, num_grow_ch=16),
        "mixed": Mixed,
        "enlarged": Enlarged,
        "large": lambda: RealPLKSR(upscale=2, num_feat=32, num_blocks=2, partial=16, groups=0),
    }
    return optimise(capture(models[name]().eval()))


@pytest.mark.parametrize("winograd", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (3, 17), (23, 19), (37, 53)])
@pytest.mark.parametrize("name", ["srresnet", "narrow", "compact", "rrdb", "mixed", "enlarged", "large"])
def test_plans_equal_float64(name: str, size: tuple[int, int], winograd: bool) -> None:
    plan = in_units(_plan(name), 255.0, 255.0)
    x = torch.rand(2, 3, *size).mul(255).round()
    expected = ReferenceBackend().compile(plan, CPU, torch.float64)(x.double())
    y = CpuBackend(winograd=winograd).compile(plan, CPU, torch.float32)(x)
    # Rounding of bfloat16 would be some 5e-3 here, and plain float32 reaches 2e-6.
    assert (y - expected).abs().max() < 1e-5 * expected.abs().max()


@needs_kernels
def test_skips_and_windows() -> None:
    """A skip by nearest neighbour costs nothing; only transformed convolutions need aligned windows."""
    plan = _plan("compact")
    network = CompiledNetwork(plan, winograd=True)
    assert len(network.layers) == len(plan.nodes) - 1  # the enlarged image is read where it is small
    assert CpuBackend().compile(plan, CPU, torch.float32).traits.alignment == 4
    assert CpuBackend(winograd=False).compile(plan, CPU, torch.float32).traits.halo == plan.halo()


@needs_kernels
def test_large_kernels_are_transformed_in_tiles() -> None:
    """17x17 kernels give 16x16 results at once, at which windows begin; the tiled image has the bits of the whole one."""
    plan = _plan("large")
    assert list(CompiledNetwork(plan, winograd=True).algorithms.values()).count("fourier") == 2
    assert "fourier" not in CompiledNetwork(plan, winograd=False).algorithms.values()
    executable = CpuBackend(path=cpu.instruction_sets()[0]).compile(plan, CPU, torch.float32)
    assert executable.traits.exact and executable.traits.alignment == 16
    x = torch.rand(1, 3, 200, 216, generator=torch.Generator().manual_seed(1))
    whole, halo = executable(x), executable.traits.halo
    start = 160 - (halo + 15) // 16 * 16
    assert start > 0
    window = executable(x[..., start:, :].contiguous())
    assert torch.equal(window[..., 2 * (160 - start) :, :], whole[..., 2 * 160 :, :])


@pytest.mark.parametrize(
    ("last", "cached", "strip"),
    [(33, 12, 8), (32, 12, 8), (38.5, 12, 8), (8, 3, 2), (96, 36, 24), (2048, 48, 32), (0.125, 0.25, 0.25)],
)
def test_shares_of_the_last_level_cache(
    last: float, cached: float, strip: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In MB; server processors of 32 to 40 MB are alike."""
    monkeypatch.setattr(cpu_schedule, "caches", lambda: (1 << 20, int(last * 2**20)))
    assert cpu_schedule.share(3 / 8, 48 << 20) == cached * 2**20
    assert cpu_schedule.share(1 / 4, 32 << 20) == strip * 2**20


@needs_kernels
@pytest.mark.parametrize("name", ["srresnet", "compact"])
def test_schedules_do_not_change_results(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = _plan(name)
    x = torch.rand(1, 3, 41, 37)
    expected = CpuBackend().compile(plan, CPU, torch.float32)(x)
    monkeypatch.setattr(cpu_schedule, "CACHED_BYTES", 0)
    for pixels, size in ((1, 1), (400, 1 << 20), (1 << 20, 1 << 14)):
        monkeypatch.setattr(cpu_schedule, "STRIP_PIXELS", pixels)
        monkeypatch.setattr(cpu_schedule, "STRIP_BYTES", size)
        assert torch.equal(CpuBackend().compile(plan, CPU, torch.float32)(x), expected)


@needs_kernels
@pytest.mark.parametrize("name", ["srresnet", "narrow", "compact"])
@pytest.mark.parametrize("size", [(61, 47), (9, 101), (50, 83)])
def test_tiles_equal_the_whole_image_bit_for_bit(name: str, size: tuple[int, int]) -> None:
    image = torch.rand(1, *size, 3)
    plan = _plan(name)
    whole = Engine(plan, tile=0, dtype=torch.float32)(image)
    for tile in (16, 23, 40):
        engine = Engine(plan, tile=tile, dtype=torch.float32)
        assert torch.equal(engine(image), whole), tile
        assert engine.statistics.tiles > 1


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_frames_go_through_the_kernels_as_they_are(dtype: torch.dtype) -> None:
    plan, peak = _plan("srresnet"), torch.iinfo(dtype).max
    frames = torch.randint(0, peak + 1, (2, 13, 22, 3), dtype=torch.int32).to(dtype)
    engine = Engine(plan, dtype=torch.float32)
    expected = Engine(plan, dtype=torch.float32, backend="reference")(frames.float() / peak)
    y = engine(frames)
    assert y.dtype == dtype and isinstance(engine._runner.run, FrameExecutable)
    off = (y.double() - expected.double().clamp(0, 1) * peak).abs().max()
    assert off <= 0.5 + peak * 1e-5
    # A network that overflows is computed again, and refused when that does not help.
    broken = plan.map_tensors(lambda t: t * 1e30)
    with pytest.raises(SrfastError, match="NaN or infinite"):
        Engine(broken, dtype=torch.float32)(frames)


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.uint16])
@pytest.mark.parametrize("name", ["srresnet", "narrow", "compact", "mixed", "enlarged", "large"])
def test_channels_may_be_turned_round(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """In many strips and few, whatever writes the last of them."""
    network = CompiledNetwork(in_units(_plan(name), 255.0, 255.0), winograd=True)
    for pixels, size in ((400, (41, 37)), (1 << 20, (50, 20))):
        monkeypatch.setattr(cpu_schedule, "STRIP_PIXELS", pixels)
        rgb = torch.randint(0, 256, (2, *size, 3)).mul(257 if dtype == torch.uint16 else 1).to(dtype)
        bgr = rgb[..., [2, 1, 0]]
        expected, finite = network.run(rgb, dtype)
        turned, still = network.run(bgr, dtype, bgr=True)
        assert finite and still
        assert torch.equal(turned[..., [2, 1, 0]], expected)
        assert not torch.equal(turned, expected)


@needs_kernels
def test_too_small_a_halo_is_noticed() -> None:
    """The mathematical receptive field alone is not enough for equal bits: this is why executables have their own halo."""
    plan = _plan("compact")
    engine = Engine(plan, tile=16, dtype=torch.float32)
    assert engine.halo > plan.halo()


def test_threads_do_not_change_results() -> None:
    run = CpuBackend().compile(_plan("srresnet"), CPU, torch.float32)
    x, threads = torch.rand(1, 3, 33, 29), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = run(x)
        torch.set_num_threads(2)
        assert torch.equal(run(x), one)
    finally:
        torch.set_num_threads(threads)


def test_sizes_and_layouts_may_alternate() -> None:
    run = CpuBackend().compile(_plan("compact"), CPU, torch.float32)
    images = [torch.rand(1, 3, h, w) for h, w in ((5, 40), (31, 7), (5, 40), (64, 64))]
    first = [run(x) for x in images]
    for x, y in zip(images, first, strict=True):
        assert torch.equal(run(x.contiguous(memory_format=torch.channels_last)), y)
        assert torch.equal(run(x.transpose(2, 3).contiguous().transpose(2, 3)), y)


@needs_kernels
def test_python_threads_take_turns() -> None:
    """Two sizes from two threads: each lays the memory out anew."""
    run = CpuBackend().compile(_plan("compact"), CPU, torch.float32)
    images = [torch.rand(1, 3, 16, 24), torch.rand(1, 3, 60, 70)]
    expected = [run(x) for x in images]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run, images * 60))
    assert all(torch.equal(y, expected[i % 2]) for i, y in enumerate(results))


@needs_kernels
def test_a_layout_without_memory_leaves_none_behind() -> None:
    """In a process of little memory: one size works, one does not fit, and the first one works again."""
    program = """
import resource, torch
from srfast.backends.cpu import CpuBackend
from srfast.capture import capture
from srfast.models import SRVGGNetCompact
from srfast.plan.passes import optimise
torch.set_num_threads(1)
run = CpuBackend().compile(optimise(capture(SRVGGNetCompact(num_conv=2).eval())), torch.device("cpu"), torch.float32)
x = torch.rand(1, 3, 8, 9)
expected = run(x)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
try:
    run(torch.rand(1, 3, 4, 200_000))
    raise SystemExit("the limit is too high for this test")
except (MemoryError, RuntimeError):
    pass
assert torch.equal(run(x), expected)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [(4, 6), (14, 18)])
def test_activations_of_fractional_scales(size: tuple[int, int]) -> None:
    """Sizes of 1, 3, 3/2 and 3 times the input's: no activation has the size of which all have multiples."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Upsample(scale_factor=3, mode="bilinear"),
        nn.AvgPool2d(2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.Conv2d(8, 3, 3, padding=1),
    ).eval()
    x = torch.rand(1, 3, *size)
    y = CpuBackend().compile(optimise(capture(module)), CPU, torch.float32)(x)
    assert torch.allclose(y, module(x), atol=1e-6)


def test_a_layer_whose_input_is_never_written_ends_the_schedule() -> None:
    with pytest.raises(ValueError, match="wait for rows"):
        schedule([Layer((1,), 2, None, 1, 4, 1)], [8, 8, 8], [0], [Chain(0, 1, 4, False)])


@pytest.mark.parametrize("length", [1, 4, 7, 33, 64, 101])
@pytest.mark.parametrize("tile", [1, 5, 16, 200])
@pytest.mark.parametrize("halo", [0, 3, 14])
def test_aligned_windows(length: int, tile: int, halo: int) -> None:
    found = windows(length, tile, halo, 4)
    assert [w.first for w in found[1:]] == [w.last for w in found[:-1]]
    assert found[0].first == 0 and found[-1].last == length
    for w in found:
        assert w.start % 4 == 0 and w.first % 4 == 0
        assert w.start <= max(0, w.first - halo) and w.start + w.size >= min(length, w.last + halo)
        assert w.start + w.size <= length and w.size < found[0].size + 4
    assert windows(length, tile, halo, 1) == windows(length, tile, halo)


def test_window_pixels_count_the_longest_window() -> None:
    tiling = tile_by_size(33, 33, 8, 4, 4)
    assert tiling.window_pixels == max(w.size for w in tiling.rows) * max(w.size for w in tiling.columns)


@needs_kernels
@pytest.mark.parametrize("name", ["srresnet", "compact"])
@pytest.mark.parametrize(("height", "width", "threads"), [(64, 64, 1), (135, 240, 1), (270, 480, 1), (540, 960, 2)])
def test_activations_take_at_most_64_mib_a_thread(name: str, height: int, width: int, threads: int) -> None:
    model = SRResNet(4) if name == "srresnet" else SRVGGNetCompact()
    network = CompiledNetwork(optimise(capture(model.eval())), winograd=True)
    assert network.working_bytes(height, width) <= threads * 64 << 20


def test_no_layer_falls_behind() -> None:
    """The last convolution advances by three rows, those before it by four: its input stays as few rows high."""
    network = CompiledNetwork(optimise(capture(SRResNet(4, num_blocks=1).eval())), winograd=True)
    short, tall = (network.working_bytes(height, 1920) for height in (400, 1600))
    assert tall <= short + 4 * 64 * 4 * 1920  # bytes of a row of its input
