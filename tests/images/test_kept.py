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


GAMMA, WIDE = struct.pack(">I", 100_000), struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)
OF_SRGB = {
    b"gAMA": struct.pack(">I", 45_455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
HDR = {b"cICP": bytes([9, 16, 0, 1]), b"mDCV": bytes(range(24)), b"cLLI": bytes(range(8))}


def with_chunks(path: Path, chunks: dict[bytes, bytes], image: np.ndarray | None = None) -> Path:
    data = cv2.imencode(".png", np.dstack([GRAY] * 3) if image is None else image)[1].tobytes()
    path.write_bytes(data[:33] + b"".join(chunk(kind, content) for kind, content in chunks.items()) + data[33:])
    return path


def chunks_of(path: Path) -> dict[bytes, bytes]:
    """Those before the pixels, read one after the other."""
    data, at, found = path.read_bytes(), 8, {}
    while data[at + 4 : at + 8] != b"IDAT":
        (length,) = struct.unpack_from(">I", data, at)
        found[data[at + 4 : at + 8]] = data[at + 8 : at + 8 + length]
        at += 12 + length
    return found


@pytest.mark.parametrize("image", [None, GRAY, GRAY.astype(np.uint16) * 257, np.dstack([GRAY] * 4)])
def test_the_colours_of_png(tmp_path: Path, image: np.ndarray | None, caplog: pytest.LogCaptureFixture) -> None:
    """An HDR picture stays one, a linear one linear."""
    chunks = {**HDR, b"gAMA": GAMMA, b"cHRM": WIDE}
    picture = read_picture(with_chunks(tmp_path / "in.png", chunks, image))
    with caplog.at_level(logging.WARNING, "srfast"):
        write_image(tmp_path / "out.png", picture.image, False, picture.metadata)
    assert not caplog.text
    found = chunks_of(tmp_path / "out.png")
    assert {kind: found.get(kind) for kind in chunks} == chunks
    assert np.array_equal(read_picture(tmp_path / "out.png").image, picture.image)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize(
    ("chunks", "named"),
    [
        ({**HDR, b"gAMA": GAMMA}, "the colour space (cICP, mDCV, cLLI, gAMA)"),
        ({**OF_SRGB, b"cHRM": WIDE}, "the colour space (cHRM)"),
        (OF_SRGB, ""),
        ({b"cICP": bytes([1, 13, 0, 1]), b"gAMA": struct.pack(">I", 45_450)}, ""),
        ({b"sRGB": b"\0", b"gAMA": GAMMA, b"cHRM": WIDE}, ""),  # they do not count beside it
        ({b"gAMA": b"\0"}, ""),
    ],
)
def test_colours_that_a_format_has_no_place_for(
    tmp_path: Path, suffix: str, chunks: dict[bytes, bytes], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    picture = read_picture(with_chunks(tmp_path / "in.png", chunks))
    with caplog.at_level(logging.WARNING, "srfast"):
        write_image(tmp_path / f"out{suffix}", picture.image, False, picture.metadata)
    assert (f"will lack {named};" in caplog.text) if named else not caplog.text


def test_a_profile_makes_gamma_and_primaries_superfluous(tmp_path: Path) -> None:
    profile = struct.pack(">I12x4s16x4s", 200, b"RGB ", b"acsp") + bytes(160)
    chunks = {b"iCCP": b"x\0\0" + zlib.compress(profile), b"cICP": HDR[b"cICP"], b"gAMA": GAMMA}
    picture = read_picture(with_chunks(tmp_path / "in.png", chunks))
    write_image(tmp_path / "out.png", picture.image, False, picture.metadata)
    found = chunks_of(tmp_path / "out.png")
    assert (found[b"cICP"], b"gAMA" in found, b"iCCP" in found) == (HDR[b"cICP"], False, True)


@pytest.mark.parametrize("name", ["n" * 251 + ".png", "ä" * 125 + ".png"])
def test_names_as_long_as_any(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / name, GRAY, False)
    assert np.array_equal(cv2.imdecode(np.fromfile(tmp_path / name, np.uint8), cv2.IMREAD_UNCHANGED), GRAY)
    with whole_file(tmp_path / name, overwrite=True) as partial:
        assert len(partial.name.encode()) <= 255
        partial.write_bytes(b"x")
    assert [p.name for p in tmp_path.iterdir()] == [name]
