"""What each node of a traced graph stands for while capture reads it, and which nodes stand for the same memory.

A plan has no operation in place, so one becomes a new activation, and every name of the changed tensor means that from then on.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from srfast.capture.ops.conv import Value
from srfast.errors import UnsupportedModelError


@dataclass(frozen=True)
class _Unknown:
    """Changed by ``writer``, or not, as the memory format or the dtype of an activation has it."""

    writer: str


class Names:
    """Values by fx node."""

    def __init__(self) -> None:
        self._values: dict[fx.Node, Value] = {}
        self._tensors: dict[fx.Node, fx.Node] = {}  # the first node that stood for the same tensor
        self._memory: dict[fx.Node, fx.Node] = {}  # the first node that may share its memory

    def __getitem__(self, node: fx.Node) -> Value:
        value = self._values[node]
        if isinstance(value, _Unknown):
            raise UnsupportedModelError(
                f"{value.writer} changes a tensor in place that {node.name!r} may share memory with, or be a copy of "
                "(contiguous() and float() copy only where they must): use clone(), or an operation that is not in place"
            )
        return value

    def bind(self, node: fx.Node, value: Value) -> None:
        """A tensor of its own."""
        self._values[node], self._tensors[node], self._memory[node] = value, node, node

    def share(self, node: fx.Node, source: fx.Node, certain: bool) -> None:
        """The same values as ``source``, in the same memory or perhaps in it."""
        self._values[node] = self[source]
        self._tensors[node] = self._tensors[source] if certain else node
        self._memory[node] = self._memory[source]

    def view(self, node: fx.Node, source: fx.Node, value: Value) -> None:
        """A part of ``source``, as a slice of its channels: other values, in its memory."""
        self._values[node], self._tensors[node], self._memory[node] = value, node, self._memory[source]

    def change(self, node: fx.Node, source: fx.Node, value: Value) -> None:
        """``node`` gives ``source`` other values."""
        self.share(node, source, certain=True)
        # Every name of the changed tensor means the new activation; a name that only may share its memory means
        # nothing certain.
        for other, memory in self._memory.items():
            if self._tensors[other] is self._tensors[source]:
                self._values[other] = value
            elif memory is self._memory[source]:
                self._values[other] = _Unknown(node.name)

    def may_share_memory(self, node: fx.Node, other: fx.Node) -> bool:
        """Say whether one value may be a view of the other, so that a change in place would be seen in both."""
        return self._memory[node] is self._memory[other]
