"""What only a GPU can show: compiled kernels at real sizes, CUDA graphs, and memory."""

import pytest
import torch
from torch import Tensor

from srfast.backends.reference import ReferenceBackend
from srfast.backends.triton import TritonBackend
from srfast.capture import capture
from srfast.engine import Engine
from srfast.kernels import gluon
from srfast.kernels.buffers import Canvas
from srfast.kernels.planes import PlaneColour, load_planes_reference, store_planes_reference
from srfast.kernels.tools.candidates import PAIRS, Pair, Shape, Task, pack, weights
from srfast.kernels.triton.config import Config, PairConfig
from srfast.kernels.triton.conv import conv_launch
from srfast.models import SRUGAN, RRDBNet, SRResNet, SRVGGNetCompact
from srfast.plan.passes import in_units, optimise
from srfast.upscaler import Upscaler

pytestmark = pytest.mark.needs_gpu
HALF = torch.float16


def image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("warps", [4, 8])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("tile", [(8, 16), (4, 64), (16, 16)])
def test_warps(warps: int, swap: bool, tile: tuple[int, int]) -> None:
    """A rolled loop over taps has been miscompiled at 8 warps before (pytorch/pytorch issue 173068)."""
    config = Config(*tile, 64, warps, 3, swap)
    right(Task((Shape(64, 64, 3),), (config,), 135, 240))


