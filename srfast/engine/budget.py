"""How large tiles may be and how many run together: what fits in memory, or is found not to fit."""

from __future__ import annotations

import math

import torch

from srfast.engine.tiling import Tiling, tile_by_memory, tile_by_size

# Input pixels around a tile of video planes beyond the network's own: two for a chroma sample on its side, one for the
# filter of the result's chroma.
_PLANE_HALO = 3
_SMALLEST = 16  # side of a tile in pixels


class Budget:
    """Tiles for a network.

    Args:
        halo: pixels around a tile that its result depends on; None where it depends on the whole image.
        alignment: tiles start at its multiples.
        tile: side of a tile; 0 never tiles, None lets the memory decide.
        memory: bytes that activations may take.
        bytes_per_pixel: that they take for each input pixel of a tile.
    """

    def __init__(self, halo: int | None, alignment: int, tile: int | None, memory: int, bytes_per_pixel: int) -> None:
        self._halo, self._alignment, self._tile = halo, alignment, tile
        self._pixels = memory // max(1, bytes_per_pixel)
        self._alone = False  # not several tiles in a launch

    def tiling(self, height: int, width: int, planes: bool = False) -> Tiling:
        """The tiles for images of this size, or pictures of planes; one tile where tiles cannot be exact."""
        if self._halo is None:
            return tile_by_size(height, width, 0, 0)
        halo = self._halo + _PLANE_HALO if planes else self._halo
        alignment = math.lcm(2, self._alignment) if planes else self._alignment
        if self._tile is not None:
            return tile_by_size(height, width, self._tile, halo, alignment)
        return tile_by_memory(height, width, halo, self._pixels, alignment)

    def together(self, tiling: Tiling, fill: int) -> int:
        """Tiles in one launch: as many as make ``fill`` pixels, which keep the device busy, if the memory holds them."""
        return max(1, min(1 if self._alone else fill, self._pixels) // tiling.window_pixels)

    def shrink(self, tiling: Tiling, together: int) -> str:
        """Takes less from now on, after ``together`` tiles were too much; says what. Empty where less is impossible."""
        if together > 1:
            self._alone = True
            return "one tile at a time"
        largest = max(tiling.rows[0].last, tiling.columns[0].last)
        if self._halo is None or largest <= _SMALLEST:
            return ""
        self._tile = max(_SMALLEST, largest // 2)
        return f"tiles of {self._tile} pixels"


def default_memory(device: torch.device) -> int:
    """Bytes for activations: half of the free GPU memory, or 1 GiB on a CPU."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free // 2
    return 1 << 30


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed."""
    # PyTorch has no type of its own for the CPU allocator's failure.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)
