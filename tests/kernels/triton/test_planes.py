"""Video planes in and out against their twin, and the twin against what is known of the formats."""

import pytest
import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.planes import PlaneColour, Planes, load_planes_reference, store_planes_reference
from srfast.kernels.triton.planes import load_planes_launch, store_planes_launch
from tests.helpers.buffers import DEVICE, canvas_of, random

COLOURS = [PlaneColour(1), PlaneColour(6, full=True), PlaneColour(9, dtype=torch.uint16)]


def planes_of(images: int, height: int, width: int, colour: PlaneColour) -> Planes:
    generator = torch.Generator().manual_seed(0)
    planes = Planes.empty(images, height, width, colour, "cpu")
    for plane in (planes.luma, planes.chroma):
        codes = torch.randint(0, colour.peak + 1, plane.shape, generator=generator)
        plane.copy_((codes * colour.step).to(colour.dtype))
    return planes


def on_device(planes: Planes) -> Planes:
    return Planes(planes.luma.to(DEVICE), planes.chroma.to(DEVICE), planes.colour)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [(1, 2, 2), (2, 6, 10), (1, 4, 516)])
def test_load(size: tuple[int, int, int], colour: PlaneColour) -> None:
    planes = planes_of(*size, colour)
    out = Canvas.allocate(size[0], 3, *size[1:], border=1, device=DEVICE)
    load_planes_launch(on_device(planes), out, 1.0)()
    error = (out.nchw().double().cpu() - load_planes_reference(planes, 1.0)).abs()
    assert float(error.max()) <= 2**-11  # half a step of float16 below 1


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [(1, 2, 2), (2, 6, 10), (1, 4, 516)])
def test_store(size: tuple[int, int, int], colour: PlaneColour) -> None:
    x = random(size[0], 3, *size[1:]) * 80 + 128  # beyond both ends
    out = Planes.empty(*size, colour, DEVICE)
    flag = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    store_planes_launch(canvas_of(x), out, 255.0, flag)()
    expected = store_planes_reference(x, 255.0, colour)
    for ours, theirs in ((out.luma, expected.luma), (out.chroma, expected.chroma)):
        codes = ours.cpu().int() // colour.step - theirs.int() // colour.step
        assert not (ours.cpu().int() % colour.step).any()
        assert codes.abs().max() <= 1  # float32 against float64 at a tie
        assert (codes != 0).double().mean() < 1e-2
    assert int(flag) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", [(0, 0, 0), (1, 3, 5), (2, 2, 4)])
def test_store_reports_what_is_not_finite(where: tuple[int, int, int], value: float) -> None:
    x = random(1, 3, 4, 6)
    x[0][where] = value
    flag = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    store_planes_launch(canvas_of(x), Planes.empty(1, 4, 6, COLOURS[0], DEVICE), 1.0, flag)()
    assert int(flag) == 1


def flat(rgb: tuple[float, float, float]) -> Tensor:
    return torch.tensor(rgb, dtype=torch.float64).view(1, 3, 1, 1).expand(1, 3, 2, 4)


@pytest.mark.parametrize(
    ("colour", "rgb", "codes"),
    [  # the colour bars of ITU-R BT.709 and BT.601, and of BT.2020 in 10 bits
        (PlaneColour(1), (1, 1, 1), (235, 128, 128)),
        (PlaneColour(1), (0, 0, 0), (16, 128, 128)),
        (PlaneColour(1), (1, 0, 0), (63, 102, 240)),
        (PlaneColour(6), (0, 0, 1), (41, 240, 110)),
        (PlaneColour(6, full=True), (0, 1, 0), (150, 44, 21)),
        (PlaneColour(9, dtype=torch.uint16), (1, 1, 1), (940 << 6, 512 << 6, 512 << 6)),
    ],
)
def test_known_colours(colour: PlaneColour, rgb: tuple[float, float, float], codes: tuple[int, int, int]) -> None:
    planes = store_planes_reference(flat(rgb), 1.0, colour)
    given = [int(planes.luma[0, 0, 0, 0]), *planes.chroma[0, 0, 0].tolist()]
    assert given == list(codes)
    back = load_planes_reference(planes, 1.0)
    torch.testing.assert_close(back, flat(rgb), rtol=0, atol=0.5 / 60 if colour.peak == 255 else 2e-3)


def test_chroma_lies_at_even_columns_between_rows() -> None:
    """A ramp of colour differences along both directions comes back as the ramp, away from the borders."""
    x = torch.arange(16, dtype=torch.float64).view(1, 1, 1, 16)
    y = torch.arange(12, dtype=torch.float64).view(1, 1, 12, 1)
    grey = (0.3 + 0.01 * x + 0.015 * y).expand(1, 1, 12, 16)
    rgb = torch.cat([grey, torch.full_like(grey, 0.4), 0.8 - grey], 1)
    back = load_planes_reference(store_planes_reference(rgb, 1.0, PlaneColour(1, True, torch.uint16)), 1.0)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(back[inside], rgb[inside], rtol=0, atol=3e-3)


def test_checks() -> None:
    with pytest.raises(ValueError, match="matrix of 1, 4"):
        PlaneColour(8)
    with pytest.raises(ValueError, match="planes are"):
        Planes(torch.zeros(1, 3, 4, 1), torch.zeros(1, 1, 2, 2), COLOURS[0])
    with pytest.raises(ValueError, match=r"not torch.uint8"):
        Planes(torch.zeros(1, 2, 4, 1), torch.zeros(1, 1, 2, 2), COLOURS[0])
    planes = Planes.empty(1, 4, 6, COLOURS[0], DEVICE)
    with pytest.raises(ValueError, match="do not fit a canvas"):
        load_planes_launch(planes, Canvas.allocate(1, 3, 4, 8, device=DEVICE), 1.0)
    wide = Planes(planes.luma.repeat(1, 1, 1, 2)[..., :1], planes.chroma, COLOURS[0])
    with pytest.raises(ValueError, match="side by side"):
        load_planes_launch(wide, Canvas.allocate(1, 3, 4, 6, device=DEVICE), 1.0)
