"""Gives a checkout its compiled modules: those that were brought along if they load, else built for this GPU alone.

python -m benchmarks.gpu.modules [--from FOLDER]              # on the GPU's machine
python3.12 -m benchmarks.gpu.modules --build FOLDER --arch 90a     # beforehand, with the same version of Python
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "srfast"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX") or ".so")
# Loads the module as srfast does, after PyTorch, and says what it was built for.
CHECK = "import torch, importlib; print(importlib.import_module('srfast._cuda').architectures)"


def loads(arch: str) -> str | None:
    """Tells why this checkout's CUDA module is of no use on an architecture, as "90a"; None if it is of use."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", CHECK], cwd=REPOSITORY, capture_output=True, text=True, timeout=100
        )
    except subprocess.SubprocessError as error:
        return str(error)
    if done.returncode:
        return (done.stderr.strip() or f"code {done.returncode}").splitlines()[-1]
    built = done.stdout.split()
    return None if not arch or arch in built else f"it was built for {' '.join(built) or 'nothing'}, not for {arch}"


def bring(folder: Path) -> list[str]:
    """Copies modules for this Python from a folder into the checkout; gives their names."""
    found = sorted(path for path in folder.glob("_c*" + SUFFIX) if path.is_file())
    for path in found:
        partial = PACKAGE / (path.name + ".partial")
        shutil.copyfile(path, partial)
        partial.replace(PACKAGE / path.name)  # one that is loaded must not change under its feet
    return [path.name for path in found]


def build(target: Path, arch: str, cuda: bool = True) -> list[Path]:
    """Builds the CUDA module, and nothing else, into a folder.

    It is built beside the checkout's ``pyproject.toml``: an older setuptools does not understand all of that.

    Raises:
        subprocess.CalledProcessError: the build fails.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in ("setup.py", "csrc"):
            (folder / source).symlink_to(REPOSITORY / source)
        command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", "built", "--build-temp", "objects"]
        chosen = {"SRFAST_BUILD_CPU": "0", "SRFAST_BUILD_VIDEO": "0"}
        chosen |= {"SRFAST_BUILD_CUDA": "1" if cuda else "0", "SRFAST_CUDA_ARCHS": arch}
        subprocess.run(command, cwd=folder, env={**os.environ, **chosen}, check=True)
        found = []
        for path in (folder / "built").rglob("*.so"):
            shutil.copyfile(path, target / path.name)
            found.append(target / path.name)
    return found


def architecture() -> str:
    """Tells what nvcc calls the GPU here, as "90a"; empty without one."""
    import torch

    if not torch.cuda.is_available():
        return ""
    major, minor = torch.cuda.get_device_capability()
    return f"{major}{minor}" + ("a" if major == 9 else "")


def main(arguments: list[str] | None = None) -> int:
    """Brings or builds a module; 0 if the checkout then has one that loads, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, help="folder with modules that were built before")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="only build, into this folder")
    parser.add_argument("--arch", default="", help="architecture to build for; by default this machine's GPU's")
    parser.add_argument("--dry-run", action="store_true", help="compile nothing")
    options = parser.parse_args(arguments)
    if options.build:
        for path in build(options.build, options.arch or architecture()):
            print(path)
        return 0
    if options.source is not None:
        brought = bring(options.source)
        print(f"brought along: {', '.join(brought) or f'nothing that ends in {SUFFIX} in {options.source}'}")
    if options.dry_run:
        print("the build as far as it goes without compiling:", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder), "90a", cuda=False)
        print(f"the module here: {loads('') or 'loads'}")
        return 0
    arch = options.arch or architecture()
    reason = loads(arch)
    if reason is not None:
        print(f"building, for the module here does not do: {reason}", flush=True)
        for path in build(PACKAGE, arch):
            print(path)
        reason = loads(arch)
    print(f"the module here: {reason or 'loads'}")
    return 0 if reason is None else 1


if __name__ == "__main__":
    sys.exit(main())
