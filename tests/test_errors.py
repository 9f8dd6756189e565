"""Messages of srfast's errors: each line is an argument of its own, so that no name can begin one."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import srfast
from srfast import errors

ROOT = Path(srfast.__file__).parent
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.SrfastError)}


def broken_lines(text: str) -> list[int]:
    """Lines of a module's text at which an error of srfast is made with a line break inside of an argument."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in KINDS:
            constants = [n.value for argument in node.args for n in ast.walk(argument) if isinstance(n, ast.Constant)]
            if any(isinstance(value, str) and "\n" in value for value in constants):
                found.append(node.lineno)
    return found


def test_lines_are_arguments() -> None:
    assert broken_lines('raise InputError(f"{path} is none\\nsee: help")') == [1]
    assert broken_lines('raise errors.OutputError(f"{path} is none", "see: help")') == []
    # In a checkout kernels and training are links.
    files = [
        Path(at, name) for at, _, names in os.walk(ROOT, followlinks=True) for name in names if name.endswith(".py")
    ]
    assert ROOT / "kernels" / "launch.py" in files
    assert len(files) > 200
    assert [f"{path}:{line}" for path in files for line in broken_lines(path.read_text("utf-8"))] == []


def test_a_name_stays_within_its_line() -> None:
    message = str(errors.InputError("a\nb\x1b[2J is missing", "give another"))
    assert message.splitlines() == [r"a\nb\x1b[2J is missing", "give another"]
