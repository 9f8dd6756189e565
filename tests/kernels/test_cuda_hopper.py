"""The Hopper convolution, emulated: wgmma, bulk tensor copies and mbarriers as the PTX ISA states them."""

from __future__ import annotations

import pytest
import torch
from cuda_problems import BRAIN, HALF, canvas_of, numbers, problem

from srfast.kernels.conv import conv_reference
from srfast.kernels.cuda_hopper import hopper_launch, strip_rows
from srfast.kernels.cuda_pack import pack_conv

pytestmark = pytest.mark.usefixtures("emulated_cuda")


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("size", "dtype", "blocks"), [((1, 1), HALF, 1), ((5, 67), BRAIN, 1), ((7, 130), HALF, 2)])
def test_parity(size: tuple[int, int], dtype: torch.dtype, blocks: int, shifted: bool) -> None:
    """Strips that end inside the image, rings that wrap round, several strips for one block of threads."""
    given = problem(64, 64, 3, *size, dtype=dtype)
    slope = numbers(64, seed=4)
    packed = pack_conv(given["weight"], given["bias"], act="prelu", slope=slope, gain=0.5, dtype=dtype)
    x, out = canvas_of(given["x"], dtype), canvas_of(torch.zeros(1, 64, *size), dtype)
    hopper_launch(x, packed, out, x, shifted=shifted, blocks=blocks)()
    expected = conv_reference(**given, act="prelu", slope=slope, gain=0.5, residual=given["x"])
    eps = 2.0**-10 if dtype == HALF else 2.0**-7
    assert bool(((out.nchw().float() - expected).abs() <= eps * (expected.abs() + 1) / 2 + 2e-6).all())


def test_more_outputs_with_shuffle() -> None:
    given = problem(64, 128, 3, 4, 9)
    packed = pack_conv(given["weight"][:, :, :, :], given["bias"], shuffle=2)
    out = canvas_of(torch.zeros(1, 32, 8, 18))
    hopper_launch(canvas_of(given["x"]), packed, out, blocks=2)()
    torch.testing.assert_close(out.nchw().float(), conv_reference(**given, shuffle=2), rtol=1e-3, atol=1e-3)


def test_strips() -> None:
    """960x540 in strips of 120 columns: 8 strips; 132 blocks get at most one stretch of rows each."""
    rows = strip_rows(1, 540, 960, 120, 132)
    assert 8 * -(-540 // rows) <= 132


def test_others_are_refused() -> None:
    given = problem(32, 64, 3, 3, 3)
    x, packed = canvas_of(given["x"]), pack_conv(given["weight"], given["bias"])
    with pytest.raises(ValueError, match="64 channels, not 3x3 of 32"):
        hopper_launch(x, packed, canvas_of(torch.zeros(1, 64, 3, 3)))
