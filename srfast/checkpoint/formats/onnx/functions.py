"""Functions of an ONNX file's own: calls of them, replaced by what they hold."""

from __future__ import annotations

import itertools
from typing import Any

from srfast.errors import CheckpointError, printable

_MAX_NAMES = 100_000  # of what calls take and give, in all
_MAX_COPIED = 64 << 20  # bytes of operations in functions, as often as they are called: weights are given to them
_MAX_DEPTH = 16  # of functions that call functions
_STANDARD = ("", "ai.onnx")


def inlined(model: Any, most: int) -> list[Any]:
    """The operations of a model's graph without calls of functions.

    Args:
        model: a ModelProto.
        most: operations that are allowed.

    Raises:
        CheckpointError: there are more, functions call themselves, or one is of another operation set than the graph.
    """
    if not model.functions:
        if len(model.graph.node) > most:
            raise CheckpointError(f"it has {len(model.graph.node)} operations (at most {most})")
        return list(model.graph.node)
    return _Inlining(model, most).nodes


class _Inlining:
    """Writes out one graph; names within a call get a number of their own."""

    def __init__(self, model: Any, most: int) -> None:
        self.nodes: list[Any] = []
        self._most, self._calls, self._names, self._copied = most, 0, 0, 0
        self._functions = {(function.domain, function.name): function for function in model.functions}
        own = _version(model.opset_import)
        for function in model.functions:
            if _version(function.opset_import) not in (None, own):
                raise CheckpointError(
                    f"its function {printable(function.name)} is of another operation set than its graph"
                )
        for node in model.graph.node:
            self._add(node, None, {}, 0)

    def _add(self, node: Any, names: _Names | None, given: dict[str, Any], depth: int) -> None:
        """Adds an operation, or what the function that it calls holds.

        Args:
            node: as the graph or a function has it.
            names: what the names of the function are called in the graph; None in the graph itself.
            given: attributes of the call that the function's operations may refer to.
            depth: of calls.
        """
        if names is not None:
            node = self._copy(node, names, given)
        function = self._functions.get((node.domain, node.op_type))
        if function is None:
            self.nodes.append(node)
            if len(self.nodes) > self._most:
                raise CheckpointError(f"it has more than {self._most} operations")
            return
        self._calls += 1
        self._names += len(function.input) + len(function.output) + len(function.attribute_proto) + 1
        if depth >= _MAX_DEPTH or self._names > _MAX_NAMES:
            raise CheckpointError(f"its functions call each other more than {_MAX_DEPTH} deep, or very often")
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            raise CheckpointError(f"its function {printable(function.name)} is called with more than it takes or gives")
        inner = _Names(f"{self._calls}/", dict(itertools.zip_longest(function.input, node.input, fillvalue="")))
        for formal, actual in zip(function.output, node.output, strict=False):
            if formal in inner.known:  # what goes in comes out
                self.nodes.append(type(node)(op_type="Identity", input=[inner.known[formal]], output=[actual]))
            elif actual:
                inner.known[formal] = actual
        attributes = {attribute.name: attribute for attribute in function.attribute_proto}
        attributes |= {attribute.name: attribute for attribute in node.attribute}
        for each in function.node:
            self._add(each, inner, attributes, depth + 1)

    def _copy(self, node: Any, names: _Names, given: dict[str, Any]) -> Any:
        """An operation of a function as it is in one call."""
        attributes = [found for attribute in node.attribute for found in _settled(attribute, given)]
        self._copied += node.ByteSize() + sum(attribute.ByteSize() for attribute in attributes)
        if self._copied > _MAX_COPIED:
            raise CheckpointError(f"its functions hold more than {_MAX_COPIED} bytes, as often as they are called")
        copied = type(node)()
        copied.CopyFrom(node)
        copied.input[:] = [names(name) for name in node.input]
        copied.output[:] = [names(name) for name in node.output]
        copied.ClearField("attribute")
        copied.attribute.extend(attributes)
        return copied


class _Names:
    """What names of one call of a function are called in the graph."""

    def __init__(self, prefix: str, known: dict[str, str]) -> None:
        self.known = known
        self._prefix = prefix

    def __call__(self, name: str) -> str:
        return self.known.get(name, f"{self._prefix}{name}") if name else ""


def _settled(attribute: Any, given: dict[str, Any]) -> list[Any]:
    """An attribute as it is in one call: none where it refers to one that is not given."""
    if not attribute.ref_attr_name:
        return [attribute]
    found = given.get(attribute.ref_attr_name)
    if found is None:
        return []
    copied = type(found)()
    copied.CopyFrom(found)
    copied.name = attribute.name
    return [copied]


def _version(imports: Any) -> int | None:
    return next((entry.version for entry in imports if entry.domain in _STANDARD), None)
