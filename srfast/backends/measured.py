"""What measurements of whole networks say, on CPUs and GPUs alike: the kind of a network, ratios, and what is worth taking."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from srfast.plan import Conv, Plan

# A way further down the list is taken only if it is faster by this factor: on CPUs the first ones are the most exact, on GPUs
# those that run most.
WORTH = 1.05
W = TypeVar("W")


class Timed(Protocol):
    """Times of one network in several ways, measured in turn."""

    @property
    def network(self) -> str:
        """Name and size of the image, for people."""
        ...

    @property
    def source(self) -> str:
        """Machine and commit, or record."""
        ...

    @property
    def times(self) -> Mapping[str, float]:
        """How long an image took, by ``str`` of the way."""
        ...


@dataclass(frozen=True)
class Choice(Generic[W]):
    """A way to run a network, and why it was taken."""

    way: W
    reason: str


def network_kind(plan: Plan) -> str:
    """'dense' where convolutions read several activations, 'residual' where most trunks add their input, else 'plain'."""
    convs = [node for node in plan.nodes if isinstance(node, Conv)]
    if any(node.more for node in convs):
        return "dense"
    # One sum alone, as of the enlarged input at the end, makes no residual trunk.
    return "residual" if sum(node.residual is not None for node in convs) > 1 else "plain"


def first_worth(possible: Sequence[W], rows: Sequence[Timed]) -> Choice[W] | None:
    """Takes the first of ``possible`` that no later one beats by ``WORTH``; None where fewer than two were measured."""
    listed = [way for way in possible if any(str(way) in row.times for row in rows)]
    if len(listed) < 2:
        return None
    best = listed[0]
    for way in listed[1:]:
        if speedup(way, best, rows) > WORTH:
            best = way
    others = ", ".join(f"{way} takes {speedup(best, way, rows):.2f} times as long" for way in listed if way != best)
    networks = ", ".join(dict.fromkeys(row.network for row in rows))
    sources = ", ".join(dict.fromkeys(row.source for row in rows))
    return Choice(best, f"{others} ({networks}; {sources})")


def speedup(way: W, other: W, measured: Iterable[Timed]) -> float:
    """How many times as fast ``way`` was as ``other``, as the geometric mean; 1 where they were not measured together."""
    # The mean of logarithms, because ratios are compared: twice as fast and half as fast cancel, which an arithmetic mean
    # of the two does not say.
    names = str(way), str(other)
    logs = [math.log(row.times[names[1]] / row.times[names[0]]) for row in measured if set(names) <= set(row.times)]
    return math.exp(sum(logs) / len(logs)) if logs else 1.0
