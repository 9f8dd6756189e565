"""The Hopper convolution in 8 bits, emulated: bit for bit its twin, whose sums are exact."""

from __future__ import annotations

import pytest
import torch

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv_int8 import ByteCanvas, conv_int8_launch, fragments, int8_fits, pack_int8, quantize_launch
from srfast.kernels.int8 import LowPrecision, int8_reference, quantize_reference, round_weight
from srfast.kernels.reference import conv_reference
from tests.helpers.cuda.int8 import IN, OUT, byte_canvas, check_int8, check_quantize
from tests.helpers.cuda.problems import BRAIN, HALF, canvas_of, numbers

pytestmark = pytest.mark.usefixtures("emulated_cuda")


@pytest.mark.parametrize("writes", ["halves", "bytes", "both"])
@pytest.mark.parametrize(
    ("size", "images", "dtype", "prelu", "residual"),
    [
        ((1, 1), 1, HALF, True, False),
        ((1, 65), 2, BRAIN, True, True),
        ((7, 63), 1, HALF, False, True),
        ((4, 129), 1, BRAIN, False, False),
    ],
)
def test_parity(
    size: tuple[int, int], images: int, dtype: torch.dtype, prelu: bool, residual: bool, writes: str
) -> None:
    """One pixel, one row, strips cut on the right and below, batches."""
    check_int8(size, images=images, dtype=dtype, prelu=prelu, residual=residual, writes=writes)


@pytest.mark.parametrize(("images", "height", "blocks"), [(8, 1, 1), (6, 3, 1), (1, 37, 3)])
def test_strips_and_rings(images: int, height: int, blocks: int) -> None:
    """Several strips to a block of threads, a ring that wraps round, and a warpgroup without a row."""
    check_int8((height, 64), images=images, prelu=True, blocks=blocks)


@pytest.mark.parametrize("residual", [False, True])
def test_shuffle(residual: bool) -> None:
    """64 to 256 channels: a block of 64 is a phase."""
    check_int8((3, 66), images=2, prelu=True, residual=residual, shuffle=2, blocks=5)


@pytest.mark.parametrize("zero", [0, 255])
def test_zeros_at_the_ends(zero: int) -> None:
    check_int8((3, 5), rounding=LowPrecision(0.01, zero))


def test_largest_sums_are_exact() -> None:
    """Beyond 2^24, where float32 no longer holds every integer: they are sums of integers until they are rounded once."""
    weight = torch.ones(64, 64, 3, 3)
    weight[1::2] = -1.0
    weight[:, 0, 0, 0] = 0.5  # 64 of 127: an odd sum
    rounding = LowPrecision(1.0 / 65536, 0)
    conv = pack_int8(weight, torch.zeros(64), rounding, dtype=BRAIN)
    x = torch.full((1, 64, 3, 3), 255, dtype=torch.uint8)
    out = canvas_of(torch.zeros(1, 64, 3, 3), BRAIN)
    conv_int8_launch(byte_canvas(x), conv, out)()
    expected = int8_reference(x, rounding, weight, torch.zeros(64))
    assert torch.equal(out.nchw(), expected.to(BRAIN))
    assert float(expected[0, 0, 1, 1]) == pytest.approx(255 * (575 + 64 / 127) / 65536, rel=1e-6)


def test_the_twin_is_close_to_the_convolution() -> None:
    """As far from it as rounding to 8 bits takes it, and no further."""
    x, weight, bias = numbers(1, 64, 9, 8), numbers(64, 64, 3, 3, seed=1, scale=24.0**-1), numbers(64, seed=2)
    rounding = LowPrecision(8.0 / 255, 127)
    y = int8_reference(quantize_reference(x, rounding), rounding, weight, bias, act="prelu", slope=torch.tensor([0.2]))
    expected = conv_reference(x, weight, bias, act="prelu", slope=torch.tensor([0.2]))
    # Rounding errors are spread evenly over a step: each has a twelfth of its square on average.
    _, scale = round_weight(weight)
    noise = (weight.square().sum((1, 2, 3)) * rounding.scale**2 / 12 + 576 * scale**2 / 12).sqrt().mean()
    error = (y - expected).square().mean().sqrt()
    assert 0.5 * noise < error < 1.1 * noise


