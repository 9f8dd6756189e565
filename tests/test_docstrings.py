"""Examples in docstrings run, and what a user calls has one; first lines say what is done."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import srfast

ROOT = Path(srfast.__file__).parent


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


def called() -> list[str]:
    """Public names that a user calls: functions, and classes that say which arguments they take or that only arguments have.

    The other classes are what srfast makes or expects: errors, protocols, results.
    """
    taken, given = _names_in_signatures()
    names = []
    for name in srfast.__all__:
        thing = getattr(srfast, name)
        if inspect.isclass(thing):
            if issubclass(thing, Exception) or getattr(thing, "_is_protocol", False):
                continue
            documented = "Args:" in (inspect.getdoc(thing) or "") + (inspect.getdoc(thing.__init__) or "")
            if not documented and (name in given or name not in taken):
                continue
        names.append(name)
    return sorted(names)


def _names_in_signatures() -> tuple[set[str], set[str]]:
    """Words in the annotations of parameters and of results of what is public; a callback's arguments are given."""
    taken, given = set[str](), set[str]()
    for name in srfast.__all__:
        thing = getattr(srfast, name)
        functions = [f for _, f in inspect.getmembers(thing, inspect.isfunction)] if inspect.isclass(thing) else [thing]
        for function in functions:
            for parameter, note in getattr(function, "__annotations__", {}).items():
                callbacks = " ".join(re.findall(r"Callable\[\[(.*?)\]", str(note)))
                given |= set(re.findall(r"\w+", str(note) if parameter == "return" else callbacks))
                taken |= set(re.findall(r"\w+", str(note))) if parameter != "return" else set()
    return taken, given


@pytest.mark.parametrize("name", called())
def test_what_a_user_calls_has_an_example(name: str) -> None:
    assert ">>> " in (inspect.getdoc(getattr(srfast, name)) or "")


@pytest.mark.parametrize("name", srfast.__all__)
def test_public_names_are_documented(name: str) -> None:
    text = inspect.getdoc(getattr(srfast, name))
    assert text and text.splitlines()[0].endswith((".", ":")), f"srfast.{name}: its first line is a sentence"
