"""Moments, gates, norms and pools against their plain-torch twins."""

import pytest
import torch
from torch.nn import functional as F

from srfast.kernels.triton.moments import (
    ChannelMoments,
    gains_launch,
    gains_reference,
    norm_launch,
    norm_reference,
    pixel_moments_launch,
    pixel_moments_reference,
    pixel_norm_launch,
    pixel_norm_reference,
)
from srfast.kernels.triton.pointwise import pointwise_launch, pointwise_reference
from srfast.kernels.triton.pool import pool_launch
from tests.helpers.buffers import canvas_of, close, empty, random

SHAPES = [(1, 1, 1, 1), (2, 3, 5, 7), (1, 70, 2, 3), (2, 8, 22, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [None, 1, "most"])
def test_norm(shape: tuple[int, int, int, int], groups: int | str | None) -> None:
    """A mean far from zero: sums of squares would lose the variance."""
    x = random(*shape) + 40
    if groups == "most":  # but for single channels
        groups = {1: 1, 3: 1, 8: 4, 70: 14}[shape[1]]
    assert not isinstance(groups, str)
    scale, shift = random(shape[1], seed=1).float(), random(shape[1], seed=2).float()
    launch, scales, shifts = norm_launch(canvas_of(x, 1), scale, shift, 1e-5, groups)
    launch()
    expected = norm_reference(x.double(), scale.double(), shift.double(), 1e-5, groups)
    # The shift is a difference of two numbers as large as mean * scale.
    allowed = 1e-5 * float(expected[0].abs().max()) * 41
    torch.testing.assert_close(scales.double().cpu(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shifts.double().cpu(), expected[1], rtol=1e-5, atol=allowed)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ways", [{}, {"contrast": True}, {"hard": True}, {"contrast": True, "hard": True}])
def test_gains(shape: tuple[int, int, int, int], ways: dict[str, bool]) -> None:
    middle = max(1, shape[1] // 2)
    x = random(*shape)
    weights = [random(*s, seed=i).float() for i, s in enumerate([(middle, shape[1]), (middle,), (shape[1], middle)])]
    weights += [random(shape[1], seed=7).float(), torch.tensor([0.1])]
    launch, gains = gains_launch(canvas_of(x, 1), *weights, **ways)
    launch()
    expected = gains_reference(x.double(), *(w.double() for w in weights), **ways)
    torch.testing.assert_close(gains.double().cpu(), expected, rtol=1e-5, atol=1e-6)


def test_parts() -> None:
    """Few rows make few parts; many rows make as many as there may be."""
    sizes = {height: ChannelMoments(empty((1, 1, height, 1))) for height in (1, 9, 512, 1000)}
    assert {height: (m.parts.rows, m.parts.count) for height, m in sizes.items()} == {
        1: (4, 1),
        9: (4, 3),
        512: (4, 128),
        1000: (8, 125),
    }


def test_an_image_does_not_depend_on_its_batch() -> None:
    x = random(3, 8, 9, 5)
    moments = [ChannelMoments(canvas_of(images)) for images in (x, x[1:2])]
    for launched in moments:
        launched.launch()()
    assert torch.equal(moments[0].data[1], moments[1].data[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_pixel_moments(shape: tuple[int, int, int, int]) -> None:
    x = random(*shape)
    out = empty((shape[0], 2, *shape[2:]))
    pixel_moments_launch(canvas_of(x, 1), out)()
    close(out, pixel_moments_reference(x.double()))
    with pytest.raises(ValueError, match="moments of pixels"):
        pixel_moments_launch(canvas_of(x), canvas_of(x[:, :1]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("centred", [True, False])
def test_pixel_norm(shape: tuple[int, int, int, int], centred: bool) -> None:
    x = random(*shape) + 3
    scale, shift = random(shape[1], seed=1).float(), random(shape[1], seed=2).float()
    out = empty(shape)
    pixel_norm_launch(canvas_of(x, 1), out, scale, shift, 1e-3, centred)()
    close(out, pixel_norm_reference(x.double(), scale.double(), shift.double(), 1e-3, centred))
    with pytest.raises(ValueError, match="differ"):
        pixel_norm_launch(canvas_of(x), empty((shape[0], shape[1] + 1, *shape[2:])), scale, shift, 1e-3)


@pytest.mark.parametrize("kind", ["average", "max"])
@pytest.mark.parametrize(("shape", "factor"), [((1, 1, 2, 2), 2), ((2, 3, 10, 14), 2), ((1, 24, 6, 9), 3)])
def test_pool(shape: tuple[int, int, int, int], factor: int, kind: str) -> None:
    x = random(*shape)
    expected = (F.avg_pool2d if kind == "average" else F.max_pool2d)(x.double(), factor)
    out = empty(tuple(expected.shape))
    pool_launch(canvas_of(x), out, factor, kind)()
    close(out, expected)
    with pytest.raises(ValueError, match="pooled by"):
        pool_launch(canvas_of(x), canvas_of(x), factor, kind)


def test_products_and_vectors_by_image() -> None:
    x, gain = random(2, 5, 3, 7), random(2, 1, 3, 7, seed=1)
    scale, shift = random(2, 5, seed=2).float(), random(2, 5, seed=3).float()
    for other in (gain, random(2, 5, 3, 7, seed=4)):
        out = empty((2, 5, 3, 7))
        pointwise_launch(canvas_of(x), out, scale=scale, shift=shift, other=canvas_of(other), multiply=True)()
        expected = pointwise_reference(
            x.double(), scale=scale.double(), shift=shift.double(), other=other.double(), multiply=True
        )
        close(out, expected)
    with pytest.raises(ValueError, match="differ"):
        pointwise_launch(canvas_of(x), empty((2, 5, 3, 7)), other=canvas_of(gain))


@pytest.mark.parametrize("act", ["silu", "gelu", "mish"])
def test_smooth_activations(act: str) -> None:
    x = random(1, 3, 5, 7) * 4
    out = empty((1, 3, 5, 7))
    pointwise_launch(canvas_of(x), out, act=act)()
    close(out, pointwise_reference(x.double(), act=act))
