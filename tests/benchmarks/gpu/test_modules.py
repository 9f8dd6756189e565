"""Compiled modules brought along: taken if they load on the GPU that is there, else built, with nothing but nvcc."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import modules


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package folder without modules; what is built is a Python file of the module's name, for sm_90a."""
    package = tmp_path / "checkout" / "srfast"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(modules, "REPOSITORY", package.parent)
    monkeypatch.setattr(modules, "PACKAGE", package)
    monkeypatch.setattr(modules, "SUFFIX", ".py")
    monkeypatch.setattr(modules, "architecture", lambda: "90a")
    monkeypatch.setattr(modules, "CHECK", modules.CHECK.replace("import torch, ", "import "))  # seconds each time
    return package


def module(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "_cuda.py").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("brought", "built"),
    [
        ("architectures = '80 90a'", False),
        ("architectures = '80'", True),  # another GPU's
        ("raise ImportError('GLIBC_2.99 not found')", True),
        ("import os; os.abort()", True),
    ],
)
def test_built_only_if_none_loads(
    brought: str, built: bool, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def build(target: Path, arch: str, cuda: bool = True) -> list[Path]:
        calls.append(arch)
        return [module(target, "architectures = '90a'") / "_cuda.py"]

    monkeypatch.setattr(modules, "build", build)
    assert modules.main(["--from", str(module(tmp_path / "brought", brought))]) == 0
    assert calls == (["90a"] if built else [])
    assert modules.loads("90a") is None


def test_a_build_that_fails_is_said(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module(checkout, "raise ImportError('undefined symbol')")
    monkeypatch.setattr(modules, "build", lambda target, arch, cuda=True: [])
    assert modules.main([]) == 1
    assert "the module here: ImportError: undefined symbol" in capsys.readouterr().out


def test_the_build_asks_for_the_cuda_module_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an nvcc that only says what it is asked for; without pyproject.toml, which an older setuptools refuses."""
    nvcc, log = tmp_path / "bin" / "nvcc", tmp_path / "log"
    nvcc.parent.mkdir()
    nvcc.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {log}\n'
        'case "$*" in *--version*) echo "release 13.0,";; *--list-gpu-code*) echo "sm_80 sm_90a";; esac\n'
        'while [ $# -gt 1 ]; do [ "$1" = -o ] && echo built > "$2"; shift; done\n'
    )
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    found = modules.build(tmp_path / "built", "90a")
    assert [path.name for path in found] == ["_cuda" + modules.SUFFIX]
    asked = log.read_text()
    assert "sm_90a" in asked and "sm_80" not in asked and "-fmad=false" in asked
    assert asked.count(" -c ") == len(list((modules.REPOSITORY / "csrc" / "cuda").glob("*.cu"))) + 1


def test_a_job_by_hand_says_what_is_wrong() -> None:
    command = [sys.executable, "-m", "benchmarks.gpu.job", '{"kind": "conv", "size": 3}']
    environment = {**os.environ, "PYTHONPATH": str(modules.REPOSITORY)}
    done = subprocess.run(command, cwd=modules.REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("a job has no 'size'; it has kind, what,")
