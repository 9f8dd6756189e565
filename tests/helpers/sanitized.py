"""A pytest plugin for ``make sanitize``: the CPU kernels of build/sanitize instead of the installed ones."""

import importlib.util
import sys
from pathlib import Path

import srfast

(_library,) = (Path(__file__).parents[2] / "build/sanitize/srfast").glob("_cpu*.so")
_spec = importlib.util.spec_from_file_location("srfast._cpu", _library)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
sys.modules["srfast._cpu"] = _module
srfast._cpu = _module  # type: ignore[attr-defined]


def pytest_report_header() -> str:
    return f"CPU kernels: {_library}, with AddressSanitizer and UBSan"
