"""Frame conversions in CUDA against plain torch, and the matrices against known colours."""

from __future__ import annotations

import pytest
import torch
from cuda_problems import HALF

from srfast.kernels.canvas import Canvas
from srfast.kernels.cuda_frames import (
    Yuv,
    packed_in_launch,
    packed_out_launch,
    rgb_to_yuv,
    yuv_in_launch,
    yuv_out_launch,
    yuv_to_rgb,
)

KINDS = [
    Yuv(matrix, full, bits) for matrix in ("bt601", "bt709", "bt2020") for full in (False, True) for bits in (8, 10)
]


def integers(*shape: int, peak: int = 255, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.randint(0, peak + 1, shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.usefixtures("emulated_cuda")
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize(("channels", "swap"), [(3, True), (1, False), (4, False)])
def test_packed(dtype: torch.dtype, channels: int, swap: bool) -> None:
    peak = 255 if dtype == torch.uint8 else 65535
    frames = integers(2, 5, 7, channels, peak=peak, dtype=dtype)
    canvas = Canvas.allocate(2, channels, 5, 7, border=1)
    packed_in_launch(frames, canvas, 255 / peak, swap)()
    expected = (frames.float().flip(3) if swap else frames.float()) * (255 / peak)
    assert torch.equal(canvas.nchw().permute(0, 2, 3, 1), expected.half())
    flag = torch.zeros(1, dtype=torch.int32)
    back = torch.zeros_like(frames)
    packed_out_launch(canvas, back, peak / 255, flag, swap)()
    assert int((back.int() - frames.int()).abs().max()) <= (0 if peak == 255 else 32)
    assert int(flag) == 0
    canvas.nchw()[0, 0, 0, 0] = float("inf")
    packed_out_launch(canvas, back, 1.0, flag, swap)()
    assert int(flag) == 1


@pytest.mark.usefixtures("emulated_cuda")
@pytest.mark.parametrize("yuv", KINDS, ids=str)
@pytest.mark.parametrize("size", [(6, 8), (5, 3), (1, 1)])
def test_yuv(yuv: Yuv, size: tuple[int, int]) -> None:
    height, width = size
    top = 2**yuv.bits - 1
    luma = (integers(1, height, width, peak=top, dtype=torch.int32) << yuv.shift).to(yuv.dtype)
    half = (1, -(-height // 2), -(-width // 2), 2)
    chroma = (integers(*half, peak=top, dtype=torch.int32) << yuv.shift).to(yuv.dtype)
    canvas = Canvas.allocate(1, 3, height, width)
    yuv_in_launch(luma, chroma, canvas, yuv)()
    torch.testing.assert_close(canvas.nchw().float(), yuv_to_rgb(luma, chroma, yuv), rtol=1e-3, atol=1e-3)
    outs, flag = (torch.zeros_like(luma), torch.zeros_like(chroma)), torch.zeros(1, dtype=torch.int32)
    yuv_out_launch(canvas, *outs, yuv, flag)()
    for got, expected in zip(outs, rgb_to_yuv(canvas.nchw(), yuv), strict=True):
        assert int(((got.int() >> yuv.shift) - (expected.int() >> yuv.shift)).abs().max()) <= 1
    assert int(flag) == 0


@pytest.mark.parametrize("yuv", KINDS, ids=str)
def test_matrices(yuv: Yuv) -> None:
    """White, black and the primaries have the code values that the recommendations state; flat colour survives."""
    colours = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]])
    image = colours.view(4, 3, 1, 1).expand(4, 3, 4, 6)
    luma, chroma = rgb_to_yuv(image, yuv)
    codes = torch.stack([luma[:, 1, 1].int(), chroma[:, 1, 1, 0].int(), chroma[:, 1, 1, 1].int()], 1) >> yuv.shift
    step = 2 ** (yuv.bits - 8)
    black, white, low, high = (
        (0, 2**yuv.bits - 1, 0, 2**yuv.bits - 1) if yuv.full else (16 * step, 235 * step, 16, 240 * step)
    )
    assert codes[0].tolist() == [white, 128 * step, 128 * step]
    assert codes[1].tolist() == [black, 128 * step, 128 * step]
    assert int(codes[2, 2]) == high and int(codes[3, 1]) == high and low >= 0
    expected = {"bt601": 76.245, "bt709": 54.213, "bt2020": 66.9885}[yuv.matrix] / 255  # luma of red
    assert abs((int(codes[2, 0]) - black) / (white - black) - expected) < 0.004
    torch.testing.assert_close(yuv_to_rgb(luma, chroma, yuv), image, rtol=0, atol=0.01)


def test_known_value() -> None:
    """BT.709, limited range: (63, 102, 240) is pure red."""
    luma = torch.full((1, 2, 2), 63, dtype=torch.uint8)
    chroma = torch.tensor([102, 240], dtype=torch.uint8).expand(1, 1, 1, 2)
    red = yuv_to_rgb(luma, chroma, Yuv())[0, :, 0, 0]
    torch.testing.assert_close(red, torch.tensor([1.0, 0.0, 0.0]), rtol=0, atol=0.006)


def test_wrong_arguments() -> None:
    canvas = Canvas.allocate(1, 3, 4, 4, dtype=HALF)
    with pytest.raises(ValueError, match="one of bt601, bt709, bt2020"):
        Yuv("bt470")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="frames must be"):
        packed_in_launch(torch.zeros(1, 4, 4, 3), canvas, 1.0)