def test_fragments() -> None:
    """A thread's registers of wgmma's left operand, by the PTX ISA's figure of m64k32."""
    weight = torch.arange(64 * 64 * 9).remainder(251).sub(125).view(64, 64, 3, 3).to(torch.int8)
    packed = fragments(weight)
    assert packed.shape == (1, 18, 128, 16)
    tap, k, thread = 5, 1, 77
    for i in range(16):
        register = i // 4
        row = thread // 32 * 16 + thread % 32 // 4 + register % 2 * 8
        column = k * 32 + thread % 4 * 4 + i % 4 + register // 2 * 16
        assert int(packed[0, tap * 2 + k, thread, i]) == int(weight[row, column, tap // 3, tap % 3])


@pytest.mark.parametrize("dtype", [HALF, BRAIN])
def test_quantize(dtype: torch.dtype) -> None:
    """Halves of steps, what lies beyond the bytes, infinities and NaN."""
    values = numbers(2, 64, 3, 37, scale=3.0)
    values[0, :12, 0, 0] = torch.tensor(
        [0.0, -0.0, 0.5, 1.5, -0.5, -1.5, 6e4, -6e4, 1e-7, float("inf"), -float("inf"), 254.5]
    )
    values[1, 0, 2, 36] = float("nan")
    check_quantize(values, LowPrecision(0.05, 131), dtype)
    check_quantize(values, LowPrecision(1.0, 1), dtype)
    check_quantize(values, LowPrecision(2.0, 0), dtype)


def test_both_ways_to_bytes_are_one() -> None:
    """A convolution that ends in bytes has those of its 16-bit result."""
    weight, bias = numbers(64, 64, 3, 3, seed=1, scale=24.0**-1), numbers(64, seed=2)
    conv, x = pack_int8(weight, bias, IN), byte_canvas(quantize_reference(numbers(1, 64, 5, 70), IN))
    halves = canvas_of(torch.zeros(1, 64, 5, 70))
    ended, apart = (ByteCanvas(byte_canvas(torch.zeros(1, 64, 5, 70, dtype=torch.uint8)), OUT) for _ in range(2))
    conv_int8_launch(x, conv, halves, out_bytes=ended)()
    quantize_launch(halves, apart)()
    assert torch.equal(ended.canvas.nchw(), apart.canvas.nchw())


def test_others_are_refused() -> None:
    weight, bias = numbers(64, 64, 3, 3), torch.zeros(64)
    for arguments, reason in (
        ((weight[:, :32], "none", 1, 1.0, None, False), "not 3x3 of 32 to 64 with shuffle 1"),
        ((weight, "none", 2, 1.0, None, False), "to 64 with shuffle 2"),
        ((weight, "tanh", 1, 1.0, None, False), "not in tanh"),
        ((weight, "none", 1, 1.0, (0.0, 1.0), False), "not in a clamp"),
        ((weight, "none", 1, 0.5, None, False), "a gain before a residual only"),
    ):
        assert reason in (int8_fits(*arguments) or "")
    conv, x = pack_int8(weight, bias, IN), byte_canvas(torch.zeros(1, 64, 3, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="needs a canvas"):
        conv_int8_launch(x, conv, None)
    with pytest.raises(ValueError, match="the input is"):
        conv_int8_launch(canvas_of(torch.zeros(1, 64, 3, 3)), conv, canvas_of(torch.zeros(1, 64, 3, 3)))
    with pytest.raises(ValueError, match="the output is"):
        conv_int8_launch(x, conv, Canvas.allocate(1, 64, 3, 4))
