"""The text of an ncnn .param file: layers with their blobs and parameters.

The format is described in ncnn's docs/developer-guide/param-and-model-file-structure.md (https://github.com/Tencent/ncnn).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

from srfast.errors import CheckpointError, printable

MAGIC = "7767517"
MAX_TEXT = 4 << 20  # bytes; that of RRDBNet-23 has 110 kB
MAX_LAYERS = 8_000  # RRDBNet-23 has 999
MAX_BLOBS = 64  # that one layer reads or writes
MAX_NUMBERS = 64  # of one parameter
MAX_KEYS = 64
_ARRAY = -23300  # keys of arrays count down from it, in older files

Value: TypeAlias = float | list[float] | str


@dataclass(frozen=True)
class Layer:
    """One line.

    Attributes:
        params: by number; whole numbers are floats without a fraction.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: dict[int, Value] = field(repr=False)

    def whole(self, key: int, default: int = 0) -> int:
        """A parameter that is a whole number.

        Raises:
            CheckpointError: it is none.
        """
        value = self.params.get(key, default)
        if isinstance(value, (str, list)) or value != int(value):
            raise CheckpointError(
                f"layer {printable(self.name)} has the parameter {key}={value}, expected a whole number"
            )
        return int(value)

    def number(self, key: int, default: float = 0.0) -> float:
        """A parameter that is a number.

        Raises:
            CheckpointError: it is none.
        """
        value = self.params.get(key, default)
        if isinstance(value, (str, list)):
            raise CheckpointError(f"layer {printable(self.name)} has the parameter {key}={value}, expected a number")
        return float(value)

    def numbers(self, key: int) -> list[float]:
        """A parameter that is a list; empty where there is none.

        Raises:
            CheckpointError: it is text.
        """
        value = self.params.get(key, [])
        if isinstance(value, str):
            raise CheckpointError(f"layer {printable(self.name)} has the parameter {key}={value!r}, expected numbers")
        return value if isinstance(value, list) else [value]


def parse(data: bytes) -> list[Layer]:
    """The layers, in the file's order, which is that of execution.

    Raises:
        CheckpointError: it is not such a text, or larger than any network.
    """
    if len(data) > MAX_TEXT:
        raise CheckpointError(f"its text has {len(data)} bytes (at most {MAX_TEXT})")
    try:
        lines = [line.split() for line in data.decode().splitlines()]
    except UnicodeDecodeError as error:
        raise CheckpointError(f"its text is not UTF-8 (byte {error.start})") from error
    lines = [words for words in lines if words]
    if not lines or lines[0] != [MAGIC]:
        raise CheckpointError(f"its first line is not {MAGIC}, which ncnn writes")
    if len(lines) < 3 or len(lines[1]) != 2:
        raise CheckpointError("its second line has not the numbers of layers and blobs")
    try:
        count = _number(lines[1][0])
    except ValueError as error:
        raise CheckpointError(f"it says {printable(lines[1][0], 20)} layers, which is no number") from error
    if count != len(lines) - 2 or count > MAX_LAYERS:
        raise CheckpointError(
            f"it says {printable(lines[1][0], 20)} layers and has {len(lines) - 2} (at most {MAX_LAYERS})"
        )
    return [_layer(words) for words in lines[2:]]


def _layer(words: list[str]) -> Layer:
    kind, name = words[0][:80], words[1][:255] if len(words) > 1 else ""
    try:
        reads, writes = (int(word) for word in words[2:4])
    except ValueError as error:
        raise CheckpointError(f"layer {printable(name)} has no numbers of inputs and outputs") from error
    blobs, rest = words[4 : 4 + reads + writes], words[4 + reads + writes :]
    if not (0 <= reads <= MAX_BLOBS and 0 <= writes <= MAX_BLOBS) or len(blobs) != reads + writes:
        raise CheckpointError(f"layer {printable(name)} names {len(blobs)} of {reads} inputs and {writes} outputs")
    if len(rest) > MAX_KEYS:
        raise CheckpointError(f"layer {printable(name)} has {len(rest)} parameters (at most {MAX_KEYS})")
    params: dict[int, Value] = {}
    for word in rest:
        key, value = _parameter(name, word)
        params[key] = value
    return Layer(kind, name, tuple(blobs[:reads]), tuple(blobs[reads:]), params)


def _parameter(name: str, word: str) -> tuple[int, Value]:
    """``key=value``; an array is ``-23300-key=count,value,...`` or, as newer programs write it, ``key=value,value``."""
    left, separator, right = word.partition("=")
    try:
        key = int(left)
        if not separator or not right:
            raise ValueError
        if right.startswith('"'):
            return key, right.strip('"')[:255]
        values = [_number(part) for part in right.split(",")[: MAX_NUMBERS + 2]]
        if len(values) > MAX_NUMBERS + 1:
            raise CheckpointError(f"layer {printable(name)} has more than {MAX_NUMBERS} numbers in one parameter")
        if key <= _ARRAY:
            if values[0] != len(values) - 1:
                raise ValueError
            return _ARRAY - key, values[1:]
        return key, values if len(values) > 1 else values[0]
    except ValueError as error:
        raise CheckpointError(
            f"layer {printable(name)} has the parameter {printable(word[:60])}, expected key=value"
        ) from error


def _number(text: str) -> float:
    """A finite number of modest length."""
    if len(text) > 40:
        raise ValueError("a long number")
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError("not a finite number")
    return value
