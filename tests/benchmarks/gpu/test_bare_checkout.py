"""The whole GPU run rehearsed in a copy of the checkout, by an interpreter that has no srfast installed, without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import plans
from tests.helpers.cuda import emulation

REPOSITORY = emulation.REPOSITORY


def copy_of_the_checkout(target: Path) -> None:
    """What git tracks or would, links as links, and nothing that was built or installed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = REPOSITORY / name
        if not source.is_symlink() and not source.is_file():
            continue  # deleted and not committed
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target / name, follow_symlinks=False)


def bare_interpreter(folder: Path) -> Path:
    """This Python with this one's packages but srfast: plain folders on its path, whose editable installs are not read."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    packages = [path for path in sys.path if path.endswith("site-packages") and not (Path(path) / "srfast").is_dir()]
    (site / "packages.pth").write_text("\n".join(packages) + "\n")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Copy of the checkout, interpreter, and folder with the modules that were built beforehand."""
    folder = tmp_path_factory.mktemp("bare")
    copy, modules = folder / "checkout", folder / "modules"
    copy_of_the_checkout(copy)
    modules.mkdir()
    for path in (REPOSITORY / "srfast").glob("_c*.so"):
        shutil.copy2(path, modules)
    # The kernels' emulation takes a minute to build; its place follows from the sources alone.
    built = emulation.build(REPOSITORY / "build" / "emulated").parent
    shutil.copytree(built, copy / "build" / "emulated" / built.name)
    return copy, bare_interpreter(folder / "python"), modules


def environment() -> dict[str, str]:
    """Nothing that leads to another checkout, and registries and hubs out of reach."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "TRITON_INTERPRET")}
    return kept | {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def test_srfast_is_not_installed(bare: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Else the other test would show nothing."""
    _, python, _ = bare
    command = [str(python), "-c", "import torch, triton, srfast"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert "No module named 'srfast'" in done.stderr


@pytest.mark.timeout(1800)  # two minutes of work, on a machine that may be busy with other things
@pytest.mark.parametrize("minutes", [5, pytest.param(7, marks=pytest.mark.slow)])
def test_every_step_is_rehearsed(bare: tuple[Path, Path, Path], minutes: int, tmp_path: Path) -> None:
    copy, python, modules = bare
    out = tmp_path / "out"
    command = [str(python), "-m", "benchmarks.gpu", "--dry-run", "--minutes", str(minutes), "--out", str(out)]
    command += ["--modules", str(modules)]
    done = subprocess.run(command, cwd=copy, env=environment(), capture_output=True, text=True, timeout=1700)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((out / "rehearsal" / "summary.json").read_text())
    results = {step["name"]: step["result"] for step in summary["steps"]}
    assert list(results) == [step.name for step in plans.steps(minutes, out)]
    assert set(results.values()) == {"ok"}
    log = (out / "rehearsal" / "log.txt").read_text()
    assert str(REPOSITORY) + "/" not in log.replace(str(REPOSITORY / ".venv"), "")
    brought = sorted(path.name for path in modules.iterdir())
    assert not brought or f"brought along: {', '.join(brought)}" in log
    assert not (out / "rehearsal" / "record.json").exists()
    assert not (out / "rehearsal" / "table.jsonl").exists()
    if minutes == 5:
        assert log.count('"seconds"') > 30, "a line for each kernel and network"
        assert '"failed"' not in log
