"""Tiles: windows that cover an image with enough context for an exact result, batches of them, and how large they may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

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
    # The window is moved in from the image's border instead of being cut there: all windows then have one size, and tiles
    # of one size share compiled launches, CUDA graphs and batches.
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
        # One tile more along the longer side, then equal parts of it: the fewest cuts, and no thin last tile.
        count = -(-(height, width)[longer] // parts[longer]) + 1
        parts[longer] = max(16, -(-(height, width)[longer] // count))


def bytes_per_pixel(plan: Plan, element_size: int) -> int:
    """Peak bytes of activations for each input pixel of a window, with the float image that leaves it."""
    return int(plan.peak_elements() * element_size) + plan.out_channels * plan.scale**2 * element_size


@dataclass(frozen=True)
class Part:
    """One tile of one image of several."""

    image: int
    row: Window
    column: Window

    def window(self, images: Tensor) -> Tensor:
        """[1, H, W, C]: what the tile reads."""
        row, column = self.row, self.column
        rows = images[self.image : self.image + 1, row.start : row.start + row.size]
        return rows[:, :, column.start : column.start + column.size]

    def covers(self, height: int, width: int) -> bool:
        """Whether it answers for the whole image."""
        sides = zip((self.row, self.column), (height, width), strict=True)
        return all(side.first == 0 and side.last == length for side, length in sides)

    def halved(self) -> Part:
        """The same tile of planes of half the size."""
        # Bounds of tiles of planes are even, see ``Budget.tiling``, so that nothing is rounded.
        row, column = (Window(w.start // 2, w.size // 2, w.first // 2, w.last // 2) for w in (self.row, self.column))
        return Part(self.image, row, column)

    def crop(self, y: Tensor, scale: int) -> Tensor:
        """What the tile answers for, of [1, s*H, s*W, C'], the result of its window."""
        row, column = self.row, self.column
        y = y[:, (row.first - row.start) * scale : (row.last - row.start) * scale]
        return y[:, :, (column.first - column.start) * scale : (column.last - column.start) * scale]

    def place(self, out: Tensor, scale: int) -> Tensor:
        """Where that belongs in the images' results."""
        rows = out[self.image : self.image + 1, self.row.first * scale : self.row.last * scale]
        return rows[:, :, self.column.first * scale : self.column.last * scale]


class Blend:
    """Images from tiles that overlap, each with less weight towards its borders, where it knows least.

    Of the pixels that a tile reads beyond its own part the outer half has no weight: the zeros around the tile reach there.

    Args:
        out: [N, s*H, s*W, C'] results, for their shape and device.
        scale: of the network.
        overlap: input pixels that a tile reads beyond its own part; two of them meet in twice as many.
    """

    def __init__(self, out: Tensor, scale: int, overlap: int) -> None:
        self._sums = torch.zeros(out.shape, dtype=torch.float32, device=out.device)
        self._weights = torch.zeros((*out.shape[:3], 1), dtype=torch.float32, device=out.device)
        self._scale, self._overlap = scale, overlap

    def add(self, part: Part, y: Tensor) -> None:
        """Adds [1, s*h, s*w, C'], the result of a tile's whole window."""
        rows, columns = (self._slice(window) for window in (part.row, part.column))
        length, width = self._sums.shape[1:3]
        weight = self._ramp(rows, length)[:, None, None] * self._ramp(columns, width)[:, None]
        target = (slice(part.image, part.image + 1), rows, columns)
        self._sums[target] += y.to(self._sums.device, torch.float32) * weight
        self._weights[target] += weight

    def result(self) -> Tensor:
        """The images, in the unit of the tiles."""
        return self._sums / self._weights

    def _slice(self, window: Window) -> slice:
        return slice(window.start * self._scale, (window.start + window.size) * self._scale)

    def _ramp(self, span: slice, length: int) -> Tensor:
        """Weights of a window's rows or columns: 1 in its middle and at the image's own borders."""
        reach = self._overlap * self._scale
        # Rises at the centres of pixels from 0, half of the overlap outside of the tile's own part, to 1 as far inside of
        # it: where two tiles meet, their weights sum to 1.
        near = (
            torch.arange(span.stop - span.start, dtype=torch.float32, device=self._sums.device) + 0.5 - reach / 2
        ) / reach
        up = near if span.start else torch.ones_like(near)
        down = near.flip(0) if span.stop < length else torch.ones_like(near)
        return torch.minimum(up, down).clamp_(0, 1)


def batches(images: int, tiling: Tiling, most: int) -> Iterator[list[Part]]:
    """Every tile of every image; tiles of one size go together, at most ``most`` and about as many each time."""
    sizes: dict[tuple[int, int], list[Part]] = {}
    for image in range(images):
        for row, column in tiling:
            sizes.setdefault((row.size, column.size), []).append(Part(image, row, column))
    for parts in sizes.values():
        count = -(-len(parts) // max(1, most))
        # Batches of about equal size: with full ones and a rest, the rest would be another size to prepare.
        ends = [len(parts) * i // count for i in range(count + 1)]
        for first, last in pairwise(ends):
            yield parts[first:last]


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
            # Fewer tiles at once costs some speed and no accuracy, so it is tried before smaller tiles, which read more of
            # their surroundings for each pixel of their own.
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
        # Half: graphs, the allocator's fragments and whatever else runs on the GPU want some as well.
        free, _ = torch.cuda.mem_get_info(device)
        return free // 2
    return 1 << 30


def is_out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed."""
    # PyTorch has no type of its own for the CPU allocator's failure.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)
