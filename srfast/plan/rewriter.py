"""A plan while it is rewritten: nodes are replaced in place, and who reads what is kept up to date."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from srfast.plan import Plan
from srfast.plan.nodes import Concat, Conv, Eager, Node
from srfast.plan.shapes import Shape


class Rewriting:
    """The nodes of a plan by the name of what they write.

    Attributes:
        shapes: of every activation.
        output: name of the result.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.output = plan.output
        self.shapes: dict[str, Shape] = dict(plan.shapes())
        self._nodes = {node.output: node for node in plan.nodes}
        self._order = [node.output for node in plan.nodes]
        self._readers: dict[str, set[str]] = {name: set() for name in self.shapes}
        for node in plan.nodes:
            self._read(node)

    def plan(self) -> Plan:
        """The plan as it is now, checked."""
        return self._plan.with_nodes(self.nodes(), output=self.output)

    def nodes(self) -> list[Node]:
        """Those that are left, in order of execution."""
        return [self._nodes[name] for name in self._order if name in self._nodes]

    def get(self, name: str) -> Node | None:
        """The node that writes ``name``; None for the input image and for what nothing reads any more."""
        return self._nodes.get(name)

    def position(self, name: str) -> int:
        """Where in the order of execution the activation is written; -1 for the input image."""
        return self._order.index(name) if name in self._nodes else -1

    def is_read_once(self, name: str) -> bool:
        """Whether one node reads the activation, and it is not the result."""
        return len(self._readers[name]) == 1 and name != self.output

    def only_conv_before(self, node: Node) -> Conv | None:
        """The convolution that ``node`` reads first, if nothing else reads it."""
        conv = self.get(node.input)
        return conv if isinstance(conv, Conv) and self.is_read_once(conv.output) else None

    def put(self, node: Node, first: Sequence[Node] = ()) -> None:
        """Replaces the node that writes the same activation; those of ``first`` are new and go in front of it."""
        before = self._nodes[node.output]
        if first:
            place = self._order.index(node.output)
            self._order[place:place] = [new.output for new in first]
        for new in (*first, node):
            self._nodes[new.output] = new
            # Shapes are kept up to date so that rules can count channels without a new plan.
            self.shapes[new.output] = new.shape(self.shapes)
            self._readers.setdefault(new.output, set())
            self._read(new)
        self._forget(before, node)

    def bypass(self, node: Node) -> None:
        """Takes ``node`` out: its readers read its input instead."""
        # A copy: ``put`` changes the set while it is walked.
        for name in list(self._readers[node.output]):
            self.put(renamed(self._nodes[name], {node.output: node.input}))
        if self.output == node.output:
            self.output = node.input
            self._drop(node.output)

    def _read(self, node: Node) -> None:
        for name in node.inputs:
            self._readers[name].add(node.output)

    def _forget(self, before: Node, after: Node | None) -> None:
        """``before`` is gone, and with it whatever only it needed."""
        kept = () if after is None else after.inputs
        for name in before.inputs:
            if name not in kept:
                self._readers[name].discard(before.output)
                self._drop(name)

    def _drop(self, name: str) -> None:
        if name in self._nodes and not self._readers[name] and name != self.output:
            self._forget(self._nodes.pop(name), None)


# Changes what is before the node or the node itself, and says whether it did.
Rule: TypeAlias = Callable[[Rewriting, Node], bool]


def sweep(graph: Rewriting, rule: Rule) -> bool:
    """Applies a rule at every node, as often as it fits; whether it did at all."""
    changed = False
    for before in graph.nodes():
        node = graph.get(before.output)
        # The node may have become another one under the same name, to which the rule may apply again.
        while node is not None and rule(graph, node):
            changed = True
            node = graph.get(before.output)
    return changed


def renamed(node: Node, names: dict[str, str]) -> Node:
    """The node reading other activations."""
    fields: dict[str, Any] = {
        k: names[v] for k, v in vars(node).items() if k in ("input", "other", "residual") and v in names
    }
    # The kinds of nodes with a tuple of names; other fields that hold text are no names.
    if isinstance(node, (Conv, Concat, Eager)):
        fields["more"] = tuple(names.get(name, name) for name in node.more)
    return replace(node, **fields) if fields else node
