"""The recipe for an architecture, followed to the letter; and that what follows from the records is complete."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import safetensors.torch
import torch

from srfast.checkpoint import load_model
from srfast.checkpoint.recipe import MAX_BLOCKS
from srfast.checkpoint.registry import ARCHITECTURES, BY_MODULE, LAYOUTS, fitting
from srfast.errors import CheckpointError
from tests.checkpoint.test_layouts import FLAT, IDS
from tests.checkpoint.test_layouts import made as made_plain
from tests.checkpoint.test_modern import CASES as MODERN
from tests.checkpoint.test_modern import made as made_modern

REPOSITORY = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^( *)```python\n\1# ((?:srfast|tests)/\S+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def recipe() -> str:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return text.partition("### A network architecture")[2].partition("\n### ")[0]


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def test_the_recipe_for_an_architecture(tmp_path: Path) -> None:
    """Every block goes into the file that its first line names, and nothing else changes."""
    ignored = shutil.ignore_patterns("__pycache__", "_cuda*", "weights", "video")
    shutil.copytree(REPOSITORY / "srfast", tmp_path / "srfast", ignore=ignored)
    (tmp_path / "srfast" / "video").symlink_to(REPOSITORY / "srfast" / "video")
    (tmp_path / "srfast" / "weights").symlink_to(REPOSITORY / "srfast" / "weights")
    docs = ("docs/make_models.py", "docs/section.py", "docs/models.md")
    for part in ("tests/__init__.py", "tests/conftest.py", "tests/helpers", *docs):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy
        copy(REPOSITORY / part, tmp_path / part)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    blocks = [(path, textwrap.dedent(code)) for _, path, code in BLOCK.findall(recipe())]
    assert recipe().count("```python") == len(blocks) == 3
    for path, code in blocks:
        assert not (tmp_path / path).exists()
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code, encoding="utf-8")
    tested = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", blocks[-1][0])
    assert "4 passed" in tested
    # What step 4 says, and what nobody had to say.
    run(tmp_path, "docs/make_models.py")
    assert "\n| Toy | toy-sr |" in (tmp_path / "docs" / "models.md").read_text(encoding="utf-8")
    save = """
import torch
from srfast.checkpoint import load_model, save_checkpoint
from srfast.models.toy import Toy
state = {k.replace("first", "toy_in").replace("body", "toy_mid").replace("last", "toy_out"): v
         for k, v in Toy(num_blocks=3).state_dict().items()}
torch.save(state, "toy.pth")
model = load_model("toy.pth")
save_checkpoint(model.module, "toy.safetensors", facts=model)
"""
    run(tmp_path, "-c", save)
    assert "Toy (toy-sr)" in run(tmp_path, "-m", "srfast", "inspect", "--keys", "toy.pth")
    assert "Toy" in run(tmp_path, "-m", "srfast", "inspect", "toy.safetensors")
    deep = """
import safetensors.torch, json
from safetensors import safe_open
facts = json.loads(safe_open("toy.safetensors", "pt").metadata()["srfast"])
facts["arguments"]["num_blocks"] = 4000
safetensors.torch.save_file(safetensors.torch.load_file("toy.safetensors"), "deep.safetensors", {"srfast": json.dumps(facts)})
from srfast.checkpoint import load_model
try:
    load_model("deep.safetensors")
except Exception as error:
    print(error)
"""
    assert "4000 blocks of 10 tensors" in run(tmp_path, "-c", deep)


def test_the_linters_like_the_recipe(tmp_path: Path) -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    if ruff is None:
        pytest.skip("ruff is not installed")
    for _, path, code in BLOCK.findall(recipe()):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(textwrap.dedent(code), encoding="utf-8")
    settings = ["--config", str(REPOSITORY / "pyproject.toml"), "--no-cache"]
    for command in (["check", "--select", "F,B,UP,SIM,C4,E"], ["format", "--diff"]):
        done = subprocess.run([ruff, *command, *settings, "."], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_record_is_found_and_builds_its_module() -> None:
    assert set(BY_MODULE) == {record.module.__name__ for record in ARCHITECTURES}
    assert len({(layout.architecture, layout.origin) for layout in LAYOUTS}) == len(LAYOUTS)
    for record in ARCHITECTURES:
        assert record.layouts
        assert set(record.depth) <= set(inspect.signature(record.module).parameters)


@pytest.mark.parametrize("name", [*IDS, *MODERN])
def test_one_layout_fits(name: str) -> None:
    """So that no order of the records decides."""
    if name in MODERN:
        state, _, _ = made_modern(name)
    else:
        network, _, _, size, _ = FLAT[IDS.index(name)]
        state, _, _ = made_plain(network, size)
    assert len(fitting(state)) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("module", sorted(BY_MODULE))
def test_no_argument_of_a_file_costs_time_or_memory(tmp_path: Path, module: str) -> None:
    """Whatever whole number a file that names its network gives: refused at once, by shapes or by the number of blocks."""
    path = tmp_path / "x.safetensors"
    for name, parameter in inspect.signature(BY_MODULE[module].module).parameters.items():
        if not isinstance(parameter.default, int) or isinstance(parameter.default, bool):
            continue
        for value in (MAX_BLOCKS, 4096):
            facts = {"module": module, "arguments": {name: value}, "architecture": "x", "layout": "x", "values": "x"}
            safetensors.torch.save_file({"a.weight": torch.ones(3)}, path, {"srfast": json.dumps(facts)})
            with pytest.raises(CheckpointError):
                load_model(path)
