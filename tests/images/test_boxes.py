"""What AVIF and JPEG 2000 files hold beside their pixels: compared with PIL, and with files made box by box."""

from __future__ import annotations

import logging
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from srfast.errors import InputError
from srfast.images import read_image, read_picture, write_image
from srfast.images.boxes import read_boxed
from srfast.images.metadata import Metadata, read_metadata

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")
ORIENTATION, MAKE = 0x0112, 0x010F
PROFILE = struct.pack(">I12x4s16x4s", 3000, b"RGB ", b"acsp") + bytes(range(256)) * 11 + bytes(144)


def pixels() -> np.ndarray:
    """Four corners that are told apart."""
    return np.kron(np.array([[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 0]]]), np.ones((24, 32, 1))).astype(
        "u1"
    )


def avif(path: Path, orientation: int, **options: object) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = orientation, "camera"
    Image.fromarray(pixels()).save(path, exif=exif, icc_profile=PROFILE, quality=100, **options)
    return path


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def jp2(head: bytes = b"", tail: bytes = b"", image: np.ndarray | None = None) -> bytes:
    """A file with boxes in its header, and behind it."""
    lossless = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    data = cv2.imencode(".jp2", pixels() if image is None else image, lossless)[1].tobytes()
    at = data.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", data, at)
    header = data[at + 8 : at + length]
    return data[:at] + box(b"jp2h", header + head) + tail + data[at + length :]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_once_and_keeps_profile_and_exif(tmp_path: Path, orientation: int) -> None:
    picture = read_picture(avif(tmp_path / "in.avif", orientation))
    with Image.open(tmp_path / "in.avif") as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(picture.image, upright[..., ::-1])
    write_image(tmp_path / "out.png", picture.image, False, picture.metadata)
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["icc_profile"] == PROFILE
        assert image.getexif()[MAKE] == "camera"
        assert image.getexif().get(ORIENTATION, 1) == 1


def test_exif_of_avif_turns_nothing(tmp_path: Path) -> None:
    """As its specification says: turns are properties of the picture, here one by nothing."""
    data = avif(tmp_path / "in.avif", 6).read_bytes()
    make = struct.pack(">HHI", MAKE, 2, 7)
    turn = box(b"irot", b"\3")
    assert (data.count(make), data.count(turn)) == (1, 1)
    at = data.index(make)
    data = data[:at] + struct.pack(">HHIHH", ORIENTATION, 3, 1, 6, 0) + data[at + 12 :]
    (tmp_path / "in.avif").write_bytes(data.replace(turn, box(b"irot", b"\0")))
    assert np.array_equal(read_image(tmp_path / "in.avif"), cv2.imread(str(tmp_path / "in.avif"), -1))
    assert read_metadata(data).exif[10:18] == struct.pack(">HHI", ORIENTATION, 3, 1)


def test_a_crop_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = avif(tmp_path / "in.avif", 6).read_bytes().replace(b"irot", b"clap")
    with caplog.at_level(logging.WARNING, "srfast"):
        write_image(tmp_path / "out.png", pixels(), False, read_metadata(data))
    assert "will lack the crop of its input (clap)" in caplog.text


@pytest.mark.parametrize("points", [(9, 16), (12, 13), (1, 13), (2, 2)])
def test_the_colours_of_avif(tmp_path: Path, points: tuple[int, int], caplog: pytest.LogCaptureFixture) -> None:
    """Code points of the file, here patched in, become PNG's, but for unspecified ones; sRGB is not worth a line."""
    data = cv2.imencode(".avif", pixels())[1].tobytes()
    at = data.index(b"nclx") + 4
    (tmp_path / "in.avif").write_bytes(data[:at] + struct.pack(">HH", *points) + data[at + 4 :])
    picture = read_picture(tmp_path / "in.avif")
    write_image(tmp_path / "out.png", picture.image, False, picture.metadata)
    written = (tmp_path / "out.png").read_bytes()
    assert (b"cICP" + bytes([*points, 0, 1]) in written) == (points != (2, 2))
    assert (b"cICP" in written) == (points != (2, 2))
    with caplog.at_level(logging.WARNING, "srfast"):
        write_image(tmp_path / "out.jpg", picture.image, False, picture.metadata)
    assert ("the colour space (cICP)" in caplog.text) == (points in ((9, 16), (12, 13)))


@pytest.mark.parametrize("bits", [10, 12])
def test_white_of_avif(tmp_path: Path, bits: int) -> None:
    image = np.full((48, 64, 3), (1 << bits) - 1, np.uint16)
    image[:, 32:] = 1 << (bits - 1)
    cv2.imencode(".avif", image, [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100])[1].tofile(
        tmp_path / "in.avif"
    )
    read = read_image(tmp_path / "in.avif").astype(int)
    assert np.abs(read[:, :30] - 65535).max() <= 65536 >> (bits - 3)
    assert np.abs(read[:, 34:] - 32800).max() <= 65536 >> (bits - 3)


@pytest.mark.parametrize("bits", [9, 10, 12, 14])
def test_white_of_jpeg_2000(tmp_path: Path, bits: int) -> None:
    """OpenCV writes 16 bits; with fewer named, numbers that lie around the middle of 16 lie around that of those."""
    values = np.random.default_rng(0).integers(0, 1 << bits, (48, 64), dtype=np.uint16)
    data = bytearray(jp2(image=values + (1 << 15) - (1 << (bits - 1))))
    data[data.index(b"ihdr") + 14] = data[data.index(b"\xff\x4f\xff\x51") + 42] = bits - 1
    (tmp_path / "in.jp2").write_bytes(data)
    assert np.array_equal(read_image(tmp_path / "in.jp2"), np.rint(values * (65535 / ((1 << bits) - 1))))


def test_profile_resolution_and_exif_of_jpeg_2000(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = 6, "camera"
    shown = struct.pack(">HHHHbb", 11811, 1, 59055, 10, 0, 0)  # 300 and 150 dpi, down and across
    head = box(b"colr", b"\2\0\0" + PROFILE) + box(b"res ", box(b"resd", shown))
    tail = box(b"uuid", b"JpgTiffExif->JP2" + exif.tobytes().removeprefix(b"Exif\0\0"))
    (tmp_path / "in.jp2").write_bytes(jp2(head, tail))
    picture = read_picture(tmp_path / "in.jp2")
    assert np.array_equal(picture.image, np.rot90(pixels(), -1))
    write_image(tmp_path / "out.png", picture.image, False, picture.metadata)
    with Image.open(tmp_path / "out.png") as image:
        assert image.info["icc_profile"] == PROFILE
        assert image.getexif()[MAKE] == "camera"
        assert [round(value) for value in image.info["dpi"]] == [300, 150]  # turned as the picture is


def test_damaged_files(tmp_path: Path) -> None:
    """Read as far as can be, or refused; nothing else."""
    random = np.random.default_rng(0)
    tail = box(b"uuid", b"JpgTiffExif->JP2" + bytes(30))
    for whole in (avif(tmp_path / "in.avif", 7).read_bytes(), jp2(box(b"res ", box(b"resd", bytes(10))), tail)):
        assert read_boxed(whole) is not None
        for length in range(0, len(whole), 3):
            read_metadata(whole[:length])
        for _ in range(1000):
            data = bytearray(whole)
            data[int(random.integers(len(data)))] = int(random.integers(256))
            assert isinstance(read_metadata(bytes(data)), Metadata)
        (tmp_path / "cut.avif").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError):
            read_image(tmp_path / "cut.avif")
