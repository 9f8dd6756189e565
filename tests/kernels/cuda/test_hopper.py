"""The Hopper convolution in its forms, emulated: wgmma, bulk copies and mbarriers as the PTX ISA states them."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from srfast.kernels.cuda.hopper import FORMS, hopper_launch, strip_rows
from srfast.kernels.cuda.pack import Variant, pack_conv
from srfast.kernels.reference import conv_reference
from tests.helpers.cuda.endings import check_ending
from tests.helpers.cuda.problems import BRAIN, HALF, canvas_of, numbers, problem

pytestmark = pytest.mark.usefixtures("emulated_cuda")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("size", "dtype", "blocks"), [((1, 1), HALF, 1), ((5, 67), BRAIN, 1), ((7, 130), HALF, 2)])
def test_parity(size: tuple[int, int], dtype: torch.dtype, blocks: int, form: str) -> None:
    """Strips that end inside the image, rings that wrap round, several strips for one block of threads."""
    given = problem(64, 64, 3, *size, dtype=dtype)
    slope = numbers(64, seed=4)
    packed = pack_conv(given["weight"], given["bias"], act="prelu", slope=slope, gain=0.5, dtype=dtype)
    x, out = canvas_of(given["x"], dtype), canvas_of(torch.zeros(1, 64, *size), dtype)
    hopper_launch(x, packed, out, x, form=form, blocks=blocks)()
    expected = conv_reference(**given, act="prelu", slope=slope, gain=0.5, residual=given["x"])
    eps = 2.0**-10 if dtype == HALF else 2.0**-7
    assert bool(((out.nchw().float() - expected).abs() <= eps * (expected.abs() + 1) / 2 + 2e-6).all())


def test_all_forms_have_the_same_bits() -> None:
    given = problem(64, 64, 3, 9, 67)
    packed, x = pack_conv(given["weight"], given["bias"]), canvas_of(given["x"])
    results = [canvas_of(torch.zeros(1, 64, 9, 67)) for _ in FORMS]
    for form, out in zip(FORMS, results, strict=True):
        hopper_launch(x, packed, out, form=form, blocks=3)()
    assert all(torch.equal(out.data, results[0].data) for out in results)


EVERYTHING = (-3e38, 3e38)  # a clamp that changes nothing, but that only the general kernels have


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("size", "images", "dtype", "blocks", "act", "gain", "residual"),
    [
        ((1, 1), 1, HALF, 1, "prelu", 1.0, True),
        ((1, 65), 3, BRAIN, 2, "none", 0.3, True),
        ((6, 119), 1, HALF, 2, "prelu", 1.0, False),
        ((3, 121), 2, BRAIN, 1, "none", 1.0, False),
        ((5, 64), 1, BRAIN, 2, "prelu", 0.7, True),
    ],
)
def test_special_endings_have_the_bits_of_the_general_one(
    size: tuple[int, int],
    images: int,
    dtype: torch.dtype,
    blocks: int,
    act: str,
    gain: float,
    residual: bool,
    form: str,
) -> None:
    """Also where the residual is overwritten, and nothing is written beside the image."""
    given = problem(64, 64, 3, *size, dtype=dtype, images=images)
    slope = numbers(64, seed=4) if act == "prelu" else None
    results = []
    for clamp in (None, EVERYTHING):
        packed = pack_conv(given["weight"], given["bias"], act=act, slope=slope, gain=gain, clamp=clamp, dtype=dtype)
        out = canvas_of(numbers(images, 64, *size, seed=7), dtype)
        hopper_launch(canvas_of(given["x"], dtype), packed, out, out if residual else None, form=form, blocks=blocks)()
        results.append(out)
    assert torch.equal(results[0].data, results[1].data)


@pytest.mark.parametrize(("form", "width"), [("wgmma_held", 67), ("wgmma_shifted", 123)])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("prelu", [False, True])
def test_rows_end_beside_the_border(prelu: bool, residual: bool, form: str, width: int) -> None:
    """Two strips, of which the last is cut, with room around the image, and a residual that stays as it is."""
    launch = partial(hopper_launch, form=form, blocks=1)
    check_ending(Variant(64, 64, 3), (5, width), 1, HALF, prelu, residual, 1, launch)


@pytest.mark.parametrize(("form", "dtype"), [("wgmma", BRAIN), ("wgmma_held", HALF)])
@pytest.mark.parametrize("residual", [False, True])
def test_whole_phases_of_a_shuffle(residual: bool, form: str, dtype: torch.dtype) -> None:
    """A block of 64 channels is one phase: the bits of the general ending, and the reference's values."""
    launch = partial(hopper_launch, form=form, blocks=5)
    check_ending(Variant(64, 64, 3), (3, 66), 2, dtype, True, residual, 2, launch)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("images", "height"), [(2, 1), (8, 1), (6, 3)])
def test_strips_of_one_row(images: int, height: int, form: str) -> None:
    """Several to a block of threads: a warpgroup without a row must wait, or it gives away rows that the other reads."""
    given = problem(64, 64, 3, height, 64, images=images)
    out = canvas_of(torch.zeros(images, 64, height, 64))
    hopper_launch(canvas_of(given["x"]), pack_conv(given["weight"], given["bias"]), out, form=form, blocks=1)()
    torch.testing.assert_close(out.nchw().float(), conv_reference(**given), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("form", ["wgmma", "wgmma_held"])
def test_more_outputs_with_shuffle(form: str) -> None:
    given = problem(64, 128, 3, 4, 9)
    packed = pack_conv(given["weight"], given["bias"], shuffle=2)
    out = canvas_of(torch.zeros(1, 32, 8, 18))
    hopper_launch(canvas_of(given["x"]), packed, out, form=form, blocks=2)()
    torch.testing.assert_close(out.nchw().float(), conv_reference(**given, shuffle=2), rtol=1e-3, atol=1e-3)


def test_fragments() -> None:
    """A thread's registers of wgmma's left operand, by the PTX ISA's figure of m64k16."""
    weight = torch.arange(64 * 64 * 9).view(64, 64, 3, 3).remainder(2048).float()  # exact in half precision
    fragments = pack_conv(weight, torch.zeros(64)).fragments
    assert fragments.shape == (1, 36, 128, 8)
    tap, k, thread = 5, 2, 77
    for i in range(8):
        row = thread // 32 * 16 + thread % 32 // 4 + i // 2 % 2 * 8
        column = k * 16 + thread % 4 * 2 + i % 2 + i // 4 * 8
        assert float(fragments[0, tap * 4 + k, thread, i]) == float(weight[row, column, tap // 3, tap % 3])


def test_strips() -> None:
    """960x540 in strips of 120 columns: 8 strips; 132 blocks get at most one stretch of rows each."""
    rows = strip_rows(1, 540, 960, 120, 132)
    assert 8 * -(-540 // rows) <= 132


def test_others_are_refused() -> None:
    given = problem(32, 64, 3, 3, 3)
    x, packed = canvas_of(given["x"]), pack_conv(given["weight"], given["bias"])
    with pytest.raises(ValueError, match="64 channels, not 3x3 of 32"):
        hopper_launch(x, packed, canvas_of(torch.zeros(1, 64, 3, 3)))
    given = problem(64, 64, 3, 3, 3)
    x = canvas_of(given["x"])
    with pytest.raises(ValueError, match="the forms wgmma, wgmma_shifted, wgmma_held, wgmma_offset, not mma"):
        hopper_launch(x, pack_conv(given["weight"], given["bias"]), x, form="mma")
