"""Classes of CPUs: what decides which of the CPU's ways through a network is the fastest.

The environment variable ``SRFAST_CPU`` names a class, optionally after a vendor (``avx512_bf16``, ``intel:amx``), and srfast
then chooses dtype and kernels as on such a CPU. Instructions that the CPU lacks stay out of use: a class above the machine's
own runs on the machine's own kernels, and bfloat16 that it lacks is computed in float32 and rounded.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from srfast._torch_private import cpu_has

VARIABLE = "SRFAST_CPU"
# Each has all that those before it have.
CLASSES = ("none", "avx2", "avx512", "avx512_bf16", "amx")
VENDORS = ("intel", "amd", "other")
# Instruction sets of srfast's kernels that a class runs, fastest first.
SETS = {"none": ("portable",), "avx2": ("avx2", "portable")}
_ALL_SETS = ("avx512", "avx2", "portable")
_OTHER_NAMES = {"portable": "none"}
_VENDOR_IDS = {"GenuineIntel": "intel", "AuthenticAMD": "amd"}


def cpu_class() -> str:
    """Class of this CPU, or the one that ``SRFAST_CPU`` names: one of ``CLASSES``.

    Raises:
        ValueError: the variable names no class.
    """
    return pretended()[1] or real_class()


def cpu_vendor() -> str:
    """Vendor of this CPU, or the one that ``SRFAST_CPU`` names: one of ``VENDORS``.

    Raises:
        ValueError: the variable names no vendor.
    """
    return pretended()[0] or real_vendor()


def pretended() -> tuple[str, str]:
    """Vendor and class that ``SRFAST_CPU`` names; empty where it names none.

    Raises:
        ValueError: what it names is neither; the message lists both.
    """
    text = os.environ.get(VARIABLE, "")
    if not text:
        return "", ""
    vendor, _, name = text.rpartition(":")
    name = _OTHER_NAMES.get(name, name)
    if name not in CLASSES or vendor not in ("", *VENDORS):
        raise ValueError(
            f"{VARIABLE}={text[:40]!r} names no class of CPUs: it takes {', '.join(CLASSES)}, "
            f"and a vendor before it if you like ({', '.join(f'{v}:avx2' for v in VENDORS[:2])})"
        )
    return vendor, name


def sets_of(name: str) -> tuple[str, ...]:
    """Instruction sets of srfast's kernels that CPUs of a class run, fastest first."""
    return SETS.get(name, _ALL_SETS)


def real_class() -> str:
    """Class of the CPU that this process runs on, as far as PyTorch and the operating system let it be used."""
    return _found()


@lru_cache(maxsize=1)
def _found() -> str:
    if not cpu_has("avx2"):
        return "none"
    if not cpu_has("avx512"):
        return "avx2"
    if cpu_has("amx_tile"):
        return "amx"
    return "avx512_bf16" if cpu_has("avx512_bf16") else "avx512"


@lru_cache(maxsize=1)
def real_vendor() -> str:
    """Vendor of the CPU that this process runs on."""
    return _VENDOR_IDS.get(_cpuinfo("vendor_id"), "other")


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """What the CPU calls itself; its architecture where it does not say."""
    import platform

    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    """A field of the first CPU in Linux's list; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")
