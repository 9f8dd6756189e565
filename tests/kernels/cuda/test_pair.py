"""The fused residual block has the bits of two launches, at every border."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_launch
from srfast.kernels.cuda.hopper import hopper_launch
from srfast.kernels.cuda.pack import pack_conv
from srfast.kernels.cuda.pair import pair_launch
from srfast.kernels.reference import conv_reference
from tests.helpers.cuda.endings import check_pair_ending
from tests.helpers.cuda.problems import BRAIN, HALF, canvas_of, numbers, problem

pytestmark = pytest.mark.usefixtures("emulated_cuda")


class Pair:
    """Two convolutions with random weights and an image for them."""

    def __init__(
        self,
        size: tuple[int, int],
        dtype: torch.dtype,
        act: str,
        images: int = 1,
        clamp: tuple[float, float] | None = (-1.0, 2.0),
    ) -> None:
        self.given = problem(64, 64, 3, *size, dtype=dtype, images=images)
        other = problem(64, 64, 3, 1, 1, dtype=dtype)
        self.slope = numbers(64, seed=4) if act == "prelu" else None
        self.clamp = clamp
        self.act, self.dtype, self.other, self.bias = act, dtype, other["weight"].flip(0), other["bias"]
        self.first = pack_conv(self.given["weight"], self.given["bias"], act=act, slope=self.slope, dtype=dtype)
        self.second = pack_conv(self.other, self.bias, gain=0.5, clamp=clamp, dtype=dtype)
        self.x = canvas_of(self.given["x"], dtype)
        self.middle, self.apart, self.out = (Canvas.allocate(images, 64, *size, dtype=dtype) for _ in range(3))

    def reference(self) -> Tensor:
        g = self.given
        between = conv_reference(g["x"], g["weight"], g["bias"], act=self.act, slope=self.slope).to(self.dtype).float()
        return conv_reference(between, self.other, self.bias, gain=0.5, residual=g["x"], clamp=self.clamp)


@pytest.mark.parametrize(
    ("size", "dtype", "act"), [((1, 1), HALF, "prelu"), ((13, 17), BRAIN, "none"), ((15, 29), HALF, "prelu")]
)
def test_bits_of_two_launches(size: tuple[int, int], dtype: torch.dtype, act: str) -> None:
    pair = Pair(size, dtype, act)
    conv_launch(pair.x, pair.first, pair.middle)()
    conv_launch(pair.middle, pair.second, pair.apart, residual=pair.x)()
    pair_launch(pair.x, pair.first, pair.second, pair.out, residual=pair.x)()
    assert torch.equal(pair.out.data, pair.apart.data)
    torch.testing.assert_close(pair.out.nchw().float(), pair.reference(), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("size", "images", "dtype", "prelu", "residual"),
    [
        ((1, 1), 3, HALF, True, True),
        ((1, 43), 1, BRAIN, False, True),
        ((17, 15), 2, HALF, False, False),
        ((15, 29), 1, BRAIN, True, False),
        ((29, 14), 1, HALF, False, True),
        ((33, 1), 1, BRAIN, True, True),
    ],
)
def test_endings(size: tuple[int, int], images: int, dtype: torch.dtype, prelu: bool, residual: bool) -> None:
    check_pair_ending(size, images, dtype, prelu, residual)


@pytest.mark.parametrize(
    ("size", "dtype", "act", "images", "blocks", "clamp"),
    [
        ((1, 1), HALF, "prelu", 1, 1, None),
        ((3, 62), BRAIN, "none", 2, 1, (-1.0, 2.0)),
        ((13, 63), HALF, "prelu", 1, 3, None),
        ((2, 125), BRAIN, "prelu", 1, 2, None),
        ((31, 7), HALF, "none", 1, 2, (-1.0, 2.0)),
        ((1, 65), HALF, "none", 5, 1, None),
    ],
)
def test_bits_of_two_launches_on_hopper(
    size: tuple[int, int], dtype: torch.dtype, act: str, images: int, blocks: int, clamp: tuple[float, float] | None
) -> None:
    """One pixel, whole strips, strips of a pixel, rings that wrap round, several strips for one block of threads."""
    pair = Pair(size, dtype, act, images, clamp)
    hopper_launch(pair.x, pair.first, pair.middle)()
    hopper_launch(pair.middle, pair.second, pair.apart, residual=pair.x)()
    pair_launch(pair.x, pair.first, pair.second, pair.out, pair.x, form="pair_wgmma", blocks=blocks)()
    assert torch.equal(pair.out.data, pair.apart.data)
    torch.testing.assert_close(pair.out.nchw().float(), pair.reference(), rtol=2e-2, atol=2e-2)


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
    with pytest.raises(ValueError, match="the forms pair, pair_wgmma, not tail"):
        pair_launch(x, first, first, x, form="tail")
