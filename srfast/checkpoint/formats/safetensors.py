"""Files of safetensors (https://github.com/huggingface/safetensors): a JSON header, then the numbers."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from srfast._names import openable
from srfast.errors import CheckpointError

MAX_HEADER = 8 << 20  # bytes; that of RRDBNet-23 has 70 kB
MAX_TENSORS = 20_000
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class _OtherNumbersError(Exception):
    """A type that is none of weights, or of counts beside them; the text says which."""


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata, after the header was checked against the file.

    Raises:
        CheckpointError: the header is damaged, or describes tensors that the file does not hold.
    """
    try:
        metadata = _check_header(path)
        with openable(path) as name:
            return safetensors.torch.load_file(name), metadata
    except _OtherNumbersError as error:
        raise CheckpointError(
            f"{path}: {error}, but weights are F64, F32, F16 or BF16; in the program that made it, save them as one of these"
        ) from error
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise CheckpointError(f"{path} is not a valid safetensors file: {str(error)[:160]}") from error


def _check_header(path: Path) -> dict[str, str]:
    size = path.stat().st_size
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))
        if length > min(MAX_HEADER, size - 8):
            raise ValueError(f"a header of {length} bytes in a file of {size} (at most {MAX_HEADER})")
        # JSON allows a key twice and takes the last; another reader may take the first, and see another network.
        header = json.loads(file.read(length), object_pairs_hook=_distinct, parse_constant=_no_constant)
    if not isinstance(header, dict) or len(header) > MAX_TENSORS:
        raise ValueError(f"the header is no table of at most {MAX_TENSORS} tensors")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("the metadata is no table of texts")
    end = 0
    # Sorted by place, tensors must follow one another: overlapping ones would let a small file describe a huge network.
    for first, last, name in sorted(_extent(name, entry) for name, entry in header.items()):
        if first != end:
            raise ValueError(f"tensor {name[:60]!r} begins at byte {first}, not {end}: tensors overlap or leave gaps")
        end = last
    if end != size - 8 - length:
        raise ValueError(f"the tensors have {end} bytes, the file {size - 8 - length}")
    return metadata


def _extent(name: str, entry: Any) -> tuple[int, int, str]:
    """First byte, one past the last, name."""
    shape, dtype, (first, last) = entry["shape"], entry["dtype"], entry["data_offsets"]
    numbers = [*shape, first, last]
    if dtype not in _ITEM_BYTES:
        raise _OtherNumbersError(f"tensor {name[:60]!r} holds {str(dtype)[:20]!r}")
    if len(shape) > 8 or any(type(n) is not int or not 0 <= n < 1 << 48 for n in numbers):
        raise ValueError(f"tensor {name[:60]!r} has sizes {str(numbers)[:60]}")
    if last - first != math.prod(shape) * _ITEM_BYTES[dtype]:
        raise ValueError(f"tensor {name[:60]!r} of {shape} {dtype} has {last - first} bytes")
    return first, last, name


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("two entries of the header have the same name")
    return table


def _no_constant(text: str) -> None:
    raise ValueError(f"the header has the value {text}")
