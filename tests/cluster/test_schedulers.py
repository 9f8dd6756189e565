"""The scripts of docs/cluster.md are run as they stand, with stand-ins for the schedulers that this machine lacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.video.segments import assert_same, in_one_run, moving_clip

PAGE = (Path(__file__).parent.parent.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"### (SLURM|GNU parallel)\n.*?```bash\n(.*?)```", PAGE, re.DOTALL)
POD = re.search(r"command: \[sh, -c, '(.*?)'\]", PAGE)
PARALLEL = """
import subprocess, sys
command = sys.argv[1:]
assert command[:4] == ["-j", "2", "--retries", "3"], command
for line in sys.stdin:
    subprocess.run([part.replace("{}", line.strip()) for part in command[4:]], check=True)
"""
SBATCH = """
import os, subprocess, sys
options = dict(part.partition("=")[::2] for part in sys.argv[1:-2])
assert sys.argv[-2] == "--wrap", sys.argv
numbers = [0]
if "--array" in options:
    first, last = options["--array"].split("-")
    numbers = range(int(first), int(last) + 1)
else:
    assert options["--dependency"] == "afterok:7", options
for number in numbers:
    environment = dict(os.environ, SLURM_ARRAY_TASK_ID=str(number))
    subprocess.run(["sh", "-c", sys.argv[-1]], check=True, env=environment, stdout=sys.stderr)
print(7)
"""


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH has srfast and the stand-ins; a small network and segments of 0.3 s are given there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    wrapper = """
import sys
arguments = sys.argv[1:]
if arguments[0] == "split":
    arguments += ["-n", "compact_x2", "--seconds", "0.3", "--device", "cpu", "--fp32", "-c", "ffv1"]
from srfast.cli import main
sys.exit(main(arguments))
"""
    for name, code in {"srfast": wrapper, "parallel": PARALLEL, "sbatch": SBATCH}.items():
        (folder / name).write_text(f"#!{sys.executable}\n{code}")
        (folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path)}


def run(script: str, folder: Path, tools: dict[str, str]) -> None:
    script = script.replace("/shared/", f"{folder}/")
    done = subprocess.run(["bash", "-ec", script], cwd=folder, env=tools, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr


def test_the_page_has_all_three() -> None:
    assert [name for name, _ in SCRIPTS] == ["SLURM", "GNU parallel"] and POD


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip, in.mkv, and whole.mkv by a single run."""
    folder = tmp_path_factory.mktemp("one")
    in_one_run(moving_clip(folder / "in.mkv", frames=20, size=(32, 32)), folder / "whole.mkv", "compact_x2")
    return folder


@pytest.mark.parametrize(("name", "script"), SCRIPTS)
def test_scripts_make_the_output_of_a_single_run(
    tmp_path: Path, tools: dict[str, str], one_run: Path, name: str, script: str
) -> None:
    shutil.copy(one_run / "in.mkv", tmp_path)
    run(script, tmp_path, tools)
    assert_same(tmp_path / "out.mkv", one_run / "whole.mkv")


def test_a_pod_makes_the_segment_of_its_index(tmp_path: Path, tools: dict[str, str], one_run: Path) -> None:
    shutil.copy(one_run / "in.mkv", tmp_path)
    assert POD is not None
    run(f"srfast split in.mkv plan.json -f mkv; export JOB_COMPLETION_INDEX=1; {POD[1]}", tmp_path, tools)
    assert [path.name for path in (tmp_path / "plan.segments").iterdir()] == ["000001.segment"]
