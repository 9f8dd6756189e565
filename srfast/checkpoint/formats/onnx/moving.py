"""ONNX operations that move, cut and count the pixels of an image, rather than compute with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from srfast.checkpoint.formats.graph import MAX_FACTOR
from srfast.checkpoint.formats.onnx.images import Image, Images, Rearranged, sizes_of
from srfast.checkpoint.formats.onnx.moves import Moved
from srfast.checkpoint.formats.onnx.numbers import Sizes
from srfast.errors import CheckpointError

Attributes: TypeAlias = dict[str, Any]
MAX_STEPS = 16  # axes in one option


def whole_numbers(images: Images, inputs: list[Any], index: int, a: Attributes, name: str) -> list[list[int]] | None:
    """An option of whole numbers, from an attribute or an input, for each size that is tried; None where it is not given."""
    value = np.asarray(a[name]) if name in a else inputs[index] if len(inputs) > index else None
    if value is None:
        return None
    if not isinstance(value, (np.ndarray, Sizes)):
        raise CheckpointError(f"its {name} are computed from an image")
    arrays = value.arrays if isinstance(value, Sizes) else (value,) * len(images.given)
    if any(array.size > MAX_STEPS or array.dtype.kind not in "iu" for array in arrays):
        raise CheckpointError(f"its {name} are {arrays[0].size} numbers of the type {arrays[0].dtype}")
    return [[int(n) for n in array.reshape(-1)] for array in arrays]


def check_factor(kind: str, factor: int) -> None:
    """Refuse a pixel shuffle by a factor that none has."""
    if not 1 <= factor <= MAX_FACTOR:
        raise CheckpointError(f"a {kind} has the factor {factor}; a pixel shuffle has 1 to {MAX_FACTOR}")


def pad(images: Images, image: Image, inputs: list[Any], a: Attributes) -> Image:
    """A Pad, with its options as attributes or inputs, of all axes or some."""
    given = a.get("pads", inputs[1] if len(inputs) > 1 else None)
    pads = np.asarray(given) if isinstance(given, list) else given
    axes = whole_numbers(images, inputs, 3, a, "axes")
    if not isinstance(pads, (np.ndarray, Sizes)):
        raise CheckpointError("the sizes of a Pad are missing, or computed from an image")
    if axes is not None:
        arrays = pads.arrays if isinstance(pads, Sizes) else (pads,) * len(images.given)
        pads = Sizes(tuple(_of_all_axes(array, axis) for array, axis in zip(arrays, axes, strict=True)))
    value = inputs[2] if len(inputs) > 2 else None
    number = float(value.reshape(-1)[0]) if isinstance(value, np.ndarray) and value.size else float(a.get("value", 0))
    return images.pad(image, pads, a.get("mode", b"constant").decode(), number)


def _of_all_axes(pads: np.ndarray[Any, Any], axes: list[int]) -> np.ndarray[Any, Any]:
    result = np.zeros((2, 4), np.int64)
    result[:, axes] = pads.reshape(2, -1)
    return result.reshape(-1)


def _moved(images: Images, value: Any, change: Callable[[int, Moved], Moved]) -> Image | Rearranged:
    """An image after one more move; itself, where it is back where it was."""
    if isinstance(value, Image):
        image = images.settled(value)
        value = Rearranged(image, tuple(Moved.of(shape) for shape in images.shapes(image)))
    moves = tuple(change(index, moved) for index, moved in enumerate(value.moves))
    shapes = images.shapes(value.image)
    same = all(moved == Moved.of(shape) for moved, shape in zip(moves, shapes, strict=True))
    return value.image if same else Rearranged(value.image, moves)


def _reshape(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    sizes = whole_numbers(images, inputs, 1, a, "shape")
    if sizes is None:
        raise CheckpointError("a Reshape has no sizes")
    zero = bool(a.get("allowzero", 0))
    return [_moved(images, inputs[0], lambda index, moved: moved.reshaped(sizes[index], zero))]


def _transpose(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    def change(index: int, moved: Moved) -> Moved:
        return moved.transposed([int(n) for n in a.get("perm", reversed(range(len(moved.axes))))])

    return [_moved(images, inputs[0], change)]


def _unsqueeze(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    axes = whole_numbers(images, inputs, 1, a, "axes") or []

    def change(index: int, moved: Moved) -> Moved:
        rank = len(moved.axes) + len(axes[index])
        new, old = {axis % rank for axis in axes[index]}, iter(moved.shape)
        return moved.reshaped([1 if axis in new else next(old) for axis in range(rank)])

    return [_moved(images, inputs[0], change)]


def _squeeze(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    axes = whole_numbers(images, inputs, 1, a, "axes")

    def change(index: int, moved: Moved) -> Moved:
        rank = len(moved.axes)
        gone = {i for i, n in enumerate(moved.shape) if n == 1} if axes is None else {i % rank for i in axes[index]}
        return moved.reshaped([n for i, n in enumerate(moved.shape) if i not in gone])

    return [_moved(images, inputs[0], change)]


def _flatten(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    axis = int(a.get("axis", 1))

    def change(index: int, moved: Moved) -> Moved:
        first = int(np.prod(moved.shape[:axis], dtype=np.int64))
        return moved.reshaped([first, -1])

    return [_moved(images, inputs[0], change)]


def _shape(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    return [sizes_of(images.shapes(inputs[0]), int(a.get("start", 0)), a.get("end"))]


def _size(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    shapes = images.shapes(inputs[0])
    return [Sizes(tuple(np.asarray(np.prod(shape, dtype=np.int64)) for shape in shapes))]


def _slice(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    starts, ends = (whole_numbers(images, inputs, i, a, name) for i, name in ((1, "starts"), (2, "ends")))
    axes, steps = (whole_numbers(images, inputs, i, a, name) for i, name in ((3, "axes"), (4, "steps")))
    image = inputs[0]
    if starts is None or ends is None or any(len(s) > 4 or len(s) != len(e) for s, e in zip(starts, ends, strict=True)):
        raise CheckpointError("a Slice has no beginnings or ends")
    if not isinstance(image, Image) or image.zeros:
        image = images.settled(image)
    spans = []
    for index, (first, last) in enumerate(zip(starts, ends, strict=True)):
        at = axes[index] if axes else list(range(len(first)))
        step = steps[index] if steps else [1] * len(first)
        # Negative axes count from the last of N, C, H, W.
        spans.append({axis % 4: slice(*cut) for axis, *cut in zip(at, first, last, step, strict=True)})
    return [images.sliced(image, spans)]


def _split(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    image = images.settled(inputs[0])
    count, axis = images.shapes(image)[0][1], int(a.get("axis", 0)) % 4
    sizes = whole_numbers(images, inputs, 1, a, "split")
    # Without sizes the parts are equal, and the last one is what is left.
    each = -(-count // max(1, outputs))
    parts = sizes[0] if sizes else [min(each, count - i * each) for i in range(outputs)]
    if axis != 1 or sum(parts) != count or min(parts) < 1 or len(parts) != outputs:
        raise CheckpointError(f"a Split of {count} channels into {parts} along axis {axis}")
    ends = np.cumsum(parts).tolist()
    return [
        images.sliced(image, [{1: slice(end - part, end)}] * len(images.given))
        for part, end in zip(parts, ends, strict=True)
    ]


def _gather(images: Images, inputs: list[Any], a: Attributes, outputs: int) -> list[Any]:
    """Channels in another order, as BGR for RGB."""
    image, order = images.settled(inputs[0]), inputs[1]
    count = images.shapes(image)[0][1]
    axis = int(a.get("axis", 0)) % 4
    if not isinstance(order, np.ndarray) or order.ndim != 1 or axis != 1 or not 0 < order.size <= count:
        raise CheckpointError("a Gather takes other parts of an image than some of its channels")
    channels = [int(n) + (count if n < 0 else 0) for n in order]
    if min(channels) < 0 or max(channels) >= count:
        raise CheckpointError(f"a Gather takes channel {max(channels)} of {count}")
    return [replace(image, node=images.permuted(image.node, channels))]


MOVES: dict[str, Callable[[Images, list[Any], Attributes, int], list[Any]]] = {
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Flatten": _flatten,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
}
