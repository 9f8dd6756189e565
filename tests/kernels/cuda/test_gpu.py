"""The CUDA kernels on a GPU: what the emulation cannot show. Also under compute-sanitizer (memcheck, racecheck)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srfast.backends.cuda import CudaBackend
from srfast.capture import capture
from srfast.engine import Engine
from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.conv_int8 import ByteCanvas, conv_int8_launch, pack_int8, quantize_launch
from srfast.kernels.cuda.frames import load_planes_launch, store_planes_launch
from srfast.kernels.cuda.hopper import FORMS as HOPPER
from srfast.kernels.cuda.hopper import hopper_launch
from srfast.kernels.cuda.pack import VARIANTS, Variant, pack_conv
from srfast.kernels.cuda.pair import FORMS as PAIRS
from srfast.kernels.cuda.pair import pair_launch
from srfast.kernels.cuda.tail import FORMS as TAILS
from srfast.kernels.cuda.tail import pack_tail, tail_bytes, tail_launch
from srfast.kernels.cuda.trunk import Layer, pack_trunk, trunk_launch
from srfast.kernels.int8 import LowPrecision, int8_reference, quantize_reference
from srfast.kernels.planes import PlaneColour, Planes, load_planes_reference, store_planes_reference
from srfast.kernels.reference import conv_reference
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.plan.passes import optimise

pytestmark = pytest.mark.needs_gpu
HALF = torch.float16


@pytest.fixture(autouse=True)
def _compiled() -> None:
    reason = cuda.unavailable_reason()
    if reason:
        pytest.fail(reason)


def on_gpu(x: Tensor) -> Canvas:
    canvas = Canvas.allocate(x.shape[0], x.shape[1], x.shape[2], x.shape[3], dtype=x.dtype, device="cuda")
    canvas.nchw().copy_(x)
    return canvas


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).half().cuda()


def problem(channels: int, out: int, kernel: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    weight = numbers(out, channels, kernel, kernel, seed=1) * (channels * kernel**2) ** -0.5
    return numbers(2, channels, *size), weight.float(), numbers(out, seed=2).float()


def expected_of(x: Tensor, weight: Tensor, bias: Tensor, **options: object) -> Tensor:
    with torch.backends.cudnn.flags(allow_tf32=False):
        return conv_reference(x.float(), weight.half().float(), bias, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (17, 64), (135, 241)])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_convolutions(variant: Variant, size: tuple[int, int]) -> None:
    channels = variant.pixel_stride - 1 if variant.pixel_stride else variant.block_c
    x, weight, bias = problem(channels, variant.block_o + 16, variant.kernel or 5, size)
    out = on_gpu(torch.zeros(2, weight.shape[0], *size, dtype=HALF))
    conv_launch(on_gpu(x), pack_conv(weight, bias, variant=variant, device="cuda"), out)()
    torch.testing.assert_close(out.nchw().float(), expected_of(x, weight, bias), rtol=2e-3, atol=2e-3)


def need_hopper(form: str) -> None:
    if "wgmma" in form and torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("needs a Hopper GPU")


@pytest.mark.parametrize("form", PAIRS)
@pytest.mark.parametrize("size", [(1, 1), (29, 31), (135, 241)])
def test_pair_has_the_bits_of_two_launches(size: tuple[int, int], form: str) -> None:
    """On Hopper also that wgmma adds in the same order from shared memory, from registers and in every column."""
    need_hopper(form)
    single = hopper_launch if form == "pair_wgmma" else conv_launch
    x, weight, bias = problem(64, 64, 3, size)
    packed = pack_conv(weight, bias, act="prelu", slope=torch.tensor([0.2]), device="cuda")
    source, middle, expected, out = (on_gpu(x), *(on_gpu(torch.zeros_like(x)) for _ in range(3)))
    single(source, packed, middle)()
    single(middle, packed, expected, source)()
    pair_launch(source, packed, packed, out, source, form=form)()
    assert torch.equal(out.data, expected.data)


@pytest.mark.parametrize("form", TAILS)
@pytest.mark.parametrize("size", [(1, 1), (29, 31), (135, 241)])
def test_tail(size: tuple[int, int], form: str) -> None:
    need_hopper(form)
    x, weight, bias = problem(64, 256, 3, size)
    _, other, few = problem(256, 12, 5, (1, 1))
    first = pack_conv(weight, bias, act="prelu", slope=torch.tensor([0.2]), device="cuda")
    second = pack_conv(other, few, shuffle=2, device="cuda")
    if tail_bytes(second, form) > torch.cuda.get_device_properties(0).shared_memory_per_block_optin:
        pytest.skip("wide strips need more shared memory than this GPU has")
    middle = on_gpu(torch.zeros(2, 256, *size, dtype=HALF))
    apart, together = (on_gpu(torch.zeros(2, 3, 2 * size[0], 2 * size[1], dtype=HALF)) for _ in range(2))
    conv_launch(on_gpu(x), first, middle)()
    conv_launch(middle, second, apart)()
    tail_launch(on_gpu(x), pack_tail(first, second, other), together, form=form)()
    torch.testing.assert_close(together.nchw().float(), apart.nchw().float(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("colour", [PlaneColour(1), PlaneColour(6, True, torch.uint16)])
@pytest.mark.parametrize("size", [(2, 2), (46, 130)])
def test_planes(size: tuple[int, int], colour: PlaneColour) -> None:
    shape = (2, size[0] // 2 * 3, size[1], 1)
    codes = torch.randint(0, colour.peak + 1, shape, generator=torch.Generator().manual_seed(0))
    planes = Planes.of((codes * colour.step).to(colour.dtype).cuda(), colour)
    image, flag = on_gpu(torch.zeros(2, 3, *size, dtype=HALF)), torch.zeros(1, dtype=torch.int32, device="cuda")
    load_planes_launch(planes, image, 1.0)()
    torch.testing.assert_close(image.nchw().double(), load_planes_reference(planes, 1.0), rtol=0, atol=6e-4)
    out = Planes.empty(2, *size, colour, "cuda")
    store_planes_launch(image, out, 1.0, flag)()
    expected = store_planes_reference(image.nchw(), 1.0, colour)
    assert int((out.picture.int() - expected.picture.int()).abs().max()) <= colour.step
    assert int(flag) == 0


@pytest.mark.parametrize("form", HOPPER)
@pytest.mark.parametrize("size", [(1, 1), (17, 64), (135, 241), (540, 960)])
def test_hopper(size: tuple[int, int], form: str) -> None:
    """Experiment E1: a form that fails here must not be named in configurations."""
    need_hopper(form)
    x, weight, bias = problem(64, 64, 3, size)
    out = on_gpu(torch.zeros_like(x))
    hopper_launch(on_gpu(x), pack_conv(weight, bias, device="cuda"), out, form=form)()
    torch.testing.assert_close(out.nchw().float(), expected_of(x, weight, bias), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (17, 64), (135, 241)])
def test_8_bits_have_the_bits_of_their_twin(size: tuple[int, int], residual: bool) -> None:
    """Sums of integers know no order, so even here nothing may differ."""
    need_hopper("wgmma")
    x, weight, bias = problem(64, 64, 3, size)
    rounding, after = LowPrecision(0.031, 120), LowPrecision(0.02, 99)
    slope = torch.tensor([0.2], device="cuda")
    source, out = on_gpu(x), on_gpu(torch.zeros_like(x))
    given, result = (on_gpu(torch.zeros(x.shape, dtype=torch.uint8)) for _ in range(2))
    packed = pack_int8(weight, bias, rounding, act="prelu", slope=slope, device="cuda")
    quantize_launch(source, ByteCanvas(given, rounding))()
    conv_int8_launch(given, packed, out, source if residual else None, out_bytes=ByteCanvas(result, after))()
    in_bytes = quantize_reference(x, rounding)
    assert torch.equal(given.nchw(), in_bytes)
    added = x if residual else None
    expected = int8_reference(in_bytes, rounding, weight, bias, act="prelu", slope=slope, residual=added).half()
    assert torch.equal(out.nchw(), expected)
    assert torch.equal(result.nchw(), quantize_reference(expected, after))


@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("size", [(1, 1), (17, 64), (135, 241), (270, 480)])
def test_trunk_has_the_bits_of_separate_launches(size: tuple[int, int], rows: int | None) -> None:
    """Again and again: blocks that wait for each other, in a graph too, with one strip a block and with several."""
    need_hopper("wgmma")
    x, weight, bias = problem(64, 64, 3, size)
    first = pack_conv(weight, bias, act="prelu", slope=torch.tensor([0.2]), device="cuda")
    second = pack_conv(weight.flip(0), bias, gain=0.2, device="cuda")
    convs = [first, second] * 4
    results, launches = [], []
    for together in (False, True):
        source, middle, out = on_gpu(x), *(on_gpu(torch.zeros_like(x)) for _ in range(2))
        layers = []
        for i in range(4):
            block = out if i else source
            layers += [Layer(block, middle), Layer(middle, out, block)]
        if together:
            launches = [trunk_launch(pack_trunk(convs), layers, rows=rows)]
        else:
            launches = [
                hopper_launch(layer.source, conv, layer.out, layer.residual, form="wgmma_held")
                for conv, layer in zip(convs, layers, strict=True)
            ]
        for launch in launches:
            launch()
        results.append(out)
    assert torch.equal(results[1].data, results[0].data)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launches[0]()
    for _ in range(50):
        results[1].data.zero_()
        graph.replay()
        assert torch.equal(results[1].data, results[0].data)


@pytest.mark.parametrize("programmatic", [False, True])
def test_launches_in_a_graph(programmatic: bool) -> None:
    """Programmatic dependent launches keep their order."""
    x, weight, bias = problem(64, 64, 3, (96, 160))
    packed = pack_conv(weight, bias, device="cuda")
    canvases = [on_gpu(x), on_gpu(torch.zeros_like(x))]

    def run() -> Tensor:
        canvases[0].nchw().copy_(x)
        for i in range(8):
            conv_launch(canvases[i % 2], packed, canvases[(i + 1) % 2], programmatic=programmatic and i > 0)()
        return canvases[0].data

    if programmatic and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("needs compute capability 9.0")
    expected = run().clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    for _ in range(5):
        graph.replay()
        assert torch.equal(canvases[0].data, expected)


@pytest.mark.parametrize("network", [SRResNet(scale=4), SRVGGNetCompact(upscale=4)])
def test_error_is_at_most_twice_eager(network: torch.nn.Module) -> None:
    torch.manual_seed(0)
    network = network.eval().cuda()
    x = torch.rand(1, 3, 135, 240, generator=torch.Generator().manual_seed(0)).cuda()
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        expected = network(x)
        run = CudaBackend().compile(optimise(capture(network)), torch.device("cuda"), HALF)
        ours = max(float((run(x.half()).float() - expected).abs().max()) for _ in range(3))
        allowed = float((network.half()(x.half()).float() - expected).abs().max())
    assert ours <= 2 * allowed


def test_tiles_equal_the_whole_image() -> None:
    plan = optimise(capture(SRVGGNetCompact(num_conv=4, upscale=2)))
    frames = (torch.rand(1, 190, 333, 3, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    whole = Engine(plan, device="cuda", tile=0, backend="cuda")
    assert torch.equal(whole(frames), Engine(plan, device="cuda", tile=64, backend="cuda")(frames))
