"""Two convolutions in one launch: against the twin in float64, and against two launches to the bit."""

import pytest
import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.packing import pack_conv
from srfast.kernels.reference import conv_reference
from srfast.kernels.targets import FrameTarget
from srfast.kernels.triton.config import Config, PairConfig
from srfast.kernels.triton.conv import conv_launch
from srfast.kernels.triton.pair import pair_launch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SINGLE = Config(4, 8, 64, 4, 2)
PAIR = PairConfig(8, 8, 32, 64, 4, 2)
HALF = torch.float16


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).half()


def canvas_of(x: Tensor, border: int) -> Canvas:
    n, c, h, w = x.shape
    canvas = Canvas.allocate(n, c, h, w, border=border, tile=(8, 8), dtype=x.dtype, device=DEVICE)
    canvas.nchw().copy_(x)
    return canvas


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (9, 17)])
@pytest.mark.parametrize(("channels", "swap"), [(16, False), (64, True)])
def test_residual_block(size: tuple[int, int], channels: int, swap: bool) -> None:
    x = random(2, channels, *size)
    w1, w2 = (random(channels, channels, 3, 3, seed=s, scale=0.4 / channels**0.5) for s in (1, 2))
    b1, b2, slope = (random(channels, seed=s).float() for s in (3, 4, 5))
    first = pack_conv(w1, b1, act="prelu", slope=slope[:1], device=DEVICE)
    second = pack_conv(w2, b2, gain=0.5, device=DEVICE)
    source = canvas_of(x, 2)
    fused, middle, two = (Canvas.allocate(2, channels, *size, border=1, tile=(8, 8), device=DEVICE) for _ in range(3))
    pair_launch(source, first, second, fused, PairConfig(8, 8, 32, 64, 4, 2, swap), source, programs=2)()
    conv_launch(source, first, middle, SINGLE)()
    conv_launch(middle, second, two, SINGLE, source)()
    assert torch.equal(fused.data, two.data)
    y = conv_reference(x.double(), w1.double(), b1.double(), act="prelu", slope=slope[:1].double()).half().double()
    expected = conv_reference(y, w2.double(), b2.double(), gain=0.5, residual=x.double())
    torch.testing.assert_close(fused.nchw().double().cpu(), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(("channels", "middle", "kernel"), [(16, 80, 5), (3, 32, 3)])
def test_tail(channels: int, middle: int, kernel: int) -> None:
    """The sub-pixel tail: many channels in the middle, a shuffled store of frames."""
    size = (5, 9)
    x = random(1, channels, *size)
    w1 = random(middle, channels, 3, 3, seed=1, scale=0.1)
    w2 = random(12, middle, kernel, kernel, seed=2, scale=2.0)
    b1, b2, slope = random(middle, seed=3).float(), random(12, seed=4).float() + 128, random(middle, seed=5).float()
    first = pack_conv(w1, b1, act="prelu", slope=slope, device=DEVICE)
    second = pack_conv(w2, b2, shuffle=2, device=DEVICE)
    flag = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    fused, two = (torch.zeros(1, 10, 18, 3, dtype=torch.uint8, device=DEVICE) for _ in range(2))
    pair_launch(canvas_of(x, 1 + kernel // 2), first, second, FrameTarget(fused, 255.0, flag), PAIR)()
    between = Canvas.allocate(1, middle, *size, border=kernel // 2, tile=(8, 8), device=DEVICE)
    conv_launch(canvas_of(x, 1), first, between, SINGLE)()
    conv_launch(between, second, FrameTarget(two, 255.0, flag), SINGLE)()
    assert torch.equal(fused, two)
    assert fused.float().std() > 10


def test_checks() -> None:
    x = canvas_of(random(1, 16, 5, 7), 2)
    y = Canvas.allocate(1, 16, 5, 7, device=DEVICE)
    plain = pack_conv(random(16, 16, 3, 3), random(16), device=DEVICE)
    other = pack_conv(random(16, 32, 3, 3), random(16), device=DEVICE)
    with pytest.raises(ValueError, match="no room"):
        pair_launch(canvas_of(random(1, 16, 5, 7), 1), plain, plain, y, PAIR)
    with pytest.raises(ValueError, match="reads 32 channels"):
        pair_launch(x, plain, other, y, PAIR)
    with pytest.raises(ValueError, match="bias and an activation only"):
        pair_launch(x, pack_conv(random(16, 16, 3, 3), random(16), gain=2.0, device=DEVICE), plain, y, PAIR)
    with pytest.raises(ValueError, match="whole chunks"):
        PairConfig(4, 4, 32)
