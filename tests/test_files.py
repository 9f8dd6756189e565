"""Files that appear whole: what killed processes leave, what others hold, and what lies in the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from srfast._files import check_output, whole_file
from srfast.errors import OutputError

# Writes a half of a file, says so, and waits for a line.
HALF = """
import sys
from pathlib import Path
from srfast._files import whole_file
with whole_file(Path(sys.argv[1]), overwrite=True) as hidden:
    hidden.write_text("half")
    print(hidden.name, flush=True)
    sys.stdin.readline()
    hidden.write_text("whole of the other")
"""


def begin(path: Path) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HALF, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def put(path: Path, text: str, overwrite: bool = True) -> str:
    """Writes a file, and returns the name under which it was hidden."""
    with whole_file(path, overwrite) as hidden:
        assert hidden.suffix == path.suffix and hidden.read_bytes() == b"" and hidden.stat().st_mode & 0o77 == 0
        hidden.write_text(text)
    return hidden.name


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_a_killed_process_left_is_gone_after_the_next(tmp_path: Path, overwrite: bool) -> None:
    path = tmp_path / "out.mkv"
    for _ in range(2):
        process, hidden = begin(path)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert names(tmp_path) == [hidden]
    assert put(path, "new", overwrite) == hidden
    assert names(tmp_path) == ["out.mkv"] and path.read_text() == "new"


def test_what_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    process, hidden = begin(path)
    assert put(path, "new") != hidden
    assert names(tmp_path) == sorted([hidden, "out.mkv"]) and (tmp_path / hidden).read_text() == "half"
    process.communicate("go on\n")
    assert process.returncode == 0
    assert names(tmp_path) == ["out.mkv"] and path.read_text() == "whole of the other"


def test_threads_that_write_the_same_file(tmp_path: Path) -> None:
    path, failed = tmp_path / "out.json", []
    texts = {f"{n}" * 10_000 for n in range(8)}

    def write(text: str) -> None:
        try:
            for _ in range(50):
                put(path, text)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and path.read_text() in texts and names(tmp_path) == ["out.json"]


def test_a_process_killed_between_the_two_names(tmp_path: Path) -> None:
    """Without ``overwrite`` the file has both names for a moment: the next run does not write into the finished one."""
    path = tmp_path / "out.mkv"
    hidden = put(path, "first")
    os.link(path, tmp_path / hidden)
    os.link(path, tmp_path / "kept.mkv")
    put(path, "second")
    assert (path.read_text(), (tmp_path / "kept.mkv").read_text()) == ("second", "first")
    assert names(tmp_path) == ["kept.mkv", "out.mkv"]


@pytest.mark.parametrize("kind", ["link", "loop", "folder", "pipe"])
def test_what_lies_in_the_way_is_not_touched(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "out.mkv", tmp_path / "other.txt"
    other.write_text("precious")
    way = tmp_path / put(path, "first")
    if kind == "link":
        way.symlink_to(other)
    elif kind == "loop":
        way.symlink_to(way)
    elif kind == "folder":
        way.mkdir()
    else:
        os.mkfifo(way)
    assert put(path, "second") != way.name
    assert path.read_text() == "second" and other.read_text() == "precious"
    assert names(tmp_path) == sorted([way.name, "other.txt", "out.mkv"])


def test_a_link_to_nowhere_is_in_the_way(tmp_path: Path) -> None:
    """It is said before the work, not after it, when the name turns out to be taken."""
    path = tmp_path / "out.mkv"
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match=r"out\.mkv exists; give -y"):
        check_output(path, overwrite=False)
    assert put(path, "second") and path.read_text() == "second" and not path.is_symlink()


def test_failures_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.mkv"
    with pytest.raises(KeyError), whole_file(path, overwrite=False):
        raise KeyError
    assert names(tmp_path) == []
    with pytest.raises(OutputError, match="appeared meanwhile"), whole_file(path, overwrite=False):
        path.write_text("of another program")
    assert names(tmp_path) == ["out.mkv"] and path.read_text() == "of another program"
    path.unlink()
    with pytest.raises(OSError), whole_file(path, overwrite=True):
        path.mkdir()
    assert names(tmp_path) == ["out.mkv"]


@pytest.mark.parametrize("length", [1, 200, 251])
def test_names_of_any_length(tmp_path: Path, length: int) -> None:
    path = tmp_path / ("n" * length + ".mkv")
    with whole_file(path, overwrite=False) as outer:
        outer.write_text("outer")
        with whole_file(path, overwrite=False) as inner:
            inner.write_text("inner")
        path.unlink()
    assert path.read_text() == "outer" and names(tmp_path) == [path.name]
