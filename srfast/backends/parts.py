"""Plans of which PyTorch runs a part: compiled segments between those nodes.

A segment is a run of operations with one activation in and one out; the fastest backend compiles it as a plan of its own.
What lies between, such as a sum of activations from either side, is run node by node in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from srfast.backends.base import Backend, Executable, TilingTraits, has_no_kernel
from srfast.backends.reference import placed_node, run_node
from srfast.plan import Add, Clamp, Conv, Eager, Node, Plan, Shape

Select = Callable[[Plan, torch.device, torch.dtype, "str | Backend"], Backend]
# Memory that PyTorch takes inside of such a node, as a guess: so many times its images.
_EAGER_COPIES = 8


@dataclass(frozen=True)
class Segment:
    """Operations as a plan of their own, whose input and output keep their names."""

    plan: Plan


def segments(plan: Plan, apart: Callable[[Node], bool] = has_no_kernel) -> list[Segment | Node]:
    """The plan in order, cut at the nodes where ``apart`` is true.

    Args:
        plan: any.
        apart: whether a node is run by itself.

    Returns:
        Segments with at least one convolution, and single nodes.
    """
    plan = _with_sums_apart(plan, apart)
    nodes, shapes = list(plan.nodes), plan.shapes()
    result: list[Segment | Node] = []
    index = 0
    while index < len(nodes):
        found = _longest(plan, nodes, index, shapes, apart)
        if found is None:
            result.append(nodes[index])
            index += 1
        else:
            result.append(Segment(found))
            index += len(found.nodes)
    return result


def _longest(
    plan: Plan, nodes: Sequence[Node], first: int, shapes: Mapping[str, Shape], apart: Callable[[Node], bool]
) -> Plan | None:
    """The longest run from ``first`` on that reads one activation and of which one is read."""
    written: set[str] = set()
    read: set[str] = set()
    best: Plan | None = None
    for last in range(first, len(nodes)):
        node = nodes[last]
        if apart(node):
            break
        read |= {name for name in node.inputs if name not in written}
        if len(read) > 1:
            break
        written.add(node.output)
        later = {name for other in nodes[last + 1 :] for name in other.inputs} | {plan.output}
        if written & later == {node.output}:
            # Every prefix that ends in one activation would do; the longest leaves the fewest borders between compiled code
            # and PyTorch.
            part = _as_plan(tuple(nodes[first : last + 1]), next(iter(read)), shapes)
            best = part or best
    return best


def _as_plan(nodes: tuple[Node, ...], name: str, shapes: Mapping[str, Shape]) -> Plan | None:
    if not any(isinstance(node, Conv) for node in nodes):
        return None
    try:
        return Plan(nodes, name, nodes[-1].output, shapes[name].channels)
    except ValueError:  # its result has fewer pixels than what it reads
        return None


def _with_sums_apart(plan: Plan, apart: Callable[[Node], bool]) -> Plan:
    """Residuals from before a cut leave their convolution, which could not be in a segment otherwise."""
    block, blocks = 0, {plan.input: 0}
    nodes: list[Node] = []
    for node in plan.nodes:
        if apart(node):
            block += 1
        if isinstance(node, Conv) and node.residual is not None and blocks[node.residual] != block:
            sums, added = f"{node.output}_apart", f"{node.output}_added"
            # The clamp came after the sum, so it leaves with it.
            nodes.append(replace(node, output=sums, residual=None, clamp=None))
            nodes.append(Add(added if node.clamp else node.output, sums, node.residual))
            if node.clamp:
                nodes.append(Clamp(node.output, added, *node.clamp))
        else:
            nodes.append(node)
        blocks[node.output] = block
    return plan.with_nodes(nodes)


@dataclass(frozen=True)
class PartsBackend:
    """Segments through another backend, the rest through PyTorch.

    Args:
        backend: "auto", a backend's name, or a backend, for the segments.
        select: how one is chosen.
    """

    select: Select
    backend: str | Backend = "auto"

    @property
    def name(self) -> str:
        """Return the inner backend's name, and that PyTorch runs the rest."""
        inner = self.backend if isinstance(self.backend, str) else self.backend.name
        return f"{inner} and PyTorch"

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        return [] if dtype.is_floating_point else [f"{dtype} is not a floating type"]

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        return _Parts(plan, device, dtype, lambda part: self.select(part, device, dtype, self.backend))


class _Parts(Executable):
    """Segments and nodes in order."""

    def __init__(self, plan: Plan, device: torch.device, dtype: torch.dtype, select: Callable[[Plan], Backend]) -> None:
        traits = TilingTraits.of(plan)
        eager = [node for node in plan.nodes if isinstance(node, Eager)]
        if eager:
            shapes = plan.shapes()
            images = [sum(_elements(shapes[name]) for name in (*n.inputs, n.output)) for n in eager]
            size = int((plan.peak_elements() + _EAGER_COPIES * max(images)) * dtype.itemsize)
            traits = replace(traits, bytes_per_pixel=size)
        super().__init__(traits)
        self._input, self._output = plan.input, plan.output
        self._steps: list[tuple[tuple[str, ...], str, Callable[[Mapping[str, Tensor]], Tensor]]] = []
        found = segments(plan)
        for part in found:
            if isinstance(part, Segment):
                name, run = part.plan.input, select(part.plan).compile(part.plan, device, dtype)
                self._steps.append(((name,), part.plan.output, _segment(run, name)))
                self.path = self.path or run.path
            else:
                node = placed_node(part, device, dtype)
                self._steps.append((node.inputs, node.output, _node(node)))
        last = {name: i for i, (inputs, _, _) in enumerate(self._steps) for name in inputs}
        self._unused = [
            [name for name in inputs if last[name] == i and name != self._output]
            for i, (inputs, _, _) in enumerate(self._steps)
        ]

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        values = {self._input: x}
        with torch.autocast(x.device.type, enabled=False):  # the dtype is the one that was asked for
            for (_, output, run), unused in zip(self._steps, self._unused, strict=True):
                values[output] = run(values)
                for name in unused:
                    values.pop(name, None)
        return values[self._output]


def _segment(run: Executable, name: str) -> Callable[[Mapping[str, Tensor]], Tensor]:
    return lambda values: run(values[name])


def _node(node: Node) -> Callable[[Mapping[str, Tensor]], Tensor]:
    return lambda values: run_node(node, values)


def _elements(shape: Shape) -> Fraction:
    return Fraction(shape.channels) * Fraction(shape.scale) ** 2
