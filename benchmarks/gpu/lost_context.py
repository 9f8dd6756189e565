"""Ends a pytest worker whose GPU a test has lost; pytest-xdist puts another in its place.

A kernel that writes where it must not breaks the whole process's use of the GPU: every later test there would fail as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import Any

import pytest

CODE = 70


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Looks whether the GPU still answers once a test is over."""
    result = yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except Exception as error:
            sys.stderr.write(f"{item.nodeid}: the GPU is lost: {str(error).splitlines()[0]}\n")
            sys.stderr.flush()
            if "PYTEST_XDIST_WORKER" in os.environ:
                os._exit(CODE)
            pytest.exit("the GPU is lost, and without pytest-xdist nothing can take this process's place", CODE)
    return result
