"""The numbers of an ncnn network: from a .bin file, which is one row of them without names, or from named tensors."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from srfast.errors import CheckpointError, printable

_HALF, _BFLOAT, _INT8, _RAW = 0x01306B47, 0x01348B83, 0x000D4B38, 0x0002C056

Array: TypeAlias = np.ndarray[Any, Any]


class Weights(Protocol):
    """Where the layers get their numbers, in the order in which they ask."""

    def tagged(self, layer: str, what: str, count: int) -> Array:
        """``count`` numbers of a type that the file tells, as float32; int8 as such."""
        ...

    def plain(self, layer: str, what: str, count: int) -> Array:
        """``count`` float32."""
        ...

    def finish(self) -> None:
        """Nothing may be left.

        Raises:
            CheckpointError: something is.
        """
        ...


class BinWeights:
    """A .bin file, read from front to back.

    Args:
        data: the whole file.

    Attributes:
        taken: what was read, by ``layer.what``, as named tensors hold it.
    """

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0
        self.taken: dict[str, Array] = {}

    def tagged(self, layer: str, what: str, count: int) -> Array:
        tag = int(self._read(layer, np.dtype("<u4"), 1)[0])
        if tag == _HALF:
            return self._kept(layer, what, self._read(layer, np.dtype("<f2"), count).astype(np.float32))
        if tag == _BFLOAT:
            bits = self._read(layer, np.dtype("<u2"), count).astype(np.uint32) << 16
            return self._kept(layer, what, bits.view(np.float32))
        if tag == _INT8:
            return self._kept(layer, what, self._read(layer, np.dtype("i1"), count))
        if tag in (0, _RAW):
            return self._kept(layer, what, self._read(layer, np.dtype("<f4"), count))
        if sum(tag.to_bytes(4, "little")) == 0:
            raise CheckpointError(f"layer {printable(layer)} has numbers of an unknown type")
        # Any other tag: bytes follow that point into a table of 256 floats, which comes first.
        table = self._read(layer, np.dtype("<f4"), 256)
        return self._kept(layer, what, table[self._read(layer, np.dtype("u1"), count)])

    def plain(self, layer: str, what: str, count: int) -> Array:
        return self._kept(layer, what, self._read(layer, np.dtype("<f4"), count))

    def finish(self) -> None:
        if self.at != len(self.data):
            raise CheckpointError(f"its .bin file has {len(self.data)} bytes, but its layers take {self.at}")

    def _read(self, layer: str, dtype: np.dtype[Any], count: int) -> Array:
        size = count * dtype.itemsize
        if count < 0 or size > len(self.data) - self.at:
            raise CheckpointError(
                f"its .bin file ends within layer {printable(layer)}: {size} bytes wanted at {self.at} of {len(self.data)}"
            )
        result: Array = np.frombuffer(self.data, dtype, count, self.at)
        # Each array ends at a multiple of four bytes.
        self.at += -(-size // 4) * 4
        self.at = min(self.at, len(self.data))  # the last one's end may not be filled up
        return result

    def _kept(self, layer: str, what: str, value: Array) -> Array:
        value = value if value.dtype == np.int8 else value.astype(np.float32)
        if value.dtype != np.int8 and not np.isfinite(value).all():
            raise CheckpointError(f"layer {printable(layer)} has NaN or infinite values; it cannot give an image")
        self.taken[f"{layer}.{what}"] = value
        return value


class NamedWeights:
    """The same numbers as tensors by ``layer.what``, as a converted file has them."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = dict(state)
        self.taken: dict[str, Array] = {}

    def tagged(self, layer: str, what: str, count: int) -> Array:
        key = f"{layer}.{what}"
        value = self.state.pop(key, None)
        if value is None or value.numel() != count:
            has = "is missing" if value is None else f"has {value.numel()} numbers, expected {count}"
            raise CheckpointError(f"tensor {printable(key)} {has}")
        flat = value.reshape(-1)
        self.taken[key] = (flat if flat.dtype == torch.int8 else flat.float()).numpy()
        return self.taken[key]

    def plain(self, layer: str, what: str, count: int) -> Array:
        return self.tagged(layer, what, count)

    def finish(self) -> None:
        if self.state:
            raise CheckpointError(f"tensor {printable(next(iter(self.state)))} belongs to no layer")
