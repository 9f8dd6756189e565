"""Examples in docstrings run, and what a user calls has one; first lines say what is done."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import srfast

ROOT = Path(srfast.__file__).parent
# Names that a user calls; the others of ``srfast.__all__`` are results, protocols and errors, which srfast makes.
CALLED = (
    "CpuBackend",
    "Encoding",
    "Engine",
    "InputOptions",
    "LiveUpscaler",
    "Upscaler",
    "compile",
    "iter_video",
    "load",
    "load_model",
    "upscale_live",
    "upscale_video",
)


def modules_with_examples() -> list[str]:
    """Names of the modules of srfast, kernels and training whose text has an example."""
    found = []
    for path in sorted(p for folder in (ROOT, ROOT / "kernels", ROOT / "training") for p in folder.rglob("*.py")):
        if ">>> " in path.read_text():
            parts = path.relative_to(ROOT.parent).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # an example may write a file
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", CALLED)
def test_what_a_user_calls_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(srfast, name)) or "")


def test_every_public_name_is_sorted_here() -> None:
    """A new function or class that is called, not only returned or raised, joins ``CALLED``."""
    returned = {
        "Backend",
        "CompiledModule",
        "LiveResult",
        "LoadedModel",
        "Progress",
        "UpscaledFrame",
        "VideoResult",
        *(name for name in srfast.__all__ if name.endswith("Error")),
    }
    assert set(srfast.__all__) == returned | set(CALLED)


@pytest.mark.parametrize("name", srfast.__all__)
def test_public_names_are_documented(name: str) -> None:
    text = inspect.getdoc(getattr(srfast, name))
    assert text and text.splitlines()[0].endswith((".", ":")), f"srfast.{name}: its first line is a sentence"
