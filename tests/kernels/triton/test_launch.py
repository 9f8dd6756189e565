"""Kernels compile side by side, cross-compiled for a GPU that is not there; each case in a process of its own, without
the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
COMMON = """
import errno, logging, os, sys
import torch, triton
from srfast.errors import BackendError
from srfast.kernels import launch
from srfast.kernels.buffers import Canvas
from srfast.kernels.launch import InTurn, compile_all
from srfast.kernels.tools.offline import offline
from srfast.kernels.triton.pointwise import pointwise_launch

logging.basicConfig(level=logging.INFO, format="log: %(message)s", stream=sys.stdout)

def launches(acts=("none", "sigmoid", "silu")):
    x, y = (Canvas.allocate(1, 16, 5, 7, dtype=torch.float16) for _ in range(2))
    return [pointwise_launch(x, y, act=act) for act in acts]

def entries(folder):
    return sorted(str(p.name) for p in os.scandir(folder)) if os.path.isdir(folder) else []
"""


def start(code: str, cache: Path | str, **variables: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(cache), **variables}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", COMMON + code], env=environment, text=True, **pipes)


def run(code: str, cache: Path | str, **variables: str) -> str:
    process = start(code, cache, **variables)
    out, error = process.communicate()
    assert process.returncode == 0, out + error
    return out


def fake_ptxas(folder: Path, body: str) -> dict[str, str]:
    """A compiler that runs ``body`` before the real one, except when it is asked for its version; the variables for it."""
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    variables = {}
    for name in ("ptxas", "ptxas-blackwell"):  # newer Tritons take the second for most architectures
        script = folder / name
        script.write_text(f'#!/bin/bash\nif [ "$1" != --version ]; then\n{body}\nfi\nexec {tools / name} "$@"\n')
        script.chmod(0o755)
        variables[f"TRITON_{name.upper().replace('-', '_')}_PATH"] = str(script)
    return variables


def test_once_each_and_then_from_the_disk(tmp_path: Path) -> None:
    code = """
given = launches() + launches()
with offline(90) as loaded:
    compile_all([lambda: 1 / 0, *given[:4], InTurn(*given[4:])])
    assert not loaded, "compiling launches nothing"
    for one in given:
        one()
assert len({kernel.cubin for kernel in loaded}) == 3
"""
    run(code, tmp_path)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.cubin")}
    assert len(made) == 3
    assert run(code, tmp_path) == ""
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.cubin")} == made


def test_lines_tell_how_far_it_is(tmp_path: Path) -> None:
    code = "launch._PATIENCE = 0.01\nwith offline(90):\n    compile_all(launches())\n"
    lines = run(code, tmp_path).splitlines()
    assert lines and all(line.startswith("log: compiled ") and " of 3 GPU kernels in " in line for line in lines)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the folder should be: refused to every user, root included."""
    (tmp_path / "file").write_text("")
    code = """
with offline(90) as loaded:
    for one in launches():
        compile_all([one])
        one()
assert len(loaded) == 3
folder = triton.knobs.cache.dir
assert entries(folder)
print(folder)
"""
    *lines, folder = run(code, tmp_path / "file" / "cache").splitlines()
    warnings = [line for line in lines if "cannot keep" in line]
    assert len(warnings) == 1 and "file/cache: Not a directory" in warnings[0] and "TRITON_CACHE_DIR" in warnings[0]
    assert not Path(folder).exists(), "the temporary folder is left behind"


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    code = """
from triton.runtime.cache import FileCacheManager
put, full_disk = FileCacheManager.put, os.environ["TRITON_CACHE_DIR"]
def full(self, data, filename, binary=True):
    if self.cache_dir.startswith(full_disk):
        raise OSError(errno.ENOSPC, "No space left on device")
    return put(self, data, filename, binary)
FileCacheManager.put = full
with offline(90) as loaded:
    given = launches()
    compile_all(given)
    for one in given:
        one()
assert len(loaded) == 3
"""
    lines = [line for line in run(code, tmp_path).splitlines() if "cannot keep" in line]
    assert len(lines) == 1 and "No space left" in lines[0]


def test_out_of_memory_for_several_at_once(tmp_path: Path) -> None:
    """A compiler that is killed whenever another one runs: alone each kernel still gets compiled."""
    lock = tmp_path / "lock"
    ptxas = fake_ptxas(tmp_path, f"exec 9> {lock}; flock -n 9 || kill -9 $$; sleep 1")
    code = """
launch._threads = lambda: 3
with offline(90) as loaded:
    given = launches()
    compile_all(given)
    for one in given:
        one()
assert len(loaded) == 3
"""
    run(code, tmp_path / "cache", **ptxas)


def test_out_of_memory_for_one(tmp_path: Path) -> None:
    code = """
with offline(90) as loaded:
    try:
        compile_all(launches())
    except BackendError as error:
        print(error)
"""
    said = run(code, tmp_path / "cache", **fake_ptxas(tmp_path, "kill -9 $$"))
    error = said[said.index("Triton could not compile") :]
    assert len(error.splitlines()) == 3 and "free some and start again" in error


def test_two_processes_at_once(tmp_path: Path) -> None:
    code = """
with offline(90) as loaded:
    given = launches()
    compile_all(given)
    for one in given:
        one()
import hashlib
print(sorted(hashlib.sha256(kernel.cubin).hexdigest() for kernel in loaded))
"""
    both = [start(code, tmp_path) for _ in range(2)]
    said = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0].splitlines()[-1] == said[1][0].splitlines()[-1]
    assert not list(tmp_path.rglob("tmp.pid*"))


def test_threads_follow_the_free_memory(tmp_path: Path) -> None:
    code = """
sizes = {"SC_AVPHYS_PAGES": 0, "SC_PAGE_SIZE": 4096}
os.sysconf = sizes.__getitem__
os.sched_getaffinity = lambda process: range(16)
for gib, threads in ((0, 1), (3, 4), (100, 16)):
    sizes["SC_AVPHYS_PAGES"] = gib << 18
    assert launch._threads() == threads, (gib, launch._threads())
"""
    run(code, tmp_path)
