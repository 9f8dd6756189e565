"""Tiles of images, put together where one does not fill the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from srfast.engine.tiling import Tiling, Window


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


def batches(images: int, tiling: Tiling, most: int) -> Iterator[list[Part]]:
    """Every tile of every image; tiles of one size go together, at most ``most`` and about as many each time."""
    sizes: dict[tuple[int, int], list[Part]] = {}
    for image in range(images):
        for row, column in tiling:
            sizes.setdefault((row.size, column.size), []).append(Part(image, row, column))
    for parts in sizes.values():
        count = -(-len(parts) // max(1, most))
        ends = [len(parts) * i // count for i in range(count + 1)]
        for first, last in pairwise(ends):
            yield parts[first:last]
