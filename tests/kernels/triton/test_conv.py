"""The Triton convolution against its plain-torch twin in float64, in the interpreter or on a GPU."""

import pytest
import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.packing import pack_conv
from srfast.kernels.reference import conv_reference
from srfast.kernels.targets import FrameTarget
from srfast.kernels.triton.config import Config
from srfast.kernels.triton.conv import conv_launch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = Config(tile_h=4, tile_w=8, block_o=64, warps=4, stages=2)


def random(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float16) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator) * scale).to(dtype)


def canvas_of(x: Tensor, border: int, config: Config) -> Canvas:
    n, c, h, w = x.shape
    canvas = Canvas.allocate(n, c, h, w, border=border, tile=config.tile, dtype=x.dtype, device=DEVICE)
    canvas.nchw().copy_(x)
    return canvas


def check(
    size: tuple[int, int],
    channels: int,
    out: int,
    kernel: int,
    *,
    config: Config = SMALL,
    dtype: torch.dtype = torch.float16,
    images: int = 1,
    act: str = "none",
    shared: bool = False,
    shuffle: int = 1,
    gain: float = 1.0,
    residual: bool = False,
    clamp: tuple[float, float] | None = None,
) -> None:
    """Kernel against twin: all but the last rounding is done in float32."""
    x = random(images, channels, *size, dtype=dtype)
    weight = random(out, channels, kernel, kernel, seed=1, scale=(channels * kernel**2) ** -0.5, dtype=dtype)
    bias = random(out, seed=2).float()
    slope = None if act != "prelu" else random(1 if shared else out, seed=3, scale=0.3).float()
    result = (images, out // shuffle**2, size[0] * shuffle, size[1] * shuffle)
    other = random(*result, seed=4, dtype=dtype) if residual else None
    expected = conv_reference(
        x.double(),
        weight.double(),
        bias.double(),
        act=act,
        slope=None if slope is None else slope.double(),
        shuffle=shuffle,
        gain=gain,
        residual=None if other is None else other.double(),
        clamp=clamp,
    )
    packed = pack_conv(
        weight,
        bias,
        act=act,
        slope=slope,
        shuffle=shuffle,
        gain=gain,
        clamp=clamp,
        block_o=config.block_o,
        dtype=dtype,
        device=DEVICE,
    )
    y = Canvas.allocate(*result[:4], border=2, dtype=dtype, device=DEVICE)
    conv_launch(
        canvas_of(x, kernel // 2, config), packed, y, config, None if other is None else canvas_of(other, 1, config)
    )()
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(y.nchw().double().cpu(), expected, rtol=step, atol=2e-5)
    outside = y.data.clone()
    Canvas(outside, y.height, y.width, y.channels, y.border).nchw().zero_()
    assert not outside.any(), "the kernel wrote outside the image"


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (4, 8), (3, 13), (9, 2)])
def test_sizes(size: tuple[int, int]) -> None:
    check(size, 16, 16, 3)


@pytest.mark.parametrize(
    ("channels", "out", "kernel"),
    [
        (3, 64, 9),
        (3, 32, 3),
        (4, 16, 5),
        (1, 16, 3),
        (7, 16, 3),
        (12, 32, 1),
        (48, 64, 3),
        (64, 3, 9),
        (64, 64, 3),
        (192, 32, 3),
    ],
)
@pytest.mark.parametrize("swap", [False, True])
def test_channels(channels: int, out: int, kernel: int, swap: bool) -> None:
    check((5, 7), channels, out, kernel, config=Config(4, 8, 64, 4, 3, swap), act="prelu")


@pytest.mark.parametrize("size", [(3, 5), (1, 1)])
@pytest.mark.parametrize(("channels", "out", "shuffle"), [(64, 256, 2), (256, 12, 2), (16, 48, 4), (16, 27, 3)])
def test_shuffle(size: tuple[int, int], channels: int, out: int, shuffle: int) -> None:
    check(size, channels, out, 3, act="prelu", shuffle=shuffle)


