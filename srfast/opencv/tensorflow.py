"""Frozen TensorFlow graphs (.pb): just enough of the format to read constants and the order of operations.

A GraphDef is a protocol buffer: fields of (number << 3 | wire type), where type 0 is a varint, 1 eight bytes, 2 a length and
as many bytes, 5 four bytes. Field numbers are those of TensorFlow's graph.proto, node_def.proto, attr_value.proto and
tensor.proto. OpenCV's own reader is no help: that of 5.0 refuses FSRCNN's public files (``docs/decisions.md``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from srfast.errors import CheckpointError
from srfast.images.arrays import Array

_MOST_BYTES = 256 << 20
_FLOAT, _INT = 1, 3


@dataclass
class TfNode:
    """One operation: its inputs by name and, of a Const, its value."""

    name: str = ""
    op: str = ""
    inputs: list[str] = field(default_factory=list)
    attributes: dict[str, bytes] = field(default_factory=dict)

    @property
    def value(self) -> Array:
        """The array of a Const.

        Raises:
            CheckpointError: it is none, or of another type than float32 and int32.
        """
        tensor = next((v for n, v in fields(self.attributes.get("value", b"")) if n == 8), None)
        if not isinstance(tensor, bytes):
            raise CheckpointError(f"the node {self.name} ({self.op}) of the graph holds no tensor")
        return _tensor(tensor, self.name)

    def numbers(self, attribute: str) -> list[int]:
        """A list of integers, such as the strides."""
        found: list[int] = []
        for number, value in fields(self.attributes.get(attribute, b"")):
            if number == 1 and isinstance(value, bytes):
                for inner, item in fields(value):
                    if inner == 3:
                        found += _varints(item) if isinstance(item, bytes) else [item]
        return found


def read_graph(path: Path) -> dict[str, TfNode]:
    """The nodes of a frozen graph by name, in the file's order.

    Raises:
        CheckpointError: the file is no such graph.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise CheckpointError(f"{path} is too large for a super-resolution graph")
    try:
        nodes = [
            _node(value) for number, value in fields(path.read_bytes()) if number == 1 and isinstance(value, bytes)
        ]
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not a frozen TensorFlow graph") from error
    if not nodes or not any(node.op == "Conv2D" for node in nodes):
        raise CheckpointError(f"{path} is not a frozen TensorFlow graph with convolutions")
    return {node.name: node for node in nodes}


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of one message."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        value: int | bytes
        if kind == 0:
            value, position = _varint(data, position)
        else:
            length = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                length, position = _varint(data, position)
            if length is None or position + length > len(data):
                raise ValueError("not a protocol buffer")
            value, position = data[position : position + length], position + length
        yield key >> 3, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
        # A varint of ones without an end would otherwise make a number as long as the file.
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _varints(data: bytes) -> list[int]:
    position, found = 0, []
    while position < len(data):
        value, position = _varint(data, position)
        found.append(value)
    return found


def _node(data: bytes) -> TfNode:
    node = TfNode()
    for number, value in fields(data):
        if not isinstance(value, bytes):
            continue
        if number == 1:
            node.name = value.decode()
        elif number == 2:
            node.op = value.decode()
        elif number == 3:
            # "^name" is a control input, "name:1" another output; only which node it is counts here.
            node.inputs.append(value.decode().lstrip("^").partition(":")[0])
        elif number == 5:
            pair = dict(fields(value))
            key, content = pair.get(1, b""), pair.get(2, b"")
            if isinstance(key, bytes) and isinstance(content, bytes):
                node.attributes[key.decode()] = content
    return node


def _tensor(data: bytes, name: str) -> Array:
    kind, shape, content, floats, ints = 0, [], b"", b"", []
    for number, value in fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            for inner, dim in fields(value):
                if inner == 2 and isinstance(dim, bytes):
                    shape.append(next((v for n, v in fields(dim) if n == 1 and isinstance(v, int)), 0))
        elif number == 4 and isinstance(value, bytes):
            content = value
        elif number == 5 and isinstance(value, bytes):
            floats += value
        elif number == 7:
            ints += _varints(value) if isinstance(value, bytes) else [value]
    if kind not in (_FLOAT, _INT):
        raise CheckpointError(f"the constant {name} of the graph is of type {kind}; float32 and int32 are read")
    dtype = np.float32 if kind == _FLOAT else np.int32
    count = int(np.prod(shape)) if shape else 1
    if kind == _INT and ints:
        array = np.array(ints, np.int64).astype(np.int32)
    else:
        # Numbers lie in ``tensor_content`` as bytes or, few of them, in fields of their own.
        array = np.frombuffer(content or floats, dtype)
    # TensorFlow stores a tensor of equal values as one of them.
    if array.size == 1 and count > 1:
        array = np.full(count, array[0], dtype)
    if array.size != count:
        raise CheckpointError(f"the constant {name} of the graph has {array.size} values for the shape {shape}")
    return array.reshape(shape)
