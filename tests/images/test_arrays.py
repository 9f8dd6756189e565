"""Frames in the forms that people hold: PIL images, tensors of float64 and RGBA, and what is refused."""

from __future__ import annotations

import math
from typing import Any

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


def test_gray_multiplied_by_alpha(upscaler: Upscaler) -> None:
    """PIL converts its mode La to no other than LA."""
    image = PIL.fromarray(RGBA[..., :2].copy(), "LA")
    out = upscaler(image.convert("La"))
    assert (out.mode, out.size) == ("RGBA", (16, 12))
    assert np.array_equal(np.asarray(out), np.asarray(upscaler(image.convert("La").convert("LA"))))


@pytest.mark.parametrize("planes", [3, 4])
@pytest.mark.parametrize("options", [{}, {"outscale": 1.5}])
def test_masked_arrays(planes: int, options: dict[str, Any]) -> None:
    """A mask that hides something has no place in the result; without one the array is as any other."""
    torch.manual_seed(4)
    network = nn.Sequential(nn.Conv2d(planes, 4 * planes, 3, padding=1), nn.PixelShuffle(2)).eval()
    upscaler = Upscaler(network, device="cpu", dtype="fp32", **options)
    for image in (RGBA, RGBA[..., :3], RGBA[..., 0]):
        assert np.array_equal(upscaler(np.ma.masked_array(image)), upscaler(np.ascontiguousarray(image)))
        mask = np.zeros(image.shape, bool)
        mask[1:3, 2] = True
        with pytest.raises(InputError, match=rf"has {mask.sum()} masked values.*image.filled"):
            upscaler(np.ma.masked_array(image, mask))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_pil_images_of_16_bits(upscaler: Upscaler, mode: str) -> None:
    """As the same numbers in an array; PIL's conversion to RGB would make all of them white."""
    pixels = RGBA[..., 0].astype(np.uint16) * 257
    image = {
        "I;16": PIL.fromarray(pixels),
        "I;16B": PIL.frombytes("I;16B", (8, 6), pixels.astype(">u2").tobytes()),
        "I": PIL.fromarray(pixels.astype(np.int32)),
    }[mode]
    out = upscaler(image)
    assert (out.mode, out.size) == ("I" if mode == "I" else "I;16", (16, 12))
    assert np.array_equal(np.asarray(out), upscaler(pixels))


@pytest.mark.parametrize("planes", [1, 3, 4])
@pytest.mark.parametrize("options", [{}, {"self_ensemble": True}])
@pytest.mark.parametrize("outscale", [None, 1.5, 3])
def test_pil_images_are_as_arrays(planes: int, options: dict[str, Any], outscale: float | None) -> None:
    """With every option, of networks of any number of planes."""
    torch.manual_seed(planes)
    network = nn.Sequential(nn.Conv2d(planes, 4 * planes, 3, padding=1), nn.PixelShuffle(2)).eval()
    upscaler = Upscaler(network, device="cpu", dtype="fp32", outscale=outscale, **options)
    for pixels in (RGBA[..., 0], RGBA[..., :3], RGBA):
        order = slice(None) if pixels.ndim == 2 else [2, 1, 0, 3][: pixels.shape[2]]
        got = np.asarray(upscaler(PIL.fromarray(np.ascontiguousarray(pixels))))
        assert np.array_equal(got, upscaler(np.ascontiguousarray(pixels[..., order]))[..., order])


def test_tensors_of_a_network_of_four_planes() -> None:
    """Alpha goes through it beside the colours, as that of an array does; float32 and bytes."""
    torch.manual_seed(4)
    network = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.PixelShuffle(2)).eval()
    upscaler = Upscaler(network, device="cpu", dtype="fp32")
    images = torch.from_numpy(RGBA).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = network(images / 255).clamp(0, 1)
    torch.testing.assert_close(upscaler(images / 255), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(upscaler((images / 255).double()[0]), expected[0].double(), rtol=0, atol=2e-6)
    assert (upscaler(images).float() - expected * 255).abs().max() <= 0.51


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
        (torch.linspace(-1, 1, 192).view(3, 8, 8), "from -1 up to 1: add 1 and divide it by 2"),
        (torch.full((3, 8, 8), math.nan), "NaN"),
        (torch.zeros(3, 8, 8, dtype=torch.int32), "not torch.strided of torch.int32"),
        (torch.zeros(3, 8, 8).to(torch.float8_e4m3fn), "of torch.float8_e4m3fn"),
        (torch.zeros(3, 8, 8, device="meta"), "on meta"),
        (torch.zeros(3, 8, 8).to_sparse(), "not torch.sparse_coo"),
        (PIL.fromarray(np.zeros((8, 8), np.float32)), "mode F has no known white"),
        (PIL.fromarray(np.full((8, 8), 65536, np.int32)), "0..65535, and this one 65536..65536"),
        (torch.full((1, 3, 8, 8), 128.0, dtype=torch.float64), "up to 128"),
    ],
)
def test_what_is_refused(upscaler: Upscaler, image: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        upscaler(image)
