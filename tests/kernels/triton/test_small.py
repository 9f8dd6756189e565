"""The small Triton kernels against their plain-torch twins."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.kernels.buffers import Canvas, canvas_shape, padded_channels
from srfast.kernels.triton.frames import copy_launch, load_launch, load_reference, store_launch, store_reference
from srfast.kernels.triton.pointwise import pointwise_launch, pointwise_reference
from srfast.kernels.triton.resize import resize_launch
from srfast.kernels.triton.shuffle import shuffle_launch, unshuffle_launch
from tests.helpers.buffers import DEVICE, canvas_of, close, empty, random


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5, 7), (1, 64, 2, 37), (1, 24, 3, 3)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pointwise(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, other, c = random(*shape, dtype=dtype), random(*shape, seed=1, dtype=dtype), shape[1]
    scale, shift, slope = (random(c, seed=s).float() for s in (2, 3, 4))
    cases: list[tuple[dict[str, object], bool]] = [
        ({"scale": scale, "shift": shift[:1]}, False),
        ({"act": "prelu", "slope": slope}, False),
        ({"act": "prelu", "slope": slope[:1]}, True),
        ({"act": "tanh"}, False),
        ({"act": "sigmoid", "clamp": (0.4, 0.6)}, False),
        ({}, True),
    ]
    for arguments, add in cases:
        out = empty(shape, dtype)
        pointwise_launch(canvas_of(x, 1), out, other=canvas_of(other) if add else None, **arguments)()  # type: ignore[arg-type]
        wide = {k: v.double() if isinstance(v, Tensor) else v for k, v in arguments.items()}
        expected = pointwise_reference(x.double(), other=other.double() if add else None, **wide)  # type: ignore[arg-type]
        close(out, expected, dtype)


@pytest.mark.parametrize(
    ("shape", "factor"), [((1, 4, 1, 1), 2), ((2, 12, 3, 5), 2), ((1, 48, 5, 3), 4), ((1, 9, 2, 7), 3)]
)
def test_shuffle(shape: tuple[int, int, int, int], factor: int) -> None:
    x = random(*shape)
    expected = F.pixel_shuffle(x.double(), factor)
    out = empty(tuple(expected.shape))
    shuffle_launch(canvas_of(x, 1), out, factor)()
    assert torch.equal(out.nchw().double().cpu(), expected)
    back = empty(shape)
    unshuffle_launch(out, back, factor)()
    close(back, x.double())


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (2, 3, 5, 7), (1, 16, 2, 3)])
def test_resize(shape: tuple[int, int, int, int], factor: int, mode: str) -> None:
    x = random(*shape)
    corners = {} if mode == "nearest" else {"align_corners": False}
    expected = F.interpolate(x.double(), scale_factor=factor, mode=mode, **corners)
    out = empty(tuple(expected.shape))
    resize_launch(canvas_of(x), out, factor, mode)()
    close(out, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
@pytest.mark.parametrize("reverse", [False, True])
def test_load(dtype: torch.dtype, reverse: bool) -> None:
    """A window of larger frames, as RGB or, through a negative step's twin, channels in another order."""
    values = (random(2, 9, 11, 3, dtype=torch.float32) * 60 + 128).clamp(0, 255)
    frames = values.to(dtype).to(DEVICE)
    window = frames[:, 2:7, 3:10]
    if reverse:
        window = window.transpose(1, 2)
    out = empty((2, 3, window.shape[1], window.shape[2]))
    load_launch(window, out, 1 / 255)()
    expected = load_reference(window.cpu(), 1 / 255, torch.float16)
    close(out, expected.double())


@pytest.mark.parametrize(("dtype", "gain"), [(torch.uint8, 1.0), (torch.uint16, 257.0)])
def test_store(dtype: torch.dtype, gain: float) -> None:
    """Every tie, both ends and beyond."""
    x = torch.arange(-20, 600, dtype=torch.float16).div(2).view(1, 1, 20, 31)
    frame = torch.zeros(1, 20, 31, 1, dtype=dtype, device=DEVICE)
    flag = torch.zeros(1, dtype=torch.int32, device=DEVICE)
    store_launch(canvas_of(x).nchw().permute(0, 2, 3, 1), frame, gain, flag)()
    assert torch.equal(frame.cpu(), store_reference(x, gain, dtype))
    assert int(flag) == 0
    x[0, 0, 19, 30] = float("nan")
    store_launch(canvas_of(x).nchw().permute(0, 2, 3, 1), frame, gain, flag)()
    assert int(flag) == 1


def test_canvas() -> None:
    assert [padded_channels(c) for c in (1, 3, 4, 5, 8, 9, 16, 48, 50)] == [4, 4, 4, 8, 8, 16, 16, 48, 64]
    assert canvas_shape(2, 3, 5, 30, 1, (4, 16)) == (2, 10, 48, 4)
    canvas = Canvas.allocate(1, 3, 5, 7, border=1, tile=(4, 4))
    assert canvas.overhang((4, 4), 1)
    assert not canvas.overhang((16, 4), 1)
    assert not canvas.overhang((4, 4), 2)
    with pytest.raises(ValueError, match="channels 2"):
        canvas.channel_slice(2, 3)


def test_checks() -> None:
    x = empty((1, 4, 3, 3))
    with pytest.raises(ValueError, match="differ"):
        pointwise_launch(x, empty((1, 4, 3, 4)))
    with pytest.raises(ValueError, match=r"\[3\] values for 1 images of 4 channels"):
        pointwise_launch(x, x, scale=torch.ones(3))
    with pytest.raises(ValueError, match="shuffled by 2"):
        shuffle_launch(x, empty((1, 1, 6, 7)), 2)
    with pytest.raises(ValueError, match="enlarged by 2"):
        resize_launch(x, empty((1, 4, 6, 7)), 2, "nearest")
    with pytest.raises(ValueError, match="does not go to"):
        copy_launch(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 5))
    with pytest.raises(ValueError, match="flag"):
        copy_launch(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4, dtype=torch.uint8))
