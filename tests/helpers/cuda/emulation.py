"""Builds the CUDA kernels for the host, over the emulation layer of ``csrc/emulation``; needs a C++ compiler and no nvcc."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pybind11
import pytest
from filelock import FileLock

REPOSITORY = Path(__file__).parents[3]
NAME = "srfast_cuda_emulated"
FLAGS = ("-std=c++17", "-O1", "-g0", "-fPIC", "-shared", "-Wall", "-Wno-unknown-pragmas", "-Werror", "-DSRFAST_EMULATE")


def build(
    folder: Path,
    sources: tuple[str, ...] = ("emulated.cpp", "fiber_switch.cpp"),
    name: str = NAME,
    header: tuple[str, str] | None = None,
) -> Path:
    """The compiled module; built again only when a source changed. ``header``: name and text of one more that they include."""
    files = sorted(p for p in (REPOSITORY / "csrc").rglob("*") if p.suffix in (".h", ".cuh", ".cpp", ".cu"))
    text = header[1].encode() if header else b""
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in files) + text).hexdigest()[:16]
    target = folder / digest / (name + (sysconfig.get_config_var("EXT_SUFFIX") or ".so"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # several workers of pytest come here at once
        if not target.exists():
            shutil.rmtree(folder, ignore_errors=True)
            target.parent.mkdir(parents=True)
            if header:
                (target.parent / header[0]).write_text(header[1])
            _compile(target, sources)
    return target


def _compile(target: Path, sources: tuple[str, ...]) -> None:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.fail("the emulated CUDA kernels need a C++ compiler (g++ or clang++)")
    includes = [
        f"-I{target.parent}",
        f"-I{REPOSITORY / 'csrc' / 'emulation'}",
        f"-I{pybind11.get_include()}",
        f"-I{sysconfig.get_path('include')}",
    ]
    inputs = [str(REPOSITORY / "csrc" / "emulation" / source) for source in sources]
    built = target.with_suffix(".partial")
    command = [compiler, *FLAGS, *includes, *inputs, "-o", str(built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}\n{done.stderr}")
    built.rename(target)


def load(path: Path, name: str = NAME) -> Any:
    """The module in a file."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
