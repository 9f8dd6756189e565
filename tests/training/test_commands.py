"""The commands of ``srfast.training`` say in one line what is wrong, and end with 2."""

from __future__ import annotations

import importlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from srfast.training.data import read_rgb


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a picture to train on and a file where a folder should be."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hr").mkdir()
    cv2.imwrite("hr/a.png", np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("evaluate srresnet_x4 nope", "no images below nope"),
        ("evaluate nope hr", "no checkpoint file and no shipped model is called 'nope'"),
        ("train --data nope", "no images below nope"),
        ("train --data hr --device foo", "no device is called 'foo'"),
        ("train --data hr --device meta", "cannot run on the device meta"),
        ("train --data hr --threads -1", "--threads takes a number from 0"),
        ("train --data hr --out file/run", "Not a directory"),
        ("ablation content --data nope --eval hr --out run", "no images below nope"),
        ("ablation content --data hr --eval hr --threads -1 --out run", "--threads takes a number from 0"),
        ("ablation content --data hr --eval hr --out file/run", "Not a directory"),
        ("ablation content --data hr --eval nope --out run", "no images below nope"),
        ("compare --model a=srresnet_x4 --data b=nope --out out", "no images below nope"),
        ("clips --model a=srresnet_x4 --clip b=nope", "nothing to measure with: give --niqe or --brisque"),
        ("curves --run a=nope --value psnr --out c.png", "No such file"),
        ("interpolate nope nope out.safetensors", "no checkpoint file and no shipped model is called 'nope'"),
        ("mos page --model a=srresnet_x4 --data nope --out out", "no images below nope"),
        ("mos aggregate nope nope", "No such file"),
    ],
)
def test_mistakes(folder: Path, capsys: pytest.CaptureFixture[str], command: str, says: str) -> None:
    name, *arguments = command.split()
    assert importlib.import_module(f"srfast.training.{name}").main(arguments) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert says in line


def test_every_command_is_tried() -> None:
    tried = Path(__file__).read_text()
    for path in (Path(__file__).parents[2] / "training").glob("*.py"):
        if "__main__" in path.read_text():
            assert f'("{path.stem} ' in tried


def test_a_header_of_absurd_size(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match=r"bomb\.png cannot be read"):
        read_rgb(path)
