"""Pixel-unshuffle as ONNX files spell it: shapes, reshapes and transposes of the input, recognised by what they do.

Every exporter writes another sequence. All are followed on small images whose pixels are numbered, of two sizes; where both
come out as ``pixel_unshuffle`` puts them, the sequence is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn import functional as F

from srfast.errors import CheckpointError

FACTORS = (2, 3, 4, 8)
MAX_PIXELS = 1 << 20  # of the input, where a file fixes its size
MAX_NUMBERS = 64  # of a computed shape
MAX_STEPS = 64  # that move the image
_SIZES = ((48, 72), (96, 24))  # multiples of all factors

_MOVES = ("Reshape", "Transpose", "Unsqueeze", "Squeeze")

Array: TypeAlias = np.ndarray[Any, Any]


class Probe:
    """What becomes of the numbered images, or numbers computed from their shapes: one array for each image."""

    def __init__(self, arrays: list[Array], image: bool, steps: int = 0) -> None:
        self.arrays = arrays
        self.image = image
        self.steps = steps

    def factor(self) -> int | None:
        """The pixel-unshuffle that the images went through, if they went through one; None for none."""
        if not self.image or any(array.ndim != 4 for array in self.arrays):
            return None
        for factor in FACTORS:
            if all(_is_unshuffled(array, factor) for array in self.arrays):
                return factor
        return None


def probe(dims: list[int]) -> Probe | None:
    """Numbered images for an input of [N, C, H, W], 0 for what is free; None where it is no image, or a large one."""
    if len(dims) != 4 or not 1 <= dims[1] <= 16 or dims[0] not in (0, 1):
        return None
    sizes = [(dims[2] or height, dims[3] or width) for height, width in _SIZES]
    if any(not 0 < height * width <= MAX_PIXELS for height, width in sizes):
        return None
    # Numbers instead of colours: where each pixel went can be read off the result.
    return Probe([np.arange(dims[1] * h * w).reshape(1, dims[1], h, w) for h, w in sizes], image=True)


def _is_unshuffled(array: Array, factor: int) -> bool:
    channels = array.shape[1] // factor**2
    if channels * factor**2 != array.shape[1]:
        return False
    shape = (1, channels, array.shape[2] * factor, array.shape[3] * factor)
    if array.size != np.prod(shape) or array.shape[0] != 1:
        return False
    image = torch.arange(array.size).reshape(shape)
    return bool(np.array_equal(F.pixel_unshuffle(image, factor).numpy(), array))


def is_rearrangement(kind: str, inputs: list[Any]) -> bool:
    """Whether the operation moves the pixels of a followed image, or computes with its shape."""
    image = bool(inputs) and isinstance(inputs[0], Probe) and inputs[0].image
    return kind in _MOVES or kind == "Shape" if image else any(isinstance(value, Probe) for value in inputs)


def follow(kind: str, inputs: list[Any], attributes: dict[str, Any]) -> Probe:
    """One operation on probes and stored arrays.

    Raises:
        CheckpointError: the operation does something else to an image, or to many numbers.
    """
    probes = [value for value in inputs if isinstance(value, Probe)]
    image = bool(inputs) and isinstance(inputs[0], Probe) and inputs[0].image and kind != "Shape"
    steps = max(value.steps for value in probes) + image
    if kind not in _STEPS or any(value.image for value in probes[1:]) or steps > MAX_STEPS:
        raise CheckpointError(f"the input goes through {kind}, which is no part of a pixel-unshuffle")
    results = []
    for index in range(len(probes[0].arrays)):
        operands = [value.arrays[index] if isinstance(value, Probe) else value for value in inputs]
        few = operands[1:] if image or kind == "Shape" else operands
        if any(isinstance(value, np.ndarray) and value.size > MAX_NUMBERS for value in few):
            raise CheckpointError(f"a {kind} of more than {MAX_NUMBERS} computed numbers is not covered")
        results.append(_STEPS[kind](operands, attributes))
    return Probe(results, image, steps)


Step = Callable[[list[Any], dict[str, Any]], Array]


def _shape(x: list[Any], a: dict[str, Any]) -> Array:
    return np.array(x[0].shape[a.get("start", 0) : a.get("end")], dtype=np.int64)


def _axes(x: list[Any], a: dict[str, Any]) -> tuple[int, ...]:
    given = a.get("axes", x[1].tolist() if len(x) > 1 and x[1] is not None else [])
    return tuple(int(axis) for axis in given)


def _reshape(x: list[Any], a: dict[str, Any]) -> Array:
    sizes = [int(n) for n in x[1].reshape(-1)]
    if not a.get("allowzero", 0):
        sizes = [x[0].shape[i] if n == 0 else n for i, n in enumerate(sizes)]
    result: Array = x[0].reshape(sizes)
    return result


def _squeeze(x: list[Any], a: dict[str, Any]) -> Array:
    result: Array = np.squeeze(x[0], _axes(x, a) or None)
    return result


def _slice(x: list[Any], a: dict[str, Any]) -> Array:
    starts, ends = (a[name] if name in a else x[i].tolist() for i, name in ((1, "starts"), (2, "ends")))
    axes, step = (x[i].tolist() if len(x) > i and x[i] is not None else [default] for i, default in ((3, 0), (4, 1)))
    if len(starts) != 1 or len(ends) != 1 or x[0].ndim != 1 or a.get("axes", axes) not in ([0], [-1]):
        raise CheckpointError("a Slice of more than a list of sizes is not covered")
    result: Array = x[0][starts[0] : ends[0] : step[0]]
    return result


def _divided(x: list[Any], a: dict[str, Any]) -> Array:
    whole = all(np.asarray(value).dtype.kind == "i" for value in x)
    return np.asarray(x[0] // x[1] if whole else x[0] / x[1])


_STEPS: dict[str, Step] = {
    "Shape": _shape,
    "Gather": lambda x, a: np.asarray(np.take(x[0], x[1], axis=a.get("axis", 0))),
    "Unsqueeze": lambda x, a: np.expand_dims(x[0], _axes(x, a)),
    "Squeeze": _squeeze,
    "Reshape": _reshape,
    "Transpose": lambda x, a: np.transpose(x[0], a.get("perm")),
    "Concat": lambda x, a: np.concatenate([np.atleast_1d(value) for value in x], axis=a["axis"]),
    "Slice": _slice,
    "Cast": lambda x, a: x[0] if a.get("to") in (1, 10, 11) else x[0].astype(np.int64),
    "Identity": lambda x, a: x[0],
    "Floor": lambda x, a: np.asarray(np.floor(x[0])),
    "Div": _divided,
    "Mul": lambda x, a: np.asarray(x[0] * x[1]),
    "Add": lambda x, a: np.asarray(x[0] + x[1]),
    "Sub": lambda x, a: np.asarray(x[0] - x[1]),
}
