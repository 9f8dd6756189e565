"""Arithmetic on stored numbers and on the sizes of images, by ONNX's own reference implementation."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from srfast.checkpoint.formats.onnx.tensors import finite
from srfast.errors import CheckpointError

Array: TypeAlias = np.ndarray[Any, Any]

MAX_SIZES = 64  # numbers in a computed shape
MAX_STORED = 1 << 24  # numbers that are computed from stored ones, in all
_OPSET = 18  # whose forms of the operations are evaluated

# fmt: off
OPERATIONS = frozenset((
    "Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Clip", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten",
    "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not",
    "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round",
    "Shape", "Sign", "Size", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
))
# fmt: on
# Before some version their options were attributes.
_FORMER = {
    "Unsqueeze": ("axes",),
    "Squeeze": ("axes",),
    "ReduceSum": ("axes",),
    "ReduceProd": ("axes",),
    "ReduceMean": ("axes",),
    "ReduceMax": ("axes",),
    "ReduceMin": ("axes",),
    "Slice": ("starts", "ends", "axes"),
    "Reshape": ("shape",),
    "Clip": ("min", "max"),
}


@dataclass(frozen=True)
class Sizes:
    """Numbers that were computed from the size of the image: one array for each size that is tried."""

    arrays: tuple[Array, ...]

    def settled(self) -> Array | None:
        """The numbers, where they are the same for all sizes."""
        first = self.arrays[0]
        same = all(array.shape == first.shape and np.array_equal(array, first) for array in self.arrays)
        return first if same else None


class Folding:
    """Evaluates operations, and counts what they give."""

    def __init__(self) -> None:
        self.stored = 0

    def evaluate(self, kind: str, inputs: list[Any], attributes: dict[str, Any], tries: int) -> Any:
        """One operation on stored numbers and sizes.

        Args:
            kind: one of ``OPERATIONS``.
            inputs: arrays, ``Sizes`` or None.
            attributes: of the node.
            tries: sizes of the image that are tried.

        Returns:
            An array, or ``Sizes`` where one was given.

        Raises:
            CheckpointError: it gives too many numbers, or none.
        """
        of_sizes = any(isinstance(value, Sizes) for value in inputs)
        results = []
        for index in range(tries if of_sizes else 1):
            operands = [value.arrays[index] if isinstance(value, Sizes) else value for value in inputs]
            if of_sizes and any(value is not None and value.size > MAX_SIZES for value in operands):
                raise CheckpointError(f"a {kind} of more than {MAX_SIZES} computed numbers is not covered")
            results.append(self._one(kind, operands, attributes, MAX_SIZES if of_sizes else MAX_STORED - self.stored))
        if not of_sizes:
            self.stored += results[0].size
            return results[0]
        return Sizes(tuple(results))

    def _one(self, kind: str, operands: list[Array | None], attributes: dict[str, Any], most: int) -> Array:
        count = _result_size(kind, operands, attributes)
        if count > most:
            raise CheckpointError(f"a {kind} computes {count} numbers, more than are allowed")
        import onnx
        from onnx.reference import ReferenceEvaluator

        attributes = dict(attributes)
        operands = list(operands)
        for place, name in enumerate(_FORMER.get(kind, ()), start=1):
            if name in attributes:
                operands += [None] * (place + 1 - len(operands))
                operands[place] = np.asarray(attributes.pop(name))
        if kind == "Clip":
            operands = [None if v is None else v.astype(operands[0].dtype) for v in operands if operands[0] is not None]
        names = ["" if value is None else f"x{i}" for i, value in enumerate(operands)]
        node = onnx.helper.make_node(kind, names, ["y"])
        node.attribute.extend(
            onnx.helper.make_attribute(name, value if not isinstance(value, np.ndarray) else _proto(value))
            for name, value in attributes.items()
        )
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            given = {n: v for n, v in zip(names, operands, strict=True) if n}
            results: Any = ReferenceEvaluator(node, opsets={"": _OPSET}).run(None, given)
        return finite(np.asarray(results[0]), f"the result of a {kind}")


def _proto(value: Array) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(value)


def _result_size(kind: str, operands: list[Array | None], attributes: dict[str, Any]) -> int:
    """At most how many numbers an operation gives.

    Raises:
        CheckpointError: an operand that it needs is missing.
    """
    given = [value for value in operands if value is not None]
    if not given:
        raise CheckpointError(f"a {kind} reads nothing")
    first = given[0]
    if kind in ("ConstantOfShape", "Expand"):
        wanted = [int(n) for n in given[-1].reshape(-1)[:64]]
        own = math.prod(wanted) if min(wanted, default=0) >= 0 else 0
        return own if kind == "ConstantOfShape" else max(1, own) * max(1, first.size)
    if kind == "Range":
        start, limit, delta = (float(value.reshape(-1)[0]) for value in given)
        return math.ceil(abs(limit - start) / abs(delta)) if delta else MAX_STORED + 1
    if kind == "Concat":
        return sum(value.size for value in given)
    if kind == "Gather":
        return first.size * max(1, given[-1].size)
    if kind in ("Reshape", "Slice", "Transpose", "Squeeze", "Unsqueeze") or kind.startswith("Reduce"):
        return first.size
    return math.prod(np.broadcast_shapes(*(value.shape for value in given)))
