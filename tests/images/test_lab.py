"""L*a*b* and CMYK files have the colours that readers with colour management show: LittleCMS is the reference."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from srfast.images import read_image

RGB = np.random.default_rng(0).integers(0, 256, (9, 13, 3), dtype=np.uint8)
RGB[0, :5] = [(255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128)]
EXACT = ImageCms.Flags.NOOPTIMIZE  # else it interpolates in a coarse table


def lab() -> Image.Image:
    made = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB", flags=EXACT
    )
    return ImageCms.applyTransform(Image.fromarray(RGB), made)


def by_lcms(image: Image.Image) -> np.ndarray:
    back = ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB", flags=EXACT
    )
    return np.asarray(ImageCms.applyTransform(image, back))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_lab(tmp_path: Path, compression: str | None) -> None:
    image = lab()
    image.save(tmp_path / "in.tif", **({"compression": compression} if compression else {}))
    made = read_image(tmp_path / "in.tif")[..., ::-1].astype(int)
    expected = by_lcms(image).astype(int)
    assert np.abs(made - expected).max() <= 2
    assert np.ptp(made[0, 4]) <= 1  # gray stays gray


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk(tmp_path: Path, kind: str) -> None:
    file = io.BytesIO()
    large = Image.fromarray(np.kron(RGB, np.ones((8, 8, 1), np.uint8)))
    large.convert("CMYK").save(file, kind, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    (tmp_path / "in").write_bytes(file.getvalue())
    expected = np.asarray(Image.open(file).convert("RGB")).astype(int)
    assert np.abs(read_image(tmp_path / "in")[..., ::-1].astype(int) - expected).max() <= 1
