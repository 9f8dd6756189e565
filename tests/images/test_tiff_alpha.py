"""TIFF files with alpha have the colours that Pillow reads: those of the file, or those that were multiplied, divided.

BigTIFF files, whose directories have other sizes, are read as TIFF files are.
"""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from srfast.images import read_image, read_picture
from srfast.images.metadata import left_out, read_metadata, tiff_entry

RGBA = np.random.default_rng(0).integers(0, 256, (9, 13, 4), dtype=np.uint8)
RGBA[0, :3, 3] = 0, 1, 255


def plain_tiff(values: np.ndarray, order: str, extra: int) -> bytes:
    """A TIFF of [H, W, 4], not compressed; ``extra`` says what the fourth number is."""
    (height, width, samples), bits = values.shape, values.itemsize * 8
    content = values.astype(values.dtype.newbyteorder(order)).tobytes()
    behind = 8 + 2 + 10 * 12 + 4  # where the directory ends: the sizes of the samples, and then the pixels
    # Tag, type (3: 16 bits, 4: 32 bits), count, and the value or where it is.
    entries = [
        *((0x0100, 3, 1, width), (0x0101, 3, 1, height), (0x0102, 3, samples, behind), (0x0103, 3, 1, 1)),
        *((0x0106, 3, 1, 2), (0x0111, 4, 1, behind + 2 * samples), (0x0115, 3, 1, samples)),
        *((0x0116, 3, 1, height), (0x0117, 4, 1, len(content)), (0x0152, 3, 1, extra)),
    ]
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HIH", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        short = kind == 3 and count == 1
        head += struct.pack(order + "HHI", tag, kind, count) + struct.pack(
            order + ("HH" if short else "I"), *([value, 0] if short else [value])
        )
    return head + bytes(4) + struct.pack(order + f"{samples}H", *[bits] * samples) + content


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_colours_are_those_of_the_file(tmp_path: Path, compression: str | None) -> None:
    Image.fromarray(RGBA).save(tmp_path / "in.tif", **({"compression": compression} if compression else {}))
    np.testing.assert_array_equal(read_image(tmp_path / "in.tif")[..., [2, 1, 0, 3]], RGBA)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_either_order_and_depth(tmp_path: Path, order: str, dtype: type) -> None:
    values = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (5, 7, 4), dtype=dtype, endpoint=True)
    (tmp_path / "in.tif").write_bytes(plain_tiff(values, order, extra=2))
    np.testing.assert_array_equal(read_image(tmp_path / "in.tif")[..., [2, 1, 0, 3]], values)


@pytest.mark.parametrize("order", ["<", ">"])
def test_multiplied_colours_are_divided(tmp_path: Path, order: str) -> None:
    multiplied = np.dstack([RGBA[..., :3].astype(int) * RGBA[..., 3:] // 255, RGBA[..., 3]]).astype(np.uint8)
    (tmp_path / "in.tif").write_bytes(plain_tiff(multiplied, order, extra=1))
    made, theirs = read_image(tmp_path / "in.tif")[..., [2, 1, 0, 3]], Image.open(tmp_path / "in.tif")
    assert theirs.mode == "RGBA"
    # Pillow rounds down.
    assert np.abs(made.astype(int) - np.asarray(theirs)).max() <= 1
    assert made[0, 0].tolist() == [0, 0, 0, 0]


def test_multiplied_colours_of_16_bits(tmp_path: Path) -> None:
    values = np.full((3, 4, 4), (1000, 20_000, 30_000, 40_000), np.uint16)
    (tmp_path / "in.tif").write_bytes(plain_tiff(values, "<", extra=1))
    expected = [round(value * 65_535 / 40_000) for value in (30_000, 20_000, 1000)]
    assert read_image(tmp_path / "in.tif")[1, 1].tolist() == [*expected, 40_000]


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    """OpenCV writes no word on what the fourth number is."""
    cv2.imwrite(str(tmp_path / "in.tif"), RGBA)
    np.testing.assert_array_equal(read_image(tmp_path / "in.tif"), RGBA)


def test_alpha_of_gray_is_named(tmp_path: Path) -> None:
    Image.fromarray(RGBA[..., :2].copy(), "LA").save(tmp_path / "in.tif")
    picture = read_picture(tmp_path / "in.tif")
    np.testing.assert_array_equal(picture.image, RGBA[..., 0])
    assert left_out(".png", picture.metadata) == ["the alpha of gray"]
    Image.fromarray(RGBA).save(tmp_path / "rgba.tif")
    assert left_out(".png", read_picture(tmp_path / "rgba.tif").metadata) == []


@pytest.mark.parametrize("mode", ["RGBA", "RGB", "LA", "L", "CMYK", "LAB"])
def test_bigtiff_is_read_as_tiff(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGBA)
    if mode == "LAB":
        both = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image.convert("RGB"), *both, outputMode="LAB")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    profile = {"icc_profile": struct.pack(">I12x4s16x4s", 200, b"RGB ", b"acsp") + bytes(160)} if "RGB" in mode else {}
    for big in (False, True):
        image.convert(mode).save(tmp_path / f"{big}.tif", big_tiff=big, dpi=(300, 150), exif=exif, **profile)
    assert (tmp_path / "True.tif").read_bytes()[:4] == b"II+\0"
    plain, large = (read_picture(tmp_path / f"{big}.tif") for big in (False, True))
    assert np.array_equal(large.image, plain.image)
    assert large.metadata == plain.metadata
    assert large.metadata.dpi is not None
    assert bool(large.metadata.icc) == ("RGB" in mode)


@pytest.mark.parametrize("order", ["<", ">"])
def test_damaged_bigtiff(order: str) -> None:
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HHH", 43, 8, 0)
    assert tiff_entry(head, 0x0106) is None
    for begin, count in ((1 << 63, 1), ((1 << 64) - 1, 1), (16, (1 << 64) - 1), (16, 3)):
        data = (
            head + struct.pack(order + "QQ", begin, count) + struct.pack(order + "HHQQ", 0x8773, 7, 100, (1 << 64) - 1)
        )
        assert tiff_entry(data, 0x0106) is None
        assert read_metadata(data).icc == b""
    entry = struct.pack(order + "HHQH6x", 0x0106, 3, 1, 5)
    found = tiff_entry(head + struct.pack(order + "QQ", 16, 1) + entry, 0x0106)
    assert found is not None
    assert found.number(head + struct.pack(order + "QQ", 16, 1) + entry) == 5
