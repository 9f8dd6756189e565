"""Every option of a covered operation counts: capture gives what eager PyTorch gives, or names what it does not cover."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.capture import capture
from srfast.errors import UnsupportedModelError
from tests.helpers.eager import Forward, assert_matches_eager, conv


def enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2)


def after(function: Callable[[Tensor], Tensor]) -> nn.Module:
    """A function of what a convolution gives."""
    return Forward(lambda m, x: function(m.a(x)), a=conv())


def weighed(function: Callable[[Tensor, Tensor], Tensor], *shape: int) -> nn.Module:
    """The same beside a stored tensor."""
    return Forward(lambda m, x: function(m.a(x), m.w), a=conv(), w=nn.Parameter(torch.rand(shape)))


def gate(middle: nn.Module) -> nn.Module:
    return Forward(
        lambda m, x: (y := m.a(x)) * torch.sigmoid(m.c(F.leaky_relu(m.b(y.mean((2, 3), keepdim=True)), 0.3))),
        a=conv(),
        b=middle,
        c=nn.Conv2d(2, 8, 1),
    )


COVERED: dict[str, Callable[[], nn.Module]] = {
    "divisor": lambda: nn.Sequential(conv(), nn.AvgPool2d(2, divisor_override=3), nn.Upsample(scale_factor=2)),
    "divisor_function": lambda: Forward(lambda m, x: enlarged(F.avg_pool2d(m.a(x), 2, divisor_override=1)), a=conv()),
    "padding_uncounted": lambda: nn.Sequential(
        nn.AvgPool2d(2, count_include_pad=False), nn.Upsample(scale_factor=2), conv()
    ),
    "ceil": lambda: nn.Sequential(
        conv(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.PixelShuffle(2),
        nn.Upsample(scale_factor=2),
    ),
    "max_function": lambda: after(lambda y: enlarged(F.max_pool2d(y, kernel_size=2, stride=2))),
    "antialias": lambda: Forward(
        lambda m, x: F.interpolate(m.a(x), scale_factor=3, mode="bilinear", antialias=True), a=conv()
    ),
    "antialias_x2": lambda: Forward(
        lambda m, x: F.interpolate(m.a(x), scale_factor=2, mode="bilinear", antialias=True), a=conv()
    ),
    "recomputed": lambda: Forward(
        lambda m, x: F.interpolate(m.a(x), scale_factor=3.0, mode="bicubic", recompute_scale_factor=True), a=conv()
    ),
    "recomputed_module": lambda: nn.Sequential(
        conv(), nn.Upsample(scale_factor=2, mode="bilinear", recompute_scale_factor=True)
    ),
    "crossed_clamp": lambda: after(lambda y: torch.clamp(y, min=0.7, max=0.5)),
    "crossed_clamp_later": lambda: Forward(lambda m, x: m.b(m.a(x).clamp(0.2, -0.3)), a=conv(), b=conv(8, 3)),
    "clamp_of_tensors": lambda: Forward(
        lambda m, x: torch.clamp(m.a(x), m.low, m.high),
        a=conv(),
        low=nn.Parameter(torch.tensor(-0.1)),
        high=nn.Parameter(torch.tensor([0.2])),
    ),
    "one_bound": lambda: after(lambda y: y.clamp(max=0.1)),
    "dropout_of_nothing": lambda: after(lambda y: F.dropout(y, 0.0)),
    "dropout": lambda: Forward(lambda m, x: F.dropout2d(m.a(x), 0.5, m.training), a=conv()),
    "unshuffle_by_name": lambda: Forward(
        lambda m, x: m.a(F.pixel_unshuffle(x, downscale_factor=2)), a=nn.Sequential(conv(12, 12), nn.PixelShuffle(2))
    ),
    "shuffle_by_name": lambda: after(lambda y: F.pixel_shuffle(y, upscale_factor=2)),
    "slope": lambda: after(lambda y: F.leaky_relu(y, negative_slope=-0.3)),
    "add_alpha": lambda: Forward(lambda m, x: torch.add(m.a(x), x, alpha=-2), a=conv(3, 3)),
    "add_alpha_of_constants": lambda: Forward(
        lambda m, x: torch.sub(m.a(x).add(3, alpha=0.5), m.p, alpha=3),
        a=conv(3, 3),
        p=nn.Parameter(torch.rand(3, 1, 1)),
    ),
    "constant_first": lambda: Forward(
        lambda m, x: 2 - torch.sub(m.p, m.a(x), alpha=2), a=conv(3, 3), p=nn.Parameter(torch.rand(3, 1, 1))
    ),
    "gate": lambda: gate(nn.Conv2d(8, 2, 1)),
    "norm_weight_alone": lambda: weighed(lambda y, w: F.instance_norm(y, weight=w), 8),
    "norm_bias_alone": lambda: weighed(lambda y, w: F.instance_norm(y, bias=w), 8),
    "batch_weight_alone": lambda: weighed(lambda y, w: F.batch_norm(y, w, w, weight=w), 8),
    "batch_bias_alone": lambda: weighed(lambda y, w: F.batch_norm(y, w, w, bias=w, eps=0.1), 8),
    "gelu": lambda: after(lambda y: F.gelu(y)),
}


@pytest.mark.parametrize("name", COVERED)
def test_options_count(name: str) -> None:
    torch.manual_seed(len(name))
    module = COVERED[name]()
    if name.startswith("norm"):  # one pixel has no variance
        module = nn.Sequential(nn.Upsample(scale_factor=2), module)
    assert_matches_eager(module)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dilated": (lambda: nn.Sequential(conv(), nn.MaxPool2d(2, dilation=2)), "dilation=2"),
    "dilated_function": (lambda: after(lambda y: F.max_pool2d(y, 2, dilation=2)), "dilation=2"),
    "indices": (
        lambda: Forward(lambda m, x: m.b(m.a(x))[0], a=conv(), b=nn.MaxPool2d(2, return_indices=True)),
        "return_indices=True",
    ),
    "padded": (lambda: nn.Sequential(conv(), nn.MaxPool2d(3, 3, 1)), "padding 1"),
    "padded_average": (lambda: nn.Sequential(conv(), nn.AvgPool2d(3, 3, 1, count_include_pad=False)), "padding 1"),
    "overlapping": (lambda: after(lambda y: F.avg_pool2d(y, 3, 1)), "stride 1"),
    "antialias_bicubic": (
        lambda: after(lambda y: F.interpolate(y, scale_factor=2, mode="bicubic", antialias=True)),
        "antialias=True",
    ),
    "corners": (
        lambda: nn.Sequential(conv(), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
        "align_corners=True",
    ),
    "size": (lambda: after(lambda y: F.interpolate(y, size=(8, 8))), "size=(8, 8)"),
    "shrinking": (lambda: after(lambda y: F.interpolate(y, scale_factor=0.5)), "scale_factor=0.5"),
    "nan": (lambda: after(lambda y: y.clamp(min=math.nan)), "bounds are numbers"),
    "bounds_by_channel": (
        lambda: Forward(lambda m, x: torch.clamp(m.a(x), m.low), a=conv(), low=nn.Parameter(torch.rand(8, 1, 1))),
        "in place of a number",
    ),
    "dropout": (lambda: after(lambda y: F.dropout(y)), "training=self.training"),
    "rounded": (lambda: after(lambda y: torch.div(y, 2, rounding_mode="floor")), "rounding_mode"),
    "gelu": (lambda: after(lambda y: F.gelu(y, approximate="tanh")), "approximate='tanh'"),
    "out": (lambda: after(lambda y: torch.add(y, y, out=y)), "out"),
    "cat_rows": (lambda: after(lambda y: torch.cat([y, y], 2)), "dimension 2"),
    "cat_moments": (
        lambda: Forward(
            lambda m, x: (y := m.a(x)) * torch.sigmoid(m.b(torch.cat([y.mean(1, True), y.amax(1, True)], 2))),
            a=conv(),
            b=conv(1, 1),
        ),
        "dimension 2",
    ),
    "mean_unkept": (lambda: after(lambda y: y.mean(1)), "keepdim=False"),
    "mean_of_rows": (lambda: after(lambda y: y.mean(2, keepdim=True)), "dimensions"),
    "padded_gate": (lambda: gate(nn.Conv2d(8, 2, 1, padding=1)), "inside a gate"),
    "pad": (lambda: after(lambda y: F.pad(y, (1, 1, 1, 1), "reflect")), "'pad'"),
    "softmax": (lambda: nn.Sequential(conv(), nn.Softmax(1)), "Softmax"),
    "square": (lambda: after(lambda y: y**2), "'pow'"),
    "running_in_training": (lambda: weighed(lambda y, w: F.instance_norm(y, w, w), 8), "training"),
    "batch_without_statistics": (lambda: after(lambda y: F.batch_norm(y, None, None, training=True)), "training"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_options_are_named(name: str) -> None:
    make, says = REFUSED[name]
    with pytest.raises(UnsupportedModelError) as caught:
        capture(make())
    assert says in str(caught.value)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (9, 1)])
def test_antialiasing_changes_no_bilinear_enlargement(factor: int, size: tuple[int, int]) -> None:
    """The ground on which capture takes it."""
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(factor))
    plain, smooth = (F.interpolate(x, scale_factor=factor, mode="bilinear", antialias=a) for a in (False, True))
    torch.testing.assert_close(smooth, plain, rtol=0, atol=1e-13)
