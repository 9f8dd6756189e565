"""Reads a table of kernels and networks, and chooses the fastest right kernels from it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.gpu.jobs import APART


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Reads the whole lines of a file, the last of each job; none where there is no file."""
    found: dict[str, dict[str, Any]] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # cut off by a kill
        if isinstance(row, dict) and "name" in row:
            found[row["name"]] = row
    return list(found.values())


def decisions(rows: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Chooses for each shape the fastest right CUDA kernel, with its speed against Triton's fastest, and that configuration.

    Of two convolutions in one launch the speed is against the fastest two launches, in whatever kernels; of a trunk against
    launches of "wgmma_held".
    """
    right = [row for row in rows if "us" in row and "failed" not in row and not row.get("residual")]
    cuda, triton = dict[str, Any](), dict[str, Any]()
    programmatic = _programmatic(rows)
    for key in dict.fromkeys(row["key"] for row in right if "key" in row):
        # At the size that was measured with most ways to run it.
        sizes = [(row["width"], row["height"]) for row in right if row.get("key") == key]
        size = max(dict.fromkeys(sizes), key=sizes.count)
        of = [row for row in right if row.get("key") == key and (row["width"], row["height"]) == size]
        ours = [row for row in of if row["kind"] != "triton" and row["what"] not in APART]
        theirs = [row for row in of if row not in ours]
        best, other = (min(group, key=lambda row: row["us"], default=None) for group in (ours, theirs))
        if best is not None:
            times = [*([other["us"]] if other is not None else []), *_in_two_launches(key, right, size)]
            speedup = round(min(times) / best["us"], 3) if times else 0.0
            cuda[key] = {"kernel": best["what"], "programmatic": programmatic, "speedup": speedup}
        if other is not None and other["kind"] == "triton":
            triton[key] = other["config"]
    return cuda, triton


def _in_two_launches(key: str, right: list[dict[str, Any]], size: tuple[int, int]) -> list[float]:
    """Adds up the fastest single launches of two convolutions at a size; nothing where one was not measured there."""
    found = re.fullmatch(r"pair (\d+x\d+) (\d+)->(\d+), (\d+x\d+) ->(\d+)", key)
    if found is None:
        return []
    kernel, channels, middle, second, out = found.groups()
    keys = (f"conv {kernel} {channels}->{middle}", f"conv {second} {middle}->{out}")
    at = [row for row in right if (row["width"], row["height"]) == size]
    singles = [[row["us"] for row in at if row.get("key") == one] for one in keys]
    return [sum(map(min, singles))] if all(singles) else []


def _programmatic(rows: list[dict[str, Any]]) -> bool:
    """Tells whether launches cost less where they begin before the kernel in front has ended."""
    found = next((row for row in rows if row.get("kind") == "launches"), {})
    plain, dependent = (found.get(f"image, {name}", {}).get("us") for name in ("plain", "dependent"))
    return plain is not None and dependent is not None and dependent < plain


def write_decisions(table: Path) -> None:
    """Writes what was chosen beside a table of one GPU; each file whole or not at all."""
    rows = rows_of(table)
    gpu = next((row["gpu"] for row in rows if "gpu" in row), None)
    if gpu is None:
        return
    for name, chosen in zip(("cuda_configs.json", "configs.json"), decisions(rows), strict=True):
        if chosen:
            partial = table.with_name(name + ".partial")
            partial.write_text(json.dumps({gpu: chosen}, indent=1) + "\n", encoding="utf-8")
            partial.replace(table.with_name(name))
