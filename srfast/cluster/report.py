"""What a run in segments did, for programs: the single run's report, with each segment and each machine."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from typing import Any

from srfast.cluster.joining import Joined
from srfast.cluster.plan import Plan


def as_dict(joined: Joined, plan: Plan, target: str | os.PathLike[str]) -> dict[str, Any]:
    """Make the report of a joined video, in JSON's types; sizes are bytes and pixels, and stages are sums over all machines.

    Args:
        joined: what ``join`` returned, or an ``Outcome`` has.
        plan: of the video.
        target: the output, whose size is told.
    """
    result = joined.result
    hosts: dict[str, Counter[str]] = {}
    for record in joined.segments:
        host = hosts.setdefault(record.host, Counter())
        host.update({"segments": 1, "frames": record.frames})
        host.update(record.stages)
        host["seconds"] += record.seconds  # type: ignore[assignment]
    return {
        "input": plan.source.path,
        "output": os.fspath(target),
        "output_bytes": os.path.getsize(target) if os.path.isfile(target) else None,
        "frames": result.frames,
        "redone_frames": result.redone,
        "width": result.width,
        "height": result.height,
        "codec": result.codec,
        "pix_fmt": result.pix_fmt,
        "seconds": result.seconds,
        "fps": result.fps,
        "stage_seconds": result.stages,
        "reuse": asdict(result.reuse),
        "damage": asdict(result.damage),
        "hosts": {host: {key: round(value, 3) for key, value in counts.items()} for host, counts in hosts.items()},
        "segments": [asdict(record) for record in joined.segments],
    }
