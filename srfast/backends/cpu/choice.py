"""Which dtype and which kernels run a network on a CPU: chosen from measurements, by the CPU's class and the network's kind.

``configs/cpu.json`` of ``srfast.kernels`` holds the measurements that come with srfast, each with its source; a file that
``srfast tune`` wrote goes before it. Nothing is measured here, so one machine always chooses alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from srfast.backends.cpu import tuned
from srfast.backends.cpu.ways import Measurement, Way, parse_measurements, parse_way, ways
from srfast.backends.measured import Choice, first_worth
from srfast.kernels import cpu as kernels
from srfast.kernels.cpu.classes import cpu_class, cpu_vendor, pretended

SHIPPED = Path(kernels.__file__).resolve().parents[1] / "configs" / "cpu.json"


@dataclass(frozen=True)
class Assumption:
    """What is taken for a class of CPUs that nobody measured with srfast, and why."""

    cpu: str
    way: Way
    because: str


def choose(kind: str, dtype: torch.dtype | None = None, *, user: bool = True) -> Choice[Way]:
    """Takes the way for networks of a kind on this CPU, or the CPU that ``SRFAST_CPU`` names.

    Args:
        kind: one of ``networks.KINDS``.
        dtype: only ways of this dtype; None for all.
        user: the file of ``srfast tune`` counts.

    Raises:
        ValueError: ``SRFAST_CPU`` names no class.
    """
    name, vendor = cpu_class(), cpu_vendor()
    possible = [way for way in ways(name) if dtype in (None, way.dtype)]
    if not possible:
        return Choice(Way(dtype or torch.float32, "onednn"), "asked for by name")
    if len(possible) == 1:
        return Choice(possible[0], "there is no other way on such CPUs")
    # What was measured here says nothing about another CPU.
    own = tuned.load() if user and not pretended()[1] else None
    if own is not None and (found := choose_among(possible, own.measurements, kind)):
        return Choice(found.way, f"{found.reason}; from {own.path}")
    measured, assumed = _shipped()
    # CPUs of the same vendor first: a class tells the instructions, not the caches and memory behind them.
    for rows in (
        [m for m in measured if m.cpu == f"{vendor} {name}"],
        [m for m in measured if m.cpu.split()[1] == name],
    ):
        if found := choose_among(possible, rows, kind):
            return found
    for assumption in assumed:
        if assumption.cpu == name and assumption.way in possible:
            return Choice(assumption.way, assumption.because)
    return Choice(possible[0], f"nothing was measured on {vendor} {name} CPUs, and this is the most exact way")


def choose_among(possible: Sequence[Way], measured: Iterable[Measurement], kind: str) -> Choice[Way] | None:
    """Takes the first of ``possible`` that no later one beats by ``WORTH``.

    Networks of the kind count, or of all kinds where there is none of it; ways that were not measured do not. None where
    fewer than two were.
    """
    rows = list(measured)
    return first_worth(possible, [m for m in rows if m.kind == kind] or rows)


@lru_cache(maxsize=1)
def _shipped() -> tuple[list[Measurement], list[Assumption]]:
    table = json.loads(SHIPPED.read_text(encoding="utf-8"))
    assumed = [Assumption(a["cpu"], parse_way(a["way"]), a["because"]) for a in table["assumed"]]
    return parse_measurements(table["measured"]), assumed
