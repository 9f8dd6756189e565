"""What a record says of the machine: hardware, driver, versions, commit and clocks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import torch

REPOSITORY = Path(__file__).parent.parent
# What a measurement itself writes: it does not make the tree another one than was measured.
MADE = ("benchmarks/records", "docs/performance.md", "docs/plots")
DISTRIBUTIONS = (
    "srfast",
    "torch",
    "triton",
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
    "av",
    "openvino",
    "onnxruntime",
    "ncnn",
    "pnnx",
    "tensorrt",
)
# Instruction sets that decide which kernels run.
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8")
# Classes of CPUs as the choice of kernels has them, each by an instruction set that the ones below do not have.
CLASSES = (("amx_tile", "amx"), ("avx512_bf16", "avx512_bf16"), ("avx512f", "avx512"), ("avx2", "avx2"))
GPU_FIELDS = (
    "driver_version",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "temperature.gpu",
    "power.draw",
    "power.limit",
)


def describe() -> dict[str, Any]:
    """Processor and GPU, as far as they decide speed; equal for runs on equal machines."""
    fields = _cpuinfo()
    flags = fields.get("flags", "").split()
    machine: dict[str, Any] = {
        "cpu": fields.get("model name", platform.processor() or platform.machine()),
        "cpu_family": " ".join(fields.get(k, "?") for k in ("cpu family", "model", "stepping")),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "instruction_sets": [flag for flag in FLAGS if flag in flags],
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": platform.system(),
        "gpu": None,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        machine["gpu"] = properties.name
        machine["gpu_memory_gib"] = round(properties.total_memory / 2**30)
        machine["gpu_capability"] = f"{properties.major}.{properties.minor}"
        machine["driver"] = smi().get("driver_version", "unknown")
    return machine


def slug(machine: dict[str, Any]) -> str:
    """Name of the machine for a file: the GPU, or the processor, its class (makers give several the same name) and cores."""
    sets = machine["instruction_sets"]
    kind = next((name for flag, name in CLASSES if flag in sets), "")
    name = machine["gpu"] or f"{machine['cpu']} {kind} {machine['cores']} cores"
    name = re.sub(r"\((r|tm)\)|processor|cpu|@", " ", name.lower())
    return re.sub(r"[^a-z0-9.]+", "-", name).strip("-")


def versions() -> dict[str, str]:
    """Of Python and of every installed package that the numbers depend on."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
        found["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
    return found


def commit() -> str:
    """The commit of the working tree, with ``+`` if tracked files differ from it; 'unknown' outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        # Records and what is made from them change while the suite runs.
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *(f":!{path}" for path in MADE))
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def clocks() -> dict[str, str]:
    """Clock of each core in MHz as the kernel reports it, load, scheduling, and the GPU's clocks, heat and power."""
    mhz = [line.split(":")[1].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("cpu MHz")]
    found = {"cpu_mhz": " ".join(mhz), "load": " ".join(f"{n:.2f}" for n in os.getloadavg())}
    if hasattr(os, "sched_getscheduler"):
        kinds = {os.SCHED_OTHER: "normal", os.SCHED_FIFO: "real time, fifo", os.SCHED_RR: "real time, round robin"}
        found["scheduling"] = kinds.get(os.sched_getscheduler(0), "other")
    return found | {f"gpu_{k}": v for k, v in smi().items()}


def smi() -> dict[str, str]:
    """Fields of nvidia-smi for the first GPU; empty without it."""
    command = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(zip(GPU_FIELDS, (part.strip() for part in done.stdout.split(",")), strict=False))


def _cpuinfo() -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
