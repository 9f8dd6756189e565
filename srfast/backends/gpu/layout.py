"""How a plan's activations lie in GPU memory: side by side where a convolution reads several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from srfast.plan import Conv, Shape


@dataclass(frozen=True)
class Slot:
    """Where an activation lies that is read in a row with others: from channel ``first`` of a canvas of ``width``."""

    row: tuple[str, ...]
    first: int
    width: int


def row_slots(rows: list[tuple[str, ...]], shapes: Mapping[str, Shape]) -> dict[str, Slot]:
    """Place activations so that rows of them lie side by side and nothing has to be copied.

    The longest rows go first; the shorter ones of a dense block begin like them. Channels come in whole blocks of 16:
    no convolution reads beyond its own.
    """
    # A dense block concatenates ever longer rows of the same activations (RRDB, arXiv:1809.00219): written side by side from
    # the start, no concatenation is left to do.
    slots: dict[str, Slot] = {}
    for row in sorted({row for row in rows if len(row) > 1}, key=len, reverse=True):
        whole = all(shapes[name].channels % 16 == 0 for name in row)
        if whole and len(set(row)) == len(row) and not any(name in slots for name in row):
            width = sum(shapes[name].channels for name in row)
            first = 0
            for name in row:
                slots[name] = Slot(row, first, width)
                first += shapes[name].channels
    return slots


def side_by_side(row: tuple[str, ...], slots: Mapping[str, Slot], shapes: Mapping[str, Shape]) -> bool:
    """Say whether the activations follow one another in one canvas."""
    if len(row) == 1:
        return True
    if any(name not in slots or slots[name].row != slots[row[0]].row for name in row):
        return False
    ends = [slots[name].first + shapes[name].channels for name in row]
    return all(slots[name].first == end for name, end in zip(row[1:], ends[:-1], strict=True))


def epilogue_of(node: Conv) -> dict[str, Any]:
    """Return what the kernels' packing takes of a node beside its weights."""
    return {name: getattr(node, name) for name in ("act", "slope", "shuffle", "gain", "clamp")}