@pytest.mark.parametrize("act", ["none", "prelu", "tanh", "sigmoid"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_epilogue(act: str, dtype: torch.dtype) -> None:
    check((5, 6), 16, 32, 3, dtype=dtype, images=2, act=act, shared=True, gain=0.2, residual=True, clamp=(-0.7, 0.9))


def test_shuffled_residual() -> None:
    check((5, 6), 16, 12, 3, act="prelu", shuffle=2, gain=1.5, residual=True, clamp=(-1.0, 1.0))


@pytest.mark.parametrize("config", [Config(8, 16, 32, 4, 3), Config(1, 64, 64, 4, 4, True), Config(16, 16, 16, 8, 2)])
def test_configurations(config: Config) -> None:
    check((9, 19), 32, 48, 3, config=config, act="prelu", residual=True)


def test_channel_slices() -> None:
    """Dense blocks: reads channels 0..48 of a buffer of 96 and writes channels 48..80 of the same."""
    dtype = torch.float16
    buffer = Canvas.allocate(1, 96, 6, 9, border=1, tile=SMALL.tile, dtype=dtype, device=DEVICE)
    x = random(1, 96, 6, 9)
    buffer.nchw().copy_(x)
    weight, bias = random(32, 48, 3, 3, seed=1, scale=0.05), random(32, seed=2)
    packed = pack_conv(weight, bias, dtype=dtype, device=DEVICE)
    conv_launch(buffer.channel_slice(0, 48), packed, buffer.channel_slice(48, 32), SMALL)()
    expected = x.double()
    expected[:, 48:80] = conv_reference(x[:, :48].double(), weight.double(), bias.double())
    torch.testing.assert_close(buffer.nchw().double().cpu(), expected, rtol=1e-3, atol=2e-5)


def test_nearest_residual() -> None:
    """A residual of a smaller size is enlarged by nearest neighbour."""
    x, base = random(1, 16, 5, 7), random(1, 3, 5, 7, seed=4)
    weight, bias = random(48, 16, 3, 3, seed=1, scale=0.1), random(48, seed=2)
    packed = pack_conv(weight, bias, shuffle=4, device=DEVICE)
    y = Canvas.allocate(1, 3, 20, 28, device=DEVICE)
    conv_launch(canvas_of(x, 1, SMALL), packed, y, SMALL, canvas_of(base, 4, SMALL))()
    expected = conv_reference(x.double(), weight.double(), bias.double(), shuffle=4)
    expected += base.double().repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(y.nchw().double().cpu(), expected, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize(("dtype", "steps"), [(torch.uint8, 1.0), (torch.uint16, 257.0)])
def test_frames(dtype: torch.dtype, steps: float) -> None:
    """The last convolution writes frames, rounded and saturated, into a part of larger ones."""
    x = random(2, 16, 5, 7)
    weight, bias = random(12, 16, 3, 3, seed=1, scale=6.0), random(12, seed=2) + 128
    expected = conv_reference(x.double(), weight.double(), bias.double(), shuffle=2).permute(0, 2, 3, 1)
    assert (expected < 0).any()
    assert (expected > 255).any()
    packed = pack_conv(weight, bias, shuffle=2, device=DEVICE)
    flag = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    whole = torch.zeros(2, 13, 20, 3, dtype=dtype, device=DEVICE)
    frame = whole[:, 2:12, 4:18]
    conv_launch(canvas_of(x, 1, SMALL), packed, FrameTarget(frame, 255.0, flag), SMALL)()
    error = (frame.double().cpu() - (expected * steps).clamp(0, 255 * steps)).abs()
    assert float(error.max()) <= 0.5 + 1e-2
    assert int(flag) == 0
    frame.zero_()
    assert not whole.any(), "the kernel wrote outside its part"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_frames_report_what_is_not_finite(bad: float) -> None:
    x = random(1, 16, 5, 7)
    packed = pack_conv(random(3, 16, 3, 3, seed=1), random(3, seed=2), device=DEVICE)
    flag = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    frame = torch.zeros(1, 5, 7, 3, dtype=torch.uint8, device=DEVICE)
    for position in ((0, 3, 4, 6), (0, 0, 0, 0)):
        conv_launch(canvas_of(x, 1, SMALL), packed, FrameTarget(frame, 255.0, flag.zero_()), SMALL)()
        assert int(flag) == 0
        broken = x.clone()
        broken[position] = bad
        conv_launch(canvas_of(broken, 1, SMALL), packed, FrameTarget(frame, 255.0, flag), SMALL)()
        assert int(flag) == 1


def test_nan_passes_the_clamp() -> None:
    x = random(1, 16, 3, 3)
    x[0, 0, 1, 1] = float("nan")
    packed = pack_conv(random(16, 16, 1, 1, seed=1), random(16, seed=2), clamp=(0.0, 1.0), device=DEVICE)
    y = Canvas.allocate(1, 16, 3, 3, device=DEVICE)
    conv_launch(canvas_of(x, 0, SMALL), packed, y, SMALL)()
    assert y.nchw()[0, :, 1, 1].isnan().all()
    assert int(y.nchw().isnan().sum()) == 16


def test_launch_checks() -> None:
    packed = pack_conv(random(16, 16, 3, 3), random(16), device=DEVICE)
    x, y = canvas_of(random(1, 16, 5, 7), 1, SMALL), Canvas.allocate(1, 16, 5, 7, device=DEVICE)
    cases = [
        ("no room", canvas_of(random(1, 16, 5, 7), 0, SMALL), y, None),
        ("no room", canvas_of(random(1, 16, 5, 7), 1, Config(1, 16)), y, None),
        ("reads 16 channels", canvas_of(random(1, 32, 5, 7), 1, SMALL), y, None),
        ("the input torch.bfloat16", canvas_of(random(1, 16, 5, 7, dtype=torch.bfloat16), 1, SMALL), y, None),
        ("output canvas", x, Canvas.allocate(1, 16, 5, 8, device=DEVICE), None),
        ("output canvas", x, Canvas.allocate(1, 16, 5, 7, dtype=torch.bfloat16, device=DEVICE), None),
        ("residual", x, y, canvas_of(random(1, 16, 4, 7), 1, SMALL)),
    ]
    for message, source, target, residual in cases:
        with pytest.raises(ValueError, match=message):
            conv_launch(source, packed, target, SMALL, residual)
    with pytest.raises(ValueError, match="do not fit"):
        pack_conv(random(16, 16, 3, 3), random(15))
    with pytest.raises(ValueError, match="slopes"):
        pack_conv(random(16, 16, 3, 3), random(16), act="prelu", slope=random(3))
