"""The numbers of an ONNX file: in it, or in a file of weights beside it."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from srfast.errors import CheckpointError, printable

Array: TypeAlias = np.ndarray[Any, Any]

# ONNX's numbers of types whose values can be used: float, uint8, int8, int32, int64, bool, float16, double, bfloat16.
_READ = (1, 2, 3, 6, 7, 9, 10, 11, 16)
FLOATS = (1, 10, 11, 16)
_FIELDS = {1: "float_data", 11: "double_data", 7: "int64_data"}  # of types that are not in int32_data
_IN_FILE, _BESIDE = 0, 1
_MAX_SIDE = 1 << 40


def array_of(tensor: Any, folder: Path | None) -> Array:
    """The numbers of a stored tensor; those with fractions as float32.

    Args:
        tensor: a TensorProto.
        folder: where a file of weights may lie; None allows none.

    Raises:
        CheckpointError: the numbers are missing, of another type, not finite, or in a file elsewhere.
    """
    import onnx

    name, dims = printable(tensor.name), list(tensor.dims)
    if any(not 0 <= n < _MAX_SIDE for n in dims) or len(dims) > 8:
        raise CheckpointError(f"tensor {name} has the shape {str(dims)[:60]}")
    if tensor.data_type not in _READ:
        raise CheckpointError(f"tensor {name} has the ONNX type {tensor.data_type}; floats and whole numbers are read")
    count, item = math.prod(dims), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)).itemsize
    if tensor.data_location == _BESIDE:
        raw = _beside(tensor, folder, count * item)
        copied = onnx.TensorProto(data_type=tensor.data_type, dims=dims, raw_data=raw)
        return finite(onnx.numpy_helper.to_array(copied), f"tensor {name}")
    if tensor.HasField("raw_data"):
        given = len(tensor.raw_data) / item
    else:
        given = len(getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data")))
    if given != count:
        raise CheckpointError(f"tensor {name} of {dims} has {given:g} numbers")
    return finite(onnx.numpy_helper.to_array(tensor), f"tensor {name}")


def _beside(tensor: Any, folder: Path | None, size: int) -> bytes:
    """The bytes of a tensor in a file of weights, which must be a plain file in the folder of the network.

    Raises:
        CheckpointError: it is anything else, or too short.
    """
    name = printable(tensor.name)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    plain = location not in ("", ".", "..") and not set(location) & set("/\\\0") and location.isprintable()
    if folder is None or not plain:
        raise CheckpointError(
            f"tensor {name} lies in another file, {printable(location)}, which is not one beside the network; "
            "export the model with its weights inside"
        )
    path = folder / location
    try:
        status = path.lstat()  # of a link itself, which may lead anywhere
        offset, length = (int(entries.get(key) or default) for key, default in (("offset", 0), ("length", size)))
        if not stat.S_ISREG(status.st_mode) or length != size or not 0 <= offset <= status.st_size - size:
            raise CheckpointError(
                f"tensor {name} takes {size} bytes at {offset} of {printable(location)}, which does not have them there"
            )
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise CheckpointError(
            f"tensor {name} lies in {printable(location)}, which has to be beside the network: {error.strerror}"
        ) from error


def finite(given: Array, what: str) -> Array:
    """The numbers, those with fractions as float32, in which none may be infinite."""
    if given.dtype.kind in "iub":
        return given
    with np.errstate(over="ignore"):
        values = np.array(given, dtype=np.float32)  # a copy, that PyTorch may write to
    if not np.isfinite(values).all():
        raise CheckpointError(f"{what} has NaN or infinite values; it cannot give an image")
    return values
