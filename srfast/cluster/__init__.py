"""One video, or a library of them, on many machines: segments that any scheduler runs, and Ray.

The import is light, as that of ``srfast``: Ray can start while PyTorch loads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srfast.cluster.job import Outcome as Outcome
    from srfast.cluster.job import upscale as upscale
    from srfast.cluster.joining import Joined as Joined
    from srfast.cluster.joining import join as join
    from srfast.cluster.plan import Plan as Plan
    from srfast.cluster.plan import read_plan as read_plan
    from srfast.cluster.plan import segments_folder as segments_folder
    from srfast.cluster.report import as_dict as as_dict
    from srfast.cluster.segment import Record as Record
    from srfast.cluster.segment import run_segment as run_segment
    from srfast.cluster.splitting import split as split

_HOME = {
    "Joined": "joining",
    "Outcome": "job",
    "Plan": "plan",
    "Record": "segment",
    "as_dict": "report",
    "join": "joining",
    "read_plan": "plan",
    "run_segment": "segment",
    "segments_folder": "plan",
    "split": "splitting",
    "upscale": "job",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
