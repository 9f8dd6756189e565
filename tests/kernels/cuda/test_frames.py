"""Frame conversions in CUDA against plain torch, and the matrices against known colours."""

from __future__ import annotations

import pytest
import torch

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.frames import load_planes_launch, packed_in_launch, packed_out_launch, store_planes_launch
from srfast.kernels.planes import PlaneColour, Planes, load_planes_reference, store_planes_reference
from tests.helpers.cuda.problems import HALF

KINDS = [
    PlaneColour(matrix, full, dtype)
    for matrix in (6, 1, 9)
    for full in (False, True)
    for dtype in (torch.uint8, torch.uint16)
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
@pytest.mark.parametrize("colour", KINDS, ids=str)
@pytest.mark.parametrize("size", [(2, 2), (6, 10)])
def test_planes(colour: PlaneColour, size: tuple[int, int]) -> None:
    height, width = size
    picture = integers(2, height // 2 * 3, width, 1, peak=colour.peak, dtype=torch.int32) * colour.step
    planes = Planes.of(picture.to(colour.dtype), colour)
    canvas = Canvas.allocate(2, 3, height, width)
    load_planes_launch(planes, canvas, 1.0)()
    torch.testing.assert_close(canvas.nchw().double(), load_planes_reference(planes, 1.0), rtol=0, atol=6e-4)
    canvas.nchw().mul_(300).sub_(20)  # some of it out of range
    out, flag = Planes.empty(2, height, width, colour, "cpu"), torch.zeros(1, dtype=torch.int32)
    store_planes_launch(canvas, out, 255.0, flag)()
    expected = store_planes_reference(canvas.nchw(), 255.0, colour)
    assert int((out.picture.int() - expected.picture.int()).abs().max()) <= colour.step
    assert int(flag) == 0
    canvas.nchw()[1, 2, 1, 1] = -float("inf")
    store_planes_launch(canvas, out, 255.0, flag)()
    assert int(flag) == 1


@pytest.mark.parametrize("colour", KINDS, ids=str)
def test_matrices(colour: PlaneColour) -> None:
    """White, black and the primaries have the code values that the recommendations state; flat colour survives."""
    colours = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]])
    image = colours.view(4, 3, 1, 1).expand(4, 3, 4, 6)
    planes = store_planes_reference(image, 1.0, colour)
    luma, chroma = planes.luma.int(), planes.chroma.int()
    codes = torch.cat([luma[:, 1, 1], chroma[:, 1, 1]], 1) // colour.step
    unit = 1 if colour.dtype == torch.uint8 else 4
    black, white, high = (0, colour.peak, colour.peak) if colour.full else (16 * unit, 235 * unit, 240 * unit)
    assert codes[0].tolist() == [white, 128 * unit, 128 * unit]
    assert codes[1].tolist() == [black, 128 * unit, 128 * unit]
    assert int(codes[2, 2]) == high and int(codes[3, 1]) == high
    expected = {6: 76.245, 1: 54.213, 9: 66.9885}[colour.matrix] / 255  # luma of red
    assert abs((int(codes[2, 0]) - black) / (white - black) - expected) < 0.004
    torch.testing.assert_close(load_planes_reference(planes, 1.0), image.double(), rtol=0, atol=0.01)


def test_known_value() -> None:
    """BT.709, limited range: (63, 102, 240) is pure red."""
    luma = torch.full((1, 2, 2, 1), 63, dtype=torch.uint8)
    chroma = torch.tensor([102, 240], dtype=torch.uint8).expand(1, 1, 1, 2)
    red = load_planes_reference(Planes(luma, chroma, PlaneColour()), 1.0)[0, :, 0, 0]
    torch.testing.assert_close(red, torch.tensor([1.0, 0.0, 0.0]).double(), rtol=0, atol=0.006)


def test_wrong_arguments() -> None:
    canvas = Canvas.allocate(1, 3, 4, 4, dtype=HALF)
    with pytest.raises(ValueError, match="frames must be"):
        packed_in_launch(torch.zeros(1, 4, 4, 3), canvas, 1.0)
    with pytest.raises(ValueError, match=r"planes of \(1, 4, 6\) do not fit"):
        load_planes_launch(Planes.empty(1, 4, 6, PlaneColour(), "cpu"), canvas, 1.0)
