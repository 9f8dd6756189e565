"""Messages of srfast's errors: each line is an argument of its own, so that no name can begin one."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import srfast
from srfast import errors

ROOT = Path(srfast.__file__).parent
KINDS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.SrfastError)}


def modules() -> list[Path]:
    """All of the package; in a checkout kernels and training are links."""
    found = [
        Path(at, name) for at, _, names in os.walk(ROOT, followlinks=True) for name in names if name.endswith(".py")
    ]
    assert ROOT / "kernels" / "launch.py" in found
    assert len(found) > 200
    return found


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
    assert [f"{path}:{line}" for path in modules() for line in broken_lines(path.read_text("utf-8"))] == []


def test_a_name_stays_within_its_line() -> None:
    message = str(errors.InputError("a\nb\x1b[2J is missing", "give another"))
    assert message.splitlines() == [r"a\nb\x1b[2J is missing", "give another"]


def quoting_lines(text: str) -> list[int]:
    """Lines of a module's text at which an error that quotes one of srfast's would write its line breaks as escapes."""
    found = []
    for handler in (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ExceptHandler) and n.type and n.name):
        caught = {ast.unparse(n).split(".")[-1] for n in ast.walk(handler.type or handler)}
        calls = [n for n in ast.walk(handler) if isinstance(n, ast.Call)] if caught & KINDS else []
        for call in calls:
            values = [n.value for a in call.args for n in ast.walk(a) if isinstance(n, ast.FormattedValue)]
            named = any(isinstance(value, ast.Name) and value.id == handler.name for value in values)
            if ast.unparse(call.func).split(".")[-1] in KINDS and named:
                found.append(call.lineno)
    return found


def test_errors_that_quote_others_keep_their_lines() -> None:
    wrong = 'try:\n    pass\nexcept (OSError, errors.InputError) as e:\n    raise OutputError(f"{path}: {e}") from e'
    assert quoting_lines(wrong) == [4]
    assert quoting_lines(wrong.replace('f"{path}: {e}"', '*quoted(e, f"{path}: ")')) == []
    assert quoting_lines(wrong.replace("errors.InputError", "ValueError")) == []
    assert [f"{path}:{line}" for path in modules() for line in quoting_lines(path.read_text("utf-8"))] == []


def test_a_quoted_error_keeps_its_lines() -> None:
    two = errors.InputError("a\nb is missing", "give another")
    message = str(errors.OutputError(*errors.quoted(two, "out.mkv: ", " (on node 2)")))
    assert message.splitlines() == [r"out.mkv: a\nb is missing", "give another (on node 2)"]
    assert errors.quoted(ValueError("a\nb"), "in.mkv: ") == ["in.mkv: a\nb"]
