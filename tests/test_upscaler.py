"""Frames: numpy as OpenCV has it, tensors, DLPack; each against the engine on plain RGB."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import srfast
from srfast.backends import CpuBackend
from srfast.errors import BackendError, InputError, UnsupportedModelError
from srfast.images.alpha import within_neighbours
from srfast.images.arrays import resize_array, run_array
from srfast.models import SRVGGNetCompact
from srfast.upscaler import Upscaler


@pytest.fixture
def upscaler(small_network: nn.Module) -> Upscaler:
    return Upscaler(small_network, device="cpu", dtype="fp32")


def bgr(height: int = 10, width: int = 13, dtype: type = np.uint8) -> np.ndarray:
    values = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return values.astype(dtype) * (257 if dtype is np.uint16 else 1)


def expected_rgb(network: nn.Module, rgb: np.ndarray) -> np.ndarray:
    """The module itself on float RGB 0..1, in units of the peak."""
    peak = np.iinfo(rgb.dtype).max
    x = torch.from_numpy(rgb.astype(np.float32) / peak).permute(2, 0, 1)[None]
    with torch.no_grad():
        return network(x).clamp(0, 1)[0].permute(1, 2, 0).numpy() * peak


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bgr(upscaler: Upscaler, small_network: nn.Module, dtype: type) -> None:
    image = bgr(dtype=dtype)
    out = upscaler(image)
    assert (out.dtype, out.shape) == (image.dtype, (20, 26, 3))
    expected = expected_rgb(small_network, image[..., ::-1].copy())[..., ::-1]
    assert np.abs(out.astype(float) - expected).max() <= (0.51 if dtype is np.uint8 else 1.5)


def test_gray_and_alpha(upscaler: Upscaler) -> None:
    gray = bgr()[..., 0]
    as_colour = upscaler(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))
    expected = cv2.cvtColor(as_colour, cv2.COLOR_BGR2GRAY)
    assert np.array_equal(upscaler(gray), expected)
    assert np.array_equal(upscaler(gray[:, :, None]), expected[:, :, None])
    four = upscaler(np.dstack([bgr(), np.maximum(gray, 1)]))
    assert np.array_equal(four[..., :3], upscaler(bgr()))
    seen = within_neighbours(upscaler(np.maximum(gray, 1)), np.maximum(gray, 1))
    assert np.array_equal(four[..., 3], seen)


def test_a_region_of_an_image_with_alpha(upscaler: Upscaler) -> None:
    image = np.dstack([bgr(30, 40), bgr(30, 40)[..., 1]])
    part = upscaler.upsample(image, (7, 4, 20, 11))
    assert np.array_equal(part, upscaler(image)[8:30, 14:54])


def test_non_contiguous_array(upscaler: Upscaler) -> None:
    view = bgr(30, 40)[::-2, 3:20]
    assert np.array_equal(upscaler(view), upscaler(np.ascontiguousarray(view)))


def test_tensors(upscaler: Upscaler, small_network: nn.Module) -> None:
    x = torch.rand(2, 3, 9, 8)
    with torch.no_grad():
        expected = small_network(x).clamp(0, 1)
    torch.testing.assert_close(upscaler(x), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(upscaler(x[0]), expected[0], rtol=0, atol=1e-5)
    assert upscaler(x.half()).dtype == torch.float16
    eight = (x * 255).to(torch.uint8)
    assert upscaler(eight).shape == (2, 3, 18, 16)
    gray = upscaler(x[:, :1])
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close(gray, (upscaler(x[:, :1].expand(-1, 3, -1, -1)) * weights).sum(1, keepdim=True))


def test_dlpack(upscaler: Upscaler) -> None:
    class Foreign:
        """Another library's tensor."""

        def __init__(self, tensor: torch.Tensor) -> None:
            self._tensor = tensor

        def __dlpack__(self, **options: object) -> object:
            return self._tensor.__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return self._tensor.__dlpack_device__()

    x = torch.rand(1, 3, 6, 7)
    torch.testing.assert_close(upscaler(Foreign(x)), upscaler(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), np.float64), np.zeros(4, np.uint8), torch.zeros(4, 4), "x"],
)
def test_other_frames_are_refused(upscaler: Upscaler, bad: object) -> None:
    with pytest.raises(InputError):
        upscaler(bad)


def test_outscale(small_network: nn.Module) -> None:
    assert Upscaler(small_network, outscale=3)(bgr(10, 14)).shape == (30, 42, 3)
    assert Upscaler(small_network, outscale=1.5)(bgr(10, 14)[..., :1]).shape == (15, 21, 1)
    with pytest.raises(InputError, match="outscale"):
        Upscaler(small_network, outscale=3)(torch.rand(1, 3, 4, 4))


