"""Examples in docstrings run, and what a user calls has one; first lines say what is done."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import srfast
from tests.helpers import counts

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


def published(module: ModuleType) -> Iterator[tuple[str, type | None, Any]]:
    """Name, class and object of the functions, classes, methods and properties of a module that are public."""
    for name, thing in vars(module).items():
        mine = getattr(thing, "__module__", None) == module.__name__
        if name.startswith("_") or not mine or not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        yield name, None, thing
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not member.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
                yield member, thing, value


def documented(name: str, owner: type | None, thing: Any, contracts: list[type]) -> bool:
    """Whether there is a docstring: its own, that of what it overrides or of the protocol it follows, or an attribute's line."""
    if inspect.getdoc(thing):
        return True
    if owner is None:
        return False
    followed = [c for c in contracts if all(hasattr(owner, member) for member in methods(c))]
    inherited = any(
        inspect.getdoc(vars(base).get(name)) for base in (*owner.__mro__[1:], *followed) if name in vars(base)
    )
    return inherited or bool(re.search(rf"^ +(\w+, )*{name}(, \w+)*:", inspect.getdoc(owner) or "", re.MULTILINE))


def methods(protocol: type) -> set[str]:
    """Names of what a protocol asks for."""
    return {name for base in protocol.__mro__[:-2] for name in vars(base) if not name.startswith("_")}


def test_everything_public_is_documented() -> None:
    """In modules whose packages are installed here."""
    found = []
    for name in counts.modules(counts.ROOT):
        if name != "srfast.__main__":
            with contextlib.suppress(ImportError):  # of a program that srfast is called from, or of an extra
                found.append(importlib.import_module(name))
    assert len(found) > 200
    public = [(module.__name__, *entry) for module in found for entry in published(module)]
    contracts = [thing for _, _, _, thing in public if inspect.isclass(thing) and getattr(thing, "_is_protocol", False)]
    silent = [
        f"{module}.{owner.__name__ + '.' if owner else ''}{name}"
        for module, name, owner, thing in public
        if not documented(name, owner, thing, contracts)
    ]
    assert silent == [], "these say nothing of what they do"
