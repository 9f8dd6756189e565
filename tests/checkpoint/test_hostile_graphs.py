"""Hostile ONNX and ncnn files: over 500, each refused within a second, with bounded memory, and nothing run or read elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from srfast.checkpoint import load_model
from tests.helpers.hostile import ncnn_hostile
from tests.helpers.hostile.attempts import refuse

onnx_files: Any = pytest.importorskip("tests.helpers.hostile.onnx_files", exc_type=ImportError)

Families = dict[str, Callable[[], Iterator[tuple[str, dict[str, bytes]]]]]
FAMILIES: Families = {
    **{f"onnx {name}": family for name, family in onnx_files.FAMILIES.items()},
    **{f"ncnn {name}": family for name, family in ncnn_hostile.FAMILIES.items()},
}
_started: list[str] = []
_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event.split(".")[0] in ("subprocess", "socket", "ctypes", "urllib") or event in (
        "os.system",
        "os.exec",
        "os.posix_spawn",
    ):
        _started.append(f"{event} {arguments}")
    if event == "open" and str(arguments[0]).startswith(("/etc/", "/root", "/home")) and ".py" not in str(arguments[0]):
        _started.append(f"open {arguments}")


sys.addaudithook(_watch)


def written(folder: Path, files: dict[str, bytes]) -> Path:
    paths = [folder / f"case{suffix}" for suffix in files]
    for path, data in zip(paths, files.values(), strict=True):
        path.write_bytes(data)
    return paths[0]


@pytest.mark.parametrize("kind", ["onnx", "ncnn"])
def test_the_file_that_they_were_made_from_is_read(kind: str, tmp_path: Path) -> None:
    if kind == "onnx":
        files = {".onnx": onnx_files.sound().SerializeToString()}
    else:
        files = dict(zip((".param", ".bin"), ncnn_hostile.sound(), strict=True))
    assert load_model(written(tmp_path, files)).scale == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_refused(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    global _watching
    (tmp_path / "secret").write_bytes(bytes(1000))
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "weights").write_bytes(bytes(1000))
    monkeypatch.chdir(tmp_path)
    wrong = []
    _started.clear()
    for name, files in FAMILIES[family]():
        path = written(folder, files)
        _watching = True
        try:
            wrong.append(refuse(name, path))
        finally:
            _watching = False
    assert [w for w in wrong if w] == []
    assert _started == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["files", "secret"]


def test_they_are_many() -> None:
    assert sum(1 for family in FAMILIES.values() for _ in family()) >= 500
