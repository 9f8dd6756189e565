"""Windows of equal size that cover an image with enough context for an exact result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from srfast.plan import Plan


@dataclass(frozen=True)
class Window:
    """One direction of a tile, in input pixels: reads ``start .. start + size``, answers for ``first .. last``."""

    start: int
    size: int
    first: int
    last: int


def windows(length: int, tile: int, halo: int, alignment: int = 1) -> list[Window]:
    """Splits ``length`` pixels into parts of at most ``tile``, each read with ``halo`` pixels around it.

    Windows and parts start at multiples of ``alignment``, to which ``tile`` and ``halo`` are rounded up. All windows
    have one size, except that with an alignment above 1 the last ones may be up to ``alignment - 1`` longer. They end
    at the image's border instead of beyond it, so that the network's own zero padding falls where it falls for the
    whole image; elsewhere at least ``halo`` true pixels lie around each part.
    """
    count = -(-length // max(1, tile))
    part = _round_up(-(-length // count), alignment)
    halo = _round_up(halo, alignment)
    size = min(length, part + 2 * halo)
    result = []
    for first in range(0, length, part):
        start = min(max(first - halo, 0), length - size)
        extra = start % alignment
        result.append(Window(start - extra, size + extra, first, min(first + part, length)))
    return result


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit


@dataclass(frozen=True)
class Tiling:
    """The tiles of images of one size: rows and columns of windows."""

    rows: tuple[Window, ...]
    columns: tuple[Window, ...]

    def __iter__(self) -> Iterator[tuple[Window, Window]]:
        return ((row, column) for row in self.rows for column in self.columns)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    @property
    def window_pixels(self) -> int:
        """Input pixels that one tile reads."""
        return max(row.size for row in self.rows) * max(column.size for column in self.columns)


def tile_by_size(height: int, width: int, tile: int, halo: int, alignment: int = 1) -> Tiling:
    """Tiles of at most ``tile`` x ``tile`` input pixels; 0 is one tile."""
    size = tile or max(height, width)
    return Tiling(tuple(windows(height, size, halo, alignment)), tuple(windows(width, size, halo, alignment)))


def tile_by_memory(height: int, width: int, halo: int, pixels: int, alignment: int = 1) -> Tiling:
    """The fewest tiles whose windows hold at most ``pixels`` input pixels, or the smallest useful ones.

    The longer side of the tile is cut first. A part is never smaller than 16 pixels.
    """
    parts = [height, width]
    while True:
        rows, columns = windows(height, parts[0], halo, alignment), windows(width, parts[1], halo, alignment)
        tiling = Tiling(tuple(rows), tuple(columns))
        longer = 0 if parts[0] >= parts[1] else 1
        if tiling.window_pixels <= pixels or parts[longer] <= 16:
            return tiling
        count = -(-(height, width)[longer] // parts[longer]) + 1
        parts[longer] = max(16, -(-(height, width)[longer] // count))


def bytes_per_pixel(plan: Plan, element_size: int) -> int:
    """Peak bytes of activations for each input pixel of a window, with the float image that leaves it."""
    return int(plan.peak_elements() * element_size) + plan.out_channels * plan.scale**2 * element_size