def test_familiar_names(upscaler: Upscaler) -> None:
    image = bgr()
    assert np.array_equal(upscaler.upsample(image), upscaler(image))
    out, mode = upscaler.enhance(image)
    assert mode == "RGB"
    assert np.array_equal(out, upscaler(image))
    assert upscaler.enhance(image, outscale=4)[0].shape == (40, 52, 3)
    assert all(np.array_equal(a, upscaler(image)) for a in upscaler.frames([image, image]))
    frames = upscaler.frames([image, None, image])
    assert next(frames).shape == upscaler(image).shape
    with pytest.raises(InputError, match="not NoneType"):  # it is no end of the frames
        next(frames)
    with pytest.raises(InputError, match="not NoneType"):
        upscaler.upsample(None, roi=(0, 0, 1, 1))  # type: ignore[arg-type]


def test_a_network_for_other_channels_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="2 channels in"):
        Upscaler(SRVGGNetCompact(num_in_ch=2, num_out_ch=2, num_conv=1, num_feat=4))


@pytest.mark.parametrize("wrong", [0, -1, math.nan, math.inf, "2", True, [2]])
def test_an_outscale_that_is_no_enlargement(small_network: nn.Module, upscaler: Upscaler, wrong: Any) -> None:
    for use in (lambda: Upscaler(small_network, outscale=wrong), lambda: upscaler.enhance(bgr(), outscale=wrong)):
        with pytest.raises(ValueError, match=r"outscale must be a positive, finite number, not"):
            use()


def test_results_too_large_or_too_small(small_network: nn.Module, upscaler: Upscaler) -> None:
    """Said before the network runs; nothing is smaller than a pixel."""
    with pytest.raises(InputError, match=r"13x10 enlarged by 1e\+09 is 13000000000x10000000000"):
        Upscaler(small_network, outscale=1e9)(bgr())
    with pytest.raises(InputError, match="enlarged by 1e\\+09"):
        upscaler.enhance(bgr(), outscale=1e9)
    assert upscaler.enhance(bgr(1, 1), outscale=0.25)[0].shape == (1, 1, 3)


def test_a_result_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise cv2.error("Failed to allocate 2496000000000 bytes")

    monkeypatch.setattr(cv2, "resize", refuse)
    with pytest.raises(InputError, match="no memory for a result of 1040000x800000"):
        resize_array(bgr(), 800_000, 1_040_000)


@pytest.mark.parametrize("bad", [None, "x", torch.zeros(3, 4, 4), np.zeros(4, np.uint8)])
def test_enhance_takes_images_only(upscaler: Upscaler, bad: Any) -> None:
    with pytest.raises(InputError):
        upscaler.enhance(bad)


@pytest.mark.parametrize("make", [Upscaler, srfast.load])
@pytest.mark.parametrize("wrong", [None, 4, lambda x: x])
def test_what_is_no_model(make: Callable[..., Upscaler], wrong: Any) -> None:
    with pytest.raises(InputError, match=f"torch.nn.Module or a sequence of these, not {type(wrong).__name__}"):
        make(wrong)


@pytest.mark.parametrize("shape", [(6, 7, 3), (6, 7, 4), (6, 7)])
@pytest.mark.filterwarnings("error")
def test_a_read_only_frame(upscaler: Upscaler, shape: tuple[int, ...]) -> None:
    """PyTorch, which has no read-only tensors, does not warn; and nothing is written to the frame."""
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected = upscaler(image)
    locked = image.copy()
    locked.flags.writeable = False
    torch.set_warn_always(True)  # else only the first in a process is
    try:
        assert np.array_equal(upscaler(locked), expected)
        rgb = np.ascontiguousarray(locked[..., :3] if len(shape) == 3 else np.dstack([locked] * 3))
        rgb.flags.writeable = False
        run_array(rgb, upscaler.engine)
    finally:
        torch.set_warn_always(False)
    assert np.array_equal(locked, image)


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("dtype must be", ("int8", torch.int8, np.float32)),
        ("tile must be", (-1, 1.5, "16", True)),
        ("memory must be", (0, -1, "1G", float("inf"))),
        ("size must be", (5, (5,), (5, 6, 7), "56", np.array([5, 6]))),
        ("a side of the result has", ((5.5, 6), ("5", 6), (5, 0))),
        ("height: a side of the result has", (5.5, "6", True, 0)),
        ("backend: a backend is", (None, 3, CpuBackend)),
    ],
)
def test_bad_options(option: str, values: tuple[Any, ...], small_network: nn.Module) -> None:
    name, _, says = option.rpartition(": ")
    name = name or ("size" if says.startswith("a side") else says.split()[0])
    for value in values:
        with pytest.raises((ValueError, BackendError), match=says):
            Upscaler(small_network, device="cpu", **{name: value})
