"""Targets: what a name means is decided once, and what cannot be written is refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest

from srfast.errors import OutputError
from srfast.video.settings import Encoding
from srfast.video.target import FileTarget, NumberedImages, PipeTarget, Target, parse_target


@pytest.mark.parametrize(
    ("name", "kind", "expected", "column"),
    [
        ("out.mp4", None, FileTarget(Path("out.mp4")), "mp4"),
        ("out.MKV", None, FileTarget(Path("out.MKV")), "mkv"),
        ("out", "mkv", FileTarget(Path("out"), "mkv"), "mkv"),
        ("-", None, PipeTarget("y4m"), "y4m"),
        ("-", "matroska", PipeTarget("matroska"), "mkv"),
        ("out/%05d.png", None, NumberedImages("out/%05d.png"), "png"),
        ("out/%d.jpg", None, NumberedImages("out/%d.jpg"), "jpg"),
    ],
)
def test_a_name_means_one_thing(name: str, kind: str | None, expected: Target, column: str) -> None:
    target = parse_target(name, kind)
    assert target == expected
    assert target.column == column
    assert target.is_pipe == (name == "-")
    assert target.is_muxed == ("%" not in name)


def test_a_name_with_percent_that_is_a_file_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "%02d.mkv").touch()
    assert parse_target(tmp_path / "%02d.mkv") == FileTarget(tmp_path / "%02d.mkv")


def test_what_each_does_with_an_encoding() -> None:
    asked = Encoding("libx265", crf=5)
    assert parse_target("a.mkv").encoding(asked) == asked
    assert parse_target("-", "mkv").encoding(asked) == Encoding("libx265", crf=5, format="mkv")
    assert parse_target("%d.png").encoding(Encoding()).codec == "png"
    with pytest.raises(OutputError, match="no encoder to be given: codec, crf"):
        parse_target("%d.png").encoding(asked)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    there = tmp_path / "in.mkv"
    there.write_bytes(b"x")
    other = tmp_path / "other.mkv"
    other.write_bytes(b"y")
    for target, says in (
        (there, "is the input itself"),
        (other, "exists; give -y"),
        (tmp_path / "out.xyz", "cannot tell a video container"),
        (tmp_path / "no" / "out.mkv", "does not exist"),
    ):
        with pytest.raises(OutputError, match=says):
            parse_target(target).check(there, False)
    parse_target(other).check(there, True)
    parse_target("-").check(there, False)
    assert other.read_bytes() == b"y"
