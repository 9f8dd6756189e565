"""Sums that a curve of one of their terms gates, as SPAN has them: four operations of a plan, in one pass on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from srfast.plan import Activate, Add, Affine, Multiply, Node, Plan
from srfast.plan.base import OfTwo
from srfast.plan.nodes import Act


@dataclass(frozen=True, eq=False)
class GatedSum(OfTwo):
    """``(input + other) * (act(input) + shift)``, both of one shape."""

    act: Act
    shift: float


def with_gated_sums(plan: Plan) -> Plan:
    """The plan with such sums as one operation each."""
    found: dict[str, Node] = {}
    gone: set[str] = set()
    for node in plan.nodes:
        if isinstance(node, Multiply):
            for gated, inner in _matches(plan, node):
                found[node.output] = gated
                gone.update(inner)
                break
    nodes = (found.get(node.output, node) for node in plan.nodes if node.output not in gone)
    return replace(plan, nodes=tuple(nodes))


def _matches(plan: Plan, node: Multiply) -> Iterator[tuple[GatedSum, set[str]]]:
    """The product as a gated sum, with the activations that nobody else reads and that it makes needless."""
    for total, gate in (node.inputs, node.inputs[::-1]):
        add, shifted = plan.producers.get(total), plan.producers.get(gate)
        curve, shift, inner = shifted, 0.0, {total, gate}
        if isinstance(shifted, Affine) and shifted.scale.eq(1).all() and shifted.shift.numel() == 1:
            curve, shift = plan.producers.get(shifted.input), float(shifted.shift)
            inner.add(shifted.input)
        if not isinstance(add, Add) or not isinstance(curve, Activate) or curve.slope is not None:
            continue
        terms = list(add.inputs)
        if curve.input not in terms or any(len(plan.users(name)) != 1 or name == plan.output for name in inner):
            continue
        terms.remove(curve.input)
        yield GatedSum(node.output, curve.input, terms[0], curve.act, shift), inner
