"""What only a GPU can show: compiled kernels at real sizes, CUDA graphs, and memory."""

import pytest
import torch
from torch import Tensor

from srfast.backends.triton import TritonBackend
from srfast.capture import capture
from srfast.engine import Engine
from srfast.kernels.triton_config import Config
from srfast.kernels.triton_conv_launch import conv_launch
from srfast.kernels.triton_tune import PAIRS, Shape, Tuner, canvas_of, pack, reference, result_of, weights
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.passes import in_units, optimise

pytestmark = pytest.mark.needs_gpu
HALF = torch.float16


def image(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("warps", [4, 8])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("tile", [(8, 16), (4, 64), (16, 16)])
def test_warps(warps: int, swap: bool, tile: tuple[int, int]) -> None:
    """A rolled loop over taps has been miscompiled at 8 warps before (pytorch/pytorch issue 173068)."""
    shape = Shape(64, 64, 3)
    tuner = Tuner(135, 240)
    weight, bias = weights(shape)
    x = tuner.image(shape)
    config = Config(*tile, 64, warps, 3, swap)
    expected = reference(x, weight, bias, shape)
    out = result_of(expected)
    conv_launch(canvas_of(x, 1, config.tile), pack(weight, bias, shape, 64), out, config)()
    torch.testing.assert_close(out.nchw().float(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (17, 64), (33, 65), (135, 240)])
def test_gluon(size: tuple[int, int]) -> None:
    """The Hopper kernel against the plain one: the same taps in the same order, so the same values but for rounding."""
    if torch.cuda.get_device_capability()[0] != 9:
        pytest.skip("needs a Hopper GPU")
    shape = Shape(64, 64, 3)
    weight, bias = weights(shape)
    x = torch.randn(2, 64, *size, generator=torch.Generator().manual_seed(1)).half().cuda()
    packed = pack(weight, bias, shape, 64)
    source = canvas_of(x, 1, (8, 16))
    outs = [result_of(x.float()) for _ in range(2)]
    for out, config in zip(outs, (Config(swap=True), Config(swap=True, gluon=True)), strict=True):
        conv_launch(source, packed, out, config, source)()
    torch.testing.assert_close(outs[1].data, outs[0].data, rtol=1e-3, atol=1e-3)


def test_pairs() -> None:
    """At least one configuration of each pair compiles, fits and is right."""
    for first, second in PAIRS:
        assert Tuner(135, 240).pair(first, second)[1] < float("inf")


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


def test_tiles_equal_the_whole_image() -> None:
    plan = optimise(capture(SRVGGNetCompact(num_conv=4, upscale=2)))
    frames = (image(190, 333).permute(0, 2, 3, 1) * 255).to(torch.uint8)
    whole = Engine(plan, device="cuda", tile=0)
    assert whole.backend.name == "triton"
    assert torch.equal(whole(frames), Engine(plan, device="cuda", tile=64)(frames))