def right(task: Task) -> None:
    """The first candidate gives the right result."""
    x = task.image().cuda()
    launch, out = task.prepare(task.configs[0], x, torch.device("cuda"))
    launch()
    torch.testing.assert_close(out.nchw().float(), task.expected(x), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("size", [(1, 1), (17, 64), (33, 65), (135, 240)])
def test_gluon(size: tuple[int, int]) -> None:
    """The Hopper kernel against the plain one: the same taps in the same order, so the same values but for rounding."""
    if torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("needs a Hopper GPU")
    if gluon.unavailable_reason():
        pytest.skip(str(gluon.unavailable_reason()))
    shape = Shape(64, 64, 3)
    weight, bias = weights(shape)
    x = torch.randn(2, 64, *size, generator=torch.Generator().manual_seed(1)).half().cuda()
    packed = pack(weight, bias, shape, 64)
    source, *outs = (Canvas.allocate(2, 64, *size, border=1, tile=(8, 16), dtype=HALF, device="cuda") for _ in range(3))
    source.nchw().copy_(x)
    for out, config in zip(outs, (Config(swap=True), Config(swap=True, gluon=True)), strict=True):
        conv_launch(source, packed, out, config, source)()
    torch.testing.assert_close(outs[1].data, outs[0].data, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("pair", PAIRS[:3])
def test_pairs(pair: Pair) -> None:
    swap = torch.cuda.get_device_capability()[0] == 9
    right(Task(pair, (PairConfig(swap=swap),), 68, 120))


@pytest.mark.parametrize("network", [SRResNet(scale=4), SRVGGNetCompact(upscale=4)])
def test_error_is_at_most_twice_eager(network: torch.nn.Module) -> None:
    torch.manual_seed(0)
    network = network.eval().cuda()
    x = image(270, 480).cuda()
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        expected = network(x)
        run = TritonBackend().compile(optimise(capture(network)), torch.device("cuda"), HALF)
        ours = (run(x.half()).float() - expected).abs().max()
        allowed = (network.half()(x.half()).float() - expected).abs().max()
    assert float(ours) <= 2 * float(allowed)


def test_graphs_give_the_same_bits() -> None:
    plan = optimise(capture(SRVGGNetCompact(upscale=2)))
    device = torch.device("cuda")
    launched = TritonBackend(graphs=False).compile(plan, device, HALF)
    replayed = TritonBackend().compile(plan, device, HALF)
    for size in ((64, 96), (33, 47), (64, 96), (100, 20)):
        x = image(*size).cuda().half()
        expected = launched(x)
        for _ in range(3):
            assert torch.equal(replayed(x), expected)


def test_frames_need_no_memory_once_warm() -> None:
    plan = in_units(optimise(capture(SRVGGNetCompact(upscale=2))), 1.0, 255.0)
    run = TritonBackend().compile(plan, torch.device("cuda"), HALF)
    frames = (image(90, 160).permute(0, 2, 3, 1) * 255).to(torch.uint8).cuda()
    results = []
    for _ in range(3):
        out, flag = run.run_frames(frames, 1 / 255, 255.0)
        results.append(out.clone())
    before = torch.cuda.memory_stats()["allocation.all.allocated"]
    out, flag = run.run_frames(frames, 1 / 255, 255.0)
    assert torch.cuda.memory_stats()["allocation.all.allocated"] == before
    assert int(flag) == 0
    assert all(torch.equal(out, earlier) for earlier in results)


@pytest.mark.parametrize("network", [RRDBNet(num_block=1), SRUGAN(2, blocks=1)])
def test_every_kind_of_node(network: torch.nn.Module) -> None:
    """Dense blocks, pools, gates and moments, compiled and in a graph."""
    plan = optimise(capture(network.eval()))
    x = image(60, 84)
    expected = ReferenceBackend().compile(plan, torch.device("cpu"), torch.float32)(x)
    run = TritonBackend().compile(plan, torch.device("cuda"), HALF)
    for _ in range(3):
        ours = run(x.half().cuda()).float().cpu()
    half = ReferenceBackend().compile(plan, torch.device("cuda"), HALF)(x.half().cuda()).float().cpu()
    assert float((ours - expected).abs().max()) <= 2 * float((half - expected).abs().max()) + 1e-3


def test_planes() -> None:
    plan = in_units(optimise(capture(SRVGGNetCompact(num_conv=2, upscale=2))), 1.0, 255.0)
    planes = store_planes_reference(image(60, 84), 1.0, PlaneColour())
    out, flag = TritonBackend().compile(plan, torch.device("cuda"), HALF).run_planes(planes, 1.0, 255.0)
    y = ReferenceBackend().compile(plan, torch.device("cpu"), torch.float64)(load_planes_reference(planes, 1.0))
    expected = store_planes_reference(y, 255.0, PlaneColour())
    assert int(flag) == 0
    for ours, theirs in ((out.luma, expected.luma), (out.chroma, expected.chroma)):
        assert (ours.cpu().int() - theirs.int()).abs().max() <= 1


@pytest.mark.parametrize("tile", [0, 40])
def test_a_stream_of_host_frames_equals_frames_on_the_device(tile: int) -> None:
    """Page-locked staging on streams of its own, against images that are never copied."""
    plan = optimise(capture(SRVGGNetCompact(num_conv=4, upscale=2)))
    engine = Engine(plan, device="cuda", tile=tile)
    batches = [(torch.rand(1 + i % 2, 96, 160, 3) * 255).to(torch.uint8) for i in range(12)]
    expected = [engine(batch.cuda()).cpu() for batch in batches]
    for ours, theirs in zip(engine.stream(batches), expected, strict=True):
        assert ours.is_pinned()
        assert torch.equal(ours, theirs)


def test_device_tensors_stay_there() -> None:
    """No copy between host and device but the flag's, from DLPack to DLPack."""
    upscaler = Upscaler(SRVGGNetCompact(num_conv=2, upscale=2), device="cuda")
    x = (torch.rand(1, 3, 64, 96, device="cuda") * 255).to(torch.uint8)
    upscaler(x)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        out = torch.utils.dlpack.from_dlpack(upscaler(x))
        torch.cuda.synchronize()
    assert out.device == x.device
    copies = [event.name for event in profile.events() if "HtoD" in event.name or "DtoH" in event.name]
    assert len(copies) <= 1


def test_tiles_equal_the_whole_image() -> None:
    plan = optimise(capture(SRVGGNetCompact(num_conv=4, upscale=2)))
    frames = (image(190, 333).permute(0, 2, 3, 1) * 255).to(torch.uint8)
    whole = Engine(plan, device="cuda", tile=0)
    assert whole.backend.name == "triton"
    assert torch.equal(whole(frames), Engine(plan, device="cuda", tile=64)(frames))
