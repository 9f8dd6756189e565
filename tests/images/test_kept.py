"""What image files hold beside plain colours: resolution, a transparent gray, profiles of printers."""

from __future__ import annotations

import logging
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from srfast._files import whole_file
from srfast.images import read_picture, write_image

PIL = pytest.importorskip("PIL.Image")  # an independent reader and writer
GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("source", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("target", [".png", ".jpg", ".tif"])
def test_resolution(tmp_path: Path, source: str, target: str) -> None:
    PIL.fromarray(np.dstack([GRAY] * 3)).save(tmp_path / f"in{source}", dpi=(300, 150))
    picture = read_picture(tmp_path / f"in{source}")
    write_image(tmp_path / f"out{target}", picture.image, False, picture.metadata)
    assert [round(float(v)) for v in PIL.open(tmp_path / f"out{target}").info["dpi"]] == [300, 150]
    assert PIL.open(tmp_path / f"out{target}").size == (8, 6)


@pytest.mark.parametrize(("bits", "value"), [(8, 5), (16, 500), (4, 3), (1, 1)])
def test_a_transparent_gray(tmp_path: Path, bits: int, value: int) -> None:
    top = (1 << bits) - 1
    values = (np.arange(64).reshape(8, 8) * (100 if bits == 16 else 1)) & top
    if bits == 16:
        rows = values.astype(">u2").tobytes()
        lines = [rows[16 * y : 16 * y + 16] for y in range(8)]
    else:
        plain = ((values[:, :, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).reshape(8, -1)
        lines = [np.packbits(line).tobytes() for line in plain]
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0))
    data += chunk(b"tRNS", struct.pack(">H", value))
    data += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines))) + chunk(b"IEND", b"")
    (tmp_path / "in.png").write_bytes(data)
    image = read_picture(tmp_path / "in.png").image
    white = 65535 if bits == 16 else 255
    assert image.dtype == (np.uint16 if bits == 16 else np.uint8)
    assert np.array_equal(image[:, :, 3], np.where(values == value, 0, white))
    assert np.array_equal(image[:, :, 0], values if bits == 16 else values * 255 // top)


def test_a_profile_of_other_colours_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    profile = bytearray(200)
    profile[:4], profile[16:20], profile[36:40] = (200).to_bytes(4, "big"), b"CMYK", b"acsp"
    PIL.new("CMYK", (8, 6), (10, 20, 30, 40)).save(tmp_path / "in.jpg", icc_profile=bytes(profile), quality=100)
    with caplog.at_level(logging.WARNING, "srfast"):
        picture = read_picture(tmp_path / "in.jpg")
    assert picture.image.shape == (6, 8, 3)
    assert "its CMYK colour profile does not fit the converted pixels and is left out" in caplog.text
    # Without a profile CMYK has one reading, (1 - c)(1 - k), in PIL as here.
    reference = np.asarray(PIL.open(tmp_path / "in.jpg").convert("RGB"))[0, 0, ::-1].astype(int)
    assert np.abs(picture.image[0, 0].astype(int) - reference).max() <= 2


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "ä" * 125 + ".png"])
def test_names_as_long_as_any(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, GRAY, False)
    assert np.array_equal(cv2.imdecode(np.fromfile(tmp_path / name, np.uint8), cv2.IMREAD_UNCHANGED), GRAY)
    with whole_file(tmp_path / name, overwrite=True) as partial:
        assert len(partial.name.encode()) <= 255
        partial.write_bytes(b"x")
    assert [p.name for p in tmp_path.iterdir()] == [name]
