"""The Triton depthwise convolution against torch's grouped convolution in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.kernels.reference import activate, depthwise_reference
from srfast.kernels.triton.config import DepthwiseConfig, find_depthwise_config
from srfast.kernels.triton.depthwise import depthwise_launch
from tests.helpers.buffers import canvas_of, close, empty, random

SMALL = DepthwiseConfig(block=64)


def expected_of(x: Tensor, weight: Tensor, bias: Tensor, act: str, slope: Tensor | None) -> Tensor:
    y = F.conv2d(x.double(), weight.double(), bias.double(), padding=weight.shape[-1] // 2, groups=len(bias))
    return activate(y, act, slope)


@pytest.mark.parametrize(
    ("shape", "kernel"),
    [((1, 2, 1, 1), 3), ((2, 3, 5, 7), 3), ((1, 20, 4, 9), 5), ((1, 64, 2, 3), 7), ((1, 5, 3, 2), 9)],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_size(shape: tuple[int, int, int, int], kernel: int, dtype: torch.dtype) -> None:
    """Images smaller than the kernel too; what lies beside an image in memory is not read."""
    c = shape[1]
    x, bias, slope = random(*shape, dtype=dtype), random(c, seed=1).float(), random(c, seed=2).float()
    weight = random(c, 1, kernel, kernel, seed=3).float() / kernel
    beside = canvas_of(x, 2)
    inside = beside.nchw().clone()
    beside.data.fill_(float("nan"))
    beside.nchw().copy_(inside)
    for act, slopes in (("none", None), ("prelu", slope), ("prelu", slope[:1]), ("mish", None)):
        out = empty(shape, dtype)
        depthwise_launch(beside, out, weight, bias, SMALL, act=act, slope=slopes)()
        close(out, expected_of(x, weight, bias, act, slopes), dtype)
        twin = depthwise_reference(x.double(), weight, bias, act=act, slope=slopes)
        torch.testing.assert_close(twin, expected_of(x, weight, bias, act, slopes))


def test_what_does_not_fit_is_refused() -> None:
    x, out = canvas_of(random(1, 4, 5, 7)), empty((1, 4, 5, 7))
    weight, bias = torch.ones(4, 1, 3, 3), torch.ones(4)
    for y, w, b, slope, match in (
        (x, weight, bias, None, "other memory"),
        (empty((1, 4, 5, 6)), weight, bias, None, "differ"),
        (out, torch.ones(4, 1, 2, 2), bias, None, "on 4 channels"),
        (out, torch.ones(4, 4, 3, 3), bias, None, "on 4 channels"),
        (out, weight, torch.ones(3), None, "on 4 channels"),
        (out, weight, bias, torch.ones(3), "slopes"),
    ):
        with pytest.raises(ValueError, match=match):
            depthwise_launch(x, y, w, b, SMALL, act="prelu", slope=slope)
    with pytest.raises(ValueError, match="powers of two"):
        DepthwiseConfig(block=100)


def test_the_shipped_configuration() -> None:
    assert find_depthwise_config(("sm90", "default"), 7) == DepthwiseConfig()
