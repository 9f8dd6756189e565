"""Image files: turned upright once, with their colour profile, and what is left out or too large is said."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from srfast.errors import InputError, OutputError
from srfast.images import LARGEST_SIDES, check_size, encode_image, read_image, read_picture, write_image
from srfast.images.metadata import Metadata, read_metadata

Image = pytest.importorskip("PIL.Image")
ORIENTATION, MAKE = 0x0112, 0x010F


def profile(space: bytes = b"RGB ", length: int = 100_000) -> bytes:
    """A profile by its header, longer than a segment of JPEG."""
    rest = np.random.default_rng(0).integers(0, 256, length - 40, dtype=np.uint8).tobytes()
    return struct.pack(">I12x4s16x4s", length, space, b"acsp") + rest


def pixels(mode: str) -> Any:
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    values[..., 3] |= 1  # WebP's writer changes colours that nobody sees
    return Image.fromarray(values).convert(mode)


def saved(path: Path, mode: str, orientation: int = 1, **options: Any) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, "camera"
    if path.suffix == ".webp":
        options |= {"lossless": True, "exact": True}
    pixels(mode).save(path, exif=exif, **options)
    return path


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_turned_as_colour_is(tmp_path: Path, suffix: str, orientation: int) -> None:
    colour = read_image(saved(tmp_path / f"rgb{suffix}", "RGB", orientation))
    image = read_image(saved(tmp_path / f"rgba{suffix}", "RGBA", orientation))
    assert image.shape == (*((20, 30) if orientation < 5 else (30, 20)), 4)
    if suffix != ".tif":  # of TIFF, OpenCV gives colours times alpha
        assert np.array_equal(image[..., :3], colour)
    # The alpha by itself, as a gray picture.
    Image.fromarray(np.asarray(pixels("RGBA"))[..., 3]).save(
        tmp_path / "alpha.png", exif=Image.open(tmp_path / f"rgb{suffix}").getexif()
    )
    assert np.array_equal(image[..., 3], read_image(tmp_path / "alpha.png"))


@pytest.mark.parametrize("orientation", [1, 6, 7])
def test_sixteen_bits_and_gray_with_alpha_are_turned(tmp_path: Path, orientation: int) -> None:
    path = saved(tmp_path / "la.png", "LA", orientation)
    expected = read_image(path)
    assert expected.shape[:2] == ((20, 30) if orientation == 1 else (30, 20))
    exif = read_metadata(path.read_bytes()).exif
    deep = np.asarray(pixels("RGBA"))[..., [2, 1, 0, 3]].astype(np.uint16) * 257
    data = cv2.imencode(".png", deep)[1].tobytes()
    path.write_bytes(data[:33] + png_chunk(b"eXIf", exif) + data[33:])
    eight = read_image(saved(tmp_path / "rgba.png", "RGBA", orientation))
    assert np.array_equal(read_image(path), eight.astype(np.uint16) * 257)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
@pytest.mark.parametrize("target", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("source", [".png", ".jpg", ".webp", ".tif"])
def test_profile_and_exif_come_along(tmp_path: Path, source: str, target: str, mode: str) -> None:
    """Other readers find them, and do not turn the picture a second time."""
    if source == ".jpg" and mode == "RGBA":
        pytest.skip("JPEG has no alpha")
    icc = profile(b"GRAY" if mode == "L" else b"RGB ")
    picture = read_picture(saved(tmp_path / f"in{source}", mode, 6, icc_profile=icc))
    assert picture.image.shape[:2] == (30, 20)
    out = tmp_path / f"out{target}"
    write_image(out, picture.image, False, picture.metadata)
    with Image.open(out) as written:
        written.load()
        gray_lost = mode == "L" and ".webp" in (source, target)  # it has colours only
        assert written.info.get("icc_profile", b"") == (b"" if gray_lost else icc)
        exif = {} if source == ".tif" else {ORIENTATION: 1, MAKE: "camera"}
        assert dict(written.getexif()) == exif
    again = read_image(out)
    if target != ".jpg":
        expected = cv2.cvtColor(picture.image, cv2.COLOR_GRAY2BGR) if again.ndim > picture.image.ndim else picture.image
        assert np.array_equal(again, expected)
    assert again.shape[:2] == (30, 20)


def test_profiles_of_other_colours_are_left_out(tmp_path: Path) -> None:
    """OpenCV converts CMYK, and reads gray with alpha as colours."""
    pixels("CMYK").save(tmp_path / "cmyk.jpg", icc_profile=profile(b"CMYK"))
    pixels("LA").save(tmp_path / "la.png", icc_profile=profile(b"GRAY"))
    pixels("RGB").save(tmp_path / "cut.png", icc_profile=profile()[:-9])
    for path in tmp_path.iterdir():
        assert read_picture(path).metadata.icc == b""


@pytest.mark.parametrize("suffix", [".bmp", ".tif"])
def test_a_profile_that_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    write_image(tmp_path / f"x{suffix}", np.zeros((2, 2, 3), np.uint8), False, Metadata(icc=profile()))
    assert "will lack the colour profile" in caplog.text


def test_damaged_metadata_is_no_error(tmp_path: Path) -> None:
    """Every cut and a flip of every byte of the metadata: nothing is raised but for the picture itself."""
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        data = saved(tmp_path / f"x{suffix}", "RGB", 6, icc_profile=profile(length=200)).read_bytes()
        for at in range(min(len(data), 700)):
            changed = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
            for part in (data[:at], changed):
                found = read_metadata(part)
                assert 1 <= found.orientation <= 8
                assert found.upright(3).orientation == 1


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".jpg"])
def test_sixteen_bits_are_rounded_to_eight(suffix: str) -> None:
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(values / 257).astype(np.uint8)  # never halfway: 257 is odd
    data = encode_image(Path(f"x{suffix}"), values)
    made = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if suffix == ".bmp":
        np.testing.assert_array_equal(made, expected)
    # What is lossy keeps the mean, which rounding down would lower by a half.
    assert abs(float(made.mean()) - values.mean() / 257) < 0.2


def test_what_is_dropped_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = np.full((4, 5, 4), 128, np.uint8)
    write_image(tmp_path / "x.png", image, False)
    write_image(tmp_path / "x.webp", image, False)
    assert not caplog.records
    write_image(tmp_path / "x.jpg", image, False)
    assert "x.jpg" in caplog.text
    assert "no alpha" in caplog.text
    caplog.clear()
    for name in ("many.tif", "many.webp"):
        first, second = pixels("RGB"), pixels("L").convert("RGB")
        first.save(tmp_path / name, save_all=True, append_images=[second])
        read_image(tmp_path / name)
        assert f"{name} holds 2 images; only the first" in caplog.text


def test_an_absurd_size(tmp_path: Path) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    rows = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + png_chunk(b"IEND", b""))
    with pytest.raises(InputError, match=r"bomb\.png cannot be decoded; it may be damaged or too large"):
        read_image(tmp_path / "bomb.png")


def test_the_smallest_side_is_the_writer_s(tmp_path: Path) -> None:
    write_image(tmp_path / "x.jp2", np.zeros((32, 32), np.uint8), False)
    for size in ((31, 64), (64, 31)):
        with pytest.raises(OutputError, match=r"has at least 32 pixels: use another format, such as \.png"):
            check_size(tmp_path / "y.jp2", *size)
        with pytest.raises(OutputError, match="at least 32 pixels"):
            write_image(tmp_path / "y.jp2", np.zeros(size, np.uint8), False)


@pytest.mark.parametrize("suffix", LARGEST_SIDES)
def test_the_largest_side_is_the_writer_s(tmp_path: Path, suffix: str) -> None:
    limit = LARGEST_SIDES[suffix]
    write_image(tmp_path / f"x{suffix}", np.zeros((1, limit), np.uint8), False)
    for size in ((1, limit + 1), (limit + 1, 1)):
        with pytest.raises(OutputError, match=f"at most {limit} pixels"):
            check_size(tmp_path / f"y{suffix}", *size)
    try:
        done = cv2.imencode(suffix, np.zeros((1, limit + 1), np.uint8))[0]
    except cv2.error:
        done = False
    assert not done
