"""The fused residual block has the bits of two launches, at every border."""

from __future__ import annotations

import pytest
import torch
from cuda_problems import BRAIN, HALF, canvas_of, numbers, problem

from srfast.kernels.canvas import Canvas
from srfast.kernels.conv import conv_reference
from srfast.kernels.cuda_conv import conv_launch
from srfast.kernels.cuda_pack import pack_conv
from srfast.kernels.cuda_pair import pair_launch

pytestmark = pytest.mark.usefixtures("emulated_cuda")


@pytest.mark.parametrize(
    ("size", "dtype", "act"), [((1, 1), HALF, "prelu"), ((13, 17), BRAIN, "none"), ((15, 29), HALF, "prelu")]
)
def test_bits_of_two_launches(size: tuple[int, int], dtype: torch.dtype, act: str) -> None:
    given = problem(64, 64, 3, *size, dtype=dtype)
    other = problem(64, 64, 3, 1, 1, dtype=dtype)
    slope = numbers(64, seed=4) if act == "prelu" else None
    first = pack_conv(given["weight"], given["bias"], act=act, slope=slope, dtype=dtype)
    second = pack_conv(other["weight"].flip(0), other["bias"], gain=0.5, clamp=(-1.0, 2.0), dtype=dtype)
    x = canvas_of(given["x"], dtype)
    middle, expected, out = (Canvas.allocate(1, 64, *size, dtype=dtype) for _ in range(3))
    conv_launch(x, first, middle)()
    conv_launch(middle, second, expected, residual=x)()
    pair_launch(x, first, second, out, residual=x)()
    assert torch.equal(out.data, expected.data)
    between = conv_reference(given["x"], given["weight"], given["bias"], act=act, slope=slope).to(dtype).float()
    reference = conv_reference(
        between, other["weight"].flip(0), other["bias"], gain=0.5, residual=given["x"], clamp=(-1.0, 2.0)
    )
    torch.testing.assert_close(out.nchw().float(), reference, rtol=2e-2, atol=2e-2)


def test_others_are_refused() -> None:
    given = problem(64, 64, 3, 3, 3)
    x = canvas_of(given["x"])
    first = pack_conv(given["weight"], given["bias"])
    shuffled = pack_conv(given["weight"], given["bias"], shuffle=2)
    with pytest.raises(ValueError, match="bias and a PReLU only"):
        pair_launch(x, shuffled, first, x)
    thin = pack_conv(given["weight"][:, :32], given["bias"])
    with pytest.raises(ValueError, match="64 channels, not 3x3 of 32"):
        pair_launch(x, first, thin, x)
    with pytest.raises(ValueError, match="cannot be their input"):
        pair_launch(x, first, first, x)
