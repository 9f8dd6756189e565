"""Examples in docstrings run, and what a user calls has one; first lines say what is done."""

from __future__ import annotations

import doctest
import importlib
import inspect

import pytest

import srfast

MODULES = ("srfast.upscaler", "srfast.compiler", "srfast.engine.engine")


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_what_a_user_calls_has_an_example() -> None:
    for name in ("Upscaler", "load", "compile", "Engine"):
        assert ">>> " in (inspect.getdoc(getattr(srfast, name)) or ""), f"srfast.{name} has no example"


@pytest.mark.parametrize("name", srfast.__all__)
def test_public_names_are_documented(name: str) -> None:
    text = inspect.getdoc(getattr(srfast, name))
    assert text and text.splitlines()[0].endswith((".", ":")), f"srfast.{name}: its first line is a sentence"
