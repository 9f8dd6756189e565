"""Whether the installed Triton has what the Gluon kernels need; the plain kernels run without."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from functools import lru_cache


@lru_cache(maxsize=1)
def unavailable_reason() -> str | None:
    """Why ``gluon_conv`` cannot be used; None if it can."""
    try:
        importlib.import_module("srfast.kernels.gluon.conv")
    except ImportError as error:
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed (pip install triton)"
        what = str(error).partition(" (")[0]
        return f"Triton {importlib.metadata.version('triton')} has no Gluon for Hopper ({what}); 3.5 and later have"
    return None
