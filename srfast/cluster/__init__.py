"""One video, or a library of them, on many machines: segments that any scheduler runs, and Ray."""

from srfast.cluster.job import Outcome, upscale
from srfast.cluster.joining import Joined, join
from srfast.cluster.plan import Plan, read_plan, segments_folder
from srfast.cluster.report import as_dict
from srfast.cluster.segment import Record, run_segment
from srfast.cluster.splitting import split

__all__ = [
    "Joined",
    "Outcome",
    "Plan",
    "Record",
    "as_dict",
    "join",
    "read_plan",
    "run_segment",
    "segments_folder",
    "split",
    "upscale",
]
