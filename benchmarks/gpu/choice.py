"""Turns what a run on a GPU found into the file by which srfast chooses the backend on such GPUs.

    python -m benchmarks.gpu.choice gpu-run --out h200.json               # then SRFAST_GPU_MEASURED=h200.json
    python -m benchmarks.gpu.choice gpu-run --gpu sm90 --out kernels/configs/gpu-sm90.json       # for all such GPUs: it ships

Times are those of whole networks: of the record, where contenders took turns, else of the table. The kernels' configurations of
the run, ``cuda_configs.json`` and ``configs.json``, go into the file too, so that the networks run as they were measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import record
from benchmarks.gpu.decisions import rows_of
from benchmarks.subjects import by_name
from srfast._files import whole_file
from srfast.backends.measured import network_kind
from srfast.capture import capture
from srfast.errors import SrfastError, escaped
from srfast.kernels.configs import made
from srfast.kernels.configs.networks import BACKENDS, GpuFile, GpuMeasurement, parse, written
from srfast.kernels.cuda.config import CudaConfig
from srfast.kernels.triton.config import Config, PairConfig
from srfast.plan.passes import optimise

# What a record calls the backends. Of eager PyTorch the fastest form counts.
CONTENDERS = {f"srfast {name}": name for name in BACKENDS if name != "eager"} | {
    "eager fp16 channels-last": "eager",
    "eager fp16 channels-last, CUDA graph": "eager",
}
KERNELS = {"cuda": "cuda_configs.json", "triton": "configs.json"}
Times = dict[tuple[str, str], dict[str, float]]


def file_of(folder: Path, gpu: str | None = None) -> GpuFile:
    """Reads a run's folder.

    Args:
        folder: with ``record.json``, ``table.jsonl`` and what was chosen from it.
        gpu: what the file shall hold for: a GPU's name or 'sm90'; by default the GPU that was measured.

    Raises:
        OSError: a file cannot be read.
        ValueError: the folder holds no networks in two backends, or files that are none of a run's.
    """
    path = folder / "record.json"
    taken = record.load(path) if path.exists() else None
    rows = rows_of(folder / "table.jsonl")
    measured = next((row["gpu"] for row in rows if "gpu" in row), None) or (taken and taken.machine.get("gpu"))
    if not measured:
        raise ValueError("neither record.json nor table.jsonl names a GPU; give the folder of a run on one")
    commits = ", ".join(taken.commits()) if taken is not None else ""
    run = f"{measured}, {taken.taken[:10]}" if taken is not None else str(measured)
    run += f", commit {commits}" if commits else ""
    found = {key: (times, f"table of {run}") for key, times in _of_table(rows).items() if len(times) > 1}
    if taken is not None:
        found |= {key: (times, f"record of {run}") for key, times in _of_record(taken).items() if len(times) > 1}
    if not found:
        raise ValueError("it holds no network that was right and timed in two backends")
    measurements = [_measurement(*key, *value) for key, value in sorted(found.items())]
    return GpuFile(folder, gpu or str(measured), tuple(measurements), _kernels(folder, str(measured)))


def _measurement(network: str, size: str, seconds: dict[str, float], source: str) -> GpuMeasurement:
    width, height = map(int, size.split("x"))
    kind = network_kind(optimise(capture(by_name(network).module())))
    ordered = {name: float(f"{seconds[name]:.4g}") for name in BACKENDS if name in seconds}
    return GpuMeasurement(kind, f"{network} {size}", width * height, ordered, source)


def _of_table(rows: list[dict[str, Any]]) -> Times:
    """Collects seconds by network and size, and backend; what was wrong, or hung later, does not count."""
    found: Times = {}
    for row in rows:
        if row.get("kind") == "net" and "us" in row and "failed" not in row and row.get("what") in BACKENDS:
            found.setdefault((row["shape"], f"{row['width']}x{row['height']}"), {})[row["what"]] = row["us"] / 1e6
    return found


def _of_record(taken: record.Record) -> Times:
    samples: dict[tuple[str, str], dict[str, list[float]]] = {}
    for m in taken.measurements:
        if m.suite == "network" and m.unit == "s" and m.contender in CONTENDERS:
            samples.setdefault((m.subject, m.case), {}).setdefault(m.contender, []).extend(m.samples)
    found: Times = {}
    for key, contenders in samples.items():
        times = found.setdefault(key, {})
        for contender, values in contenders.items():
            name = CONTENDERS[contender]
            times[name] = min(median(values), times.get(name, float("inf")))
    return found


def _kernels(folder: Path, gpu: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Reads the configurations of the run for the GPU, each checked."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for part, name in KERNELS.items():
        if not (folder / name).exists():
            continue
        table = json.loads((folder / name).read_text(encoding="utf-8")).get(gpu, {})
        for key, entry in table.items():
            made(CudaConfig if part == "cuda" else PairConfig if key.startswith("pair") else Config, entry)
        if table:
            found[part] = table
    return found


def main(arguments: list[str] | None = None) -> int:
    """Writes the file; 1, and nothing is written, where the folder does not hold what it needs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="that 'python -m benchmarks.gpu' wrote")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--gpu", metavar="NAME", help="what it holds for, as sm90; by default the GPU that was measured"
    )
    options = parser.parse_args(arguments)
    try:
        found = file_of(options.folder, options.gpu)
        with whole_file(options.out, overwrite=True) as partial:
            partial.write_text(written(found), encoding="utf-8")
            parse(partial)
    except (OSError, ValueError, KeyError, SrfastError) as error:
        print(f"{escaped(options.folder)} gives no file: {escaped(error)[:400]}", file=sys.stderr)
        return 1
    for row in found.measured:
        times = ", ".join(f"{name} {1e3 * seconds:.3g} ms" for name, seconds in row.seconds.items())
        print(f"{row.kind}, {row.size}: {row.network}: {times}")
    print(f"{options.out} holds for {found.gpu}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
