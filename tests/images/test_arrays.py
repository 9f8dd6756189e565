"""Frames in the forms that people hold: PIL images, tensors of float64 and RGBA, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from srfast.errors import InputError
from srfast.upscaler import Upscaler

PIL = pytest.importorskip("PIL.Image")
RGBA = np.random.default_rng(0).integers(1, 256, (6, 8, 4), dtype=np.uint8)


@pytest.fixture
def upscaler(small_network: nn.Module) -> Upscaler:
    return Upscaler(small_network, device="cpu", dtype="fp32")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pil_images(upscaler: Upscaler, mode: str) -> None:
    pixels = {"L": RGBA[..., 0], "RGB": RGBA[..., :3], "RGBA": RGBA}[mode]
    order = {"L": None, "RGB": [2, 1, 0], "RGBA": [2, 1, 0, 3]}[mode]
    out = upscaler(PIL.fromarray(pixels))
    assert (out.mode, out.size) == (mode, (16, 12))
    turned = pixels if order is None else np.ascontiguousarray(pixels[..., order])
    expected = upscaler(turned) if order is None else upscaler(turned)[..., order]
    assert np.array_equal(np.asarray(out), expected)


def test_a_palette_with_transparency(upscaler: Upscaler) -> None:
    image = PIL.fromarray(RGBA[..., :3]).quantize(16)
    assert upscaler(image).mode == "RGB"
    image.info["transparency"] = 3
    assert upscaler(image).mode == "RGBA"


def test_pil_images_of_another_size(small_network: nn.Module) -> None:
    out = Upscaler(small_network, outscale=1.5, device="cpu")(PIL.fromarray(RGBA[..., :3]))
    assert out.size == (12, 9)


def test_float64_and_rgba_tensors(upscaler: Upscaler) -> None:
    images = torch.from_numpy(RGBA).permute(2, 0, 1)[None] / 255
    out = upscaler(images[:, :3].double())
    assert out.dtype == torch.float64
    assert torch.equal(out, upscaler(images[:, :3]).double())
    four = upscaler(images)
    assert four.shape == (1, 4, 12, 16)
    assert torch.equal(four[:, :3], upscaler(images[:, :3]))
    assert torch.equal(four[:, 3:], upscaler(images[:, 3:]))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((0, 8, 3), np.uint8), "has no pixels"),
        (np.zeros((8, 0), np.uint8), "has no pixels"),
        (torch.zeros(1, 3, 0, 8), "has no pixels"),
        (torch.zeros(0, 3, 8, 8), "has no pixels"),
        (torch.full((3, 8, 8), 255.0), "up to 255: divide it by 255"),
        (torch.full((1, 3, 8, 8), 128.0, dtype=torch.float64), "up to 128"),
    ],
)
def test_what_is_refused(upscaler: Upscaler, image: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        upscaler(image)
