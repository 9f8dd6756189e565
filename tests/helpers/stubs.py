"""Compares a compiled module with its stub file: every name, every argument by name, in both directions."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType
from typing import Any

Signature = tuple[str, ...]


def stub_names(path: Path) -> dict[str, Signature | None]:
    """Return the dotted names of a stub, with the names of a function's arguments; None for what is no function.

    Arguments that can only be given by name come after a "*". A name with a leading underscore is the stub's own.
    """
    found: dict[str, Signature | None] = {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        _collect("", node, found)
    return found


def module_names(module: ModuleType) -> dict[str, Signature | None]:
    """Return the same of a module made with pybind11, which writes a function's signature into its first line."""
    found: dict[str, Signature | None] = {}
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        if not isinstance(value, type):
            found[name] = _signature(value) if callable(value) else None
            continue
        found[name] = None
        enumeration = hasattr(value, "__members__")
        for member, given in vars(value).items():
            if enumeration and member not in value.__members__:
                continue
            inner = getattr(value, member) if isinstance(given, staticmethod) else given
            if member == "__init__":
                # Of a class that only the module itself makes, the constructor takes anything and refuses it.
                if "__init__(self: " in (inner.__doc__ or ""):
                    found[f"{name}.{member}"] = _signature(inner)
            elif not member.startswith("_"):
                function = callable(inner) and not enumeration
                found[f"{name}.{member}"] = _signature(inner) if function else None
    return found


def _collect(prefix: str, node: ast.stmt, found: dict[str, Signature | None]) -> None:
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
        found[node.name] = None
        for inner in node.body:
            _collect(f"{node.name}.", inner, found)
    elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or not node.name.startswith("_")):
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
        by_name = ["*", *(a.arg for a in arguments.kwonlyargs)] if arguments.kwonlyargs else []
        attribute = any(isinstance(d, ast.Name) and d.id == "property" for d in node.decorator_list)
        found[prefix + node.name] = None if attribute else (*names, *by_name)
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
        found[prefix + node.target.id] = None


def _signature(function: Any) -> Signature:
    first = function.__doc__.splitlines()[0]
    (node,) = ast.parse(f"def {first}: ...").body
    assert isinstance(node, ast.FunctionDef)
    arguments = node.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    return (*names, *(["*", *(a.arg for a in arguments.kwonlyargs)] if arguments.kwonlyargs else []))
