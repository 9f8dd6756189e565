"""Every property of an input in every kind of output: kept, converted or named, as the table says; all cells."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from srfast.errors import SrfastError
from srfast.upscaler import Upscaler
from srfast.video import iter_video, upscale_video
from srfast.video.keeping import TABLE, Outcome
from tests.helpers.video import properties
from tests.video.test_matrix import Larger

# What a line says of a property that it names.
WORDS = {
    "audio": "audio",
    "further video": "further video",
    "text subtitles": "subtitle",
    "picture subtitles": "subtitle",
    "attached file": "attached file",
    "cover picture": "cover picture",
    "timecode": "timecode",
    "data": r"\bdata\b",
    "chapters": "chapter",
    "tags": r"tags \(title\)",
    "rotation": "rotat",
    "mirroring": "mirror",
    "pixel aspect": "pixel aspect 4:3",
    "uneven times": "one frame rate",
    "repeats": "shown 3 times",
    "10 bits": r"(8|10) of the input's (10 )?bits",
    "12 bits": r"(8|10) of the input's (12 )?bits",
    "alpha": "no alpha",
    "alpha of 10 bits": r"no alpha|8 of the input's (10 )?bits",
    "colour matrix": r"colour matrix \(BT.709\)",
    "HDR light": "HDR",
    "interlacing": "interlaced",
}
FILES = {"png": "o%02d.png", "jpg": "o%02d.jpg"}


@pytest.fixture(scope="module")
def larger() -> Upscaler:
    return Upscaler(Larger())


@pytest.mark.parametrize("row", TABLE)
def test_every_cell(row: str, tmp_path: Path, larger: Upscaler, caplog: pytest.LogCaptureFixture) -> None:
    """One input, all outputs; what is in them is read by PyAV or OpenCV, not by srfast."""
    source = properties.source_of(row, tmp_path)
    wrong = []
    for column, outcome in TABLE[row].items():
        caplog.clear()
        found, said = walked(row, column, source, tmp_path / column, larger, caplog)
        named = re.search(WORDS[row], said) is not None
        if (found, named) != ((False, True) if outcome is Outcome.NAMED else (True, False)):
            wrong.append(f"{column}: {outcome.value}, but {'there' if found else 'missing'}, and it said {said!r}")
    assert not wrong, "\n".join(wrong)


def walked(
    row: str, column: str, source: Path, folder: Path, upscaler: Upscaler, caplog: pytest.LogCaptureFixture
) -> tuple[bool, str]:
    """Whether the output has the property, and what was said."""
    folder.mkdir()
    target = folder / FILES.get(column, f"o.{column}")
    try:
        if column == "iter":
            with caplog.at_level(logging.INFO, "srfast"):
                frames = list(iter_video(source, upscaler))
            if row == "uneven times":
                return [round(f.time * 1000) for f in frames] == list(properties.UNEVEN), caplog.text
            return properties.array_has(row, frames[0].image), caplog.text
        with caplog.at_level(logging.WARNING, "srfast"):
            upscale_video(source, target, upscaler)
    except SrfastError as error:
        assert not target.exists()
        return False, f"{caplog.text} {error}"
    return properties.has(row, target, column), caplog.text
