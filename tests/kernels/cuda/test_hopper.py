"""The Hopper convolution in its three forms, emulated: wgmma, bulk copies and mbarriers as the PTX ISA states them."""

from __future__ import annotations

import pytest
import torch

from srfast.kernels.cuda.hopper import FORMS, hopper_launch, strip_rows
from srfast.kernels.cuda.pack import pack_conv
from srfast.kernels.reference import conv_reference
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
    with pytest.raises(ValueError, match="the forms wgmma, wgmma_shifted, wgmma_held, not mma"):
        hopper_launch(x, pack_conv(given["weight"], given["bias"]), x, form="mma")
