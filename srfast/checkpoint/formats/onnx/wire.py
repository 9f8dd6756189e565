"""Counts what a protobuf holds before it is parsed: a message of two bytes takes a hundred times that in memory."""

from __future__ import annotations

from typing import Any

from srfast.errors import CheckpointError

MAX_FIELDS = 300_000  # RRDBNet-23 has 40,000
MAX_DEPTH = 24
MAX_PACKED = 32 << 20  # bytes of whole numbers in a row, each of which takes eight times that
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WHOLE = {3, 4, 5, 8, 13, 14, 17, 18}  # types of fields that hold varints


def check(data: bytes, descriptor: Any) -> None:
    """Refuse what is no message of this type, or has very many fields, as deep as messages lie in it.

    Args:
        data: the file.
        descriptor: of the message, by which fields are told from messages.

    Raises:
        CheckpointError: says which.
    """
    _Scan(data).message(0, len(data), descriptor, 0)


class _Scan:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fields = 0

    def message(self, at: int, end: int, descriptor: Any, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise CheckpointError(f"its messages are nested more than {MAX_DEPTH} deep")
        known = descriptor.fields_by_number
        while at < end:
            self.fields += 1
            if self.fields > MAX_FIELDS:
                raise CheckpointError(f"it has more than {MAX_FIELDS} fields")
            tag, at = self.varint(at, end)
            kind, number = tag & 7, tag >> 3
            if kind == _BYTES:
                length, at = self.varint(at, end)
                if length > end - at:
                    raise CheckpointError("it ends within a field")
                field = known.get(number)
                if field is not None and field.message_type is not None:
                    self.message(at, at + length, field.message_type, depth + 1)
                elif field is not None and field.type in _WHOLE and length > MAX_PACKED:
                    raise CheckpointError(f"it has {length} bytes of whole numbers in one field (at most {MAX_PACKED})")
                at += length
            elif kind == _VARINT:
                _, at = self.varint(at, end)
            elif kind in (_FIXED64, _FIXED32):
                at += 8 if kind == _FIXED64 else 4
            else:
                raise CheckpointError(f"it has a field of the wire type {kind}")
        if at > end:
            raise CheckpointError("it ends within a field")

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """The number there, and where it ends."""
        value = shift = 0
        while at < end and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
        raise CheckpointError("it ends within a number")
