"""What an image file cannot hold of the input's resolution, camera data and profile is named in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from srfast.cli import main

FAST = ["-n", "compact_x2", "--device", "cpu"]
DPI, EXIF = "the resolution of 300 dpi", "the camera's data (EXIF)"


def photo(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x010F] = "A maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    Image.new("RGB", (64, 48), (90, 120, 30)).save(path, dpi=(300, 300), exif=exif)
    return path


@pytest.mark.parametrize(
    ("source", "target", "missing"),
    [
        ("in.png", "out.png", []),
        ("in.png", "out.jpg", []),
        ("in.jpg", "out.tif", [EXIF]),
        ("in.jpg", "out.webp", [DPI]),
        ("in.png", "out.bmp", [EXIF, DPI]),
        ("in.jpg", "out.jp2", [EXIF, DPI]),
        ("in.tif", "out.png", [EXIF]),
        ("in.tif", "out.tif", [EXIF]),
    ],
)
def test_lines(tmp_path: Path, source: str, target: str, missing: list[str], caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / target
    assert main(["upscale", str(photo(tmp_path / source)), str(out), *FAST]) == 0
    lines = [record.message for record in caplog.records if "will lack" in record.message]
    assert lines == ([f"{out} will lack {', '.join(missing)}; .png and .jpg keep most"] if missing else [])
    with Image.open(out) as image:
        assert (DPI in missing) or tuple(round(x) for x in image.info["dpi"]) == (300, 300)
        assert (EXIF in missing) == (0x010F not in image.getexif())
