"""Memory of a plan's activations at one size: canvases that are used again once nobody reads what they hold."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from srfast.backends.gpu.layout import Slot, side_by_side
from srfast.kernels.buffers import Canvas
from srfast.plan import Shape

# For each shape of canvas the border and tile that its readers need.
Needs = dict[Shape, tuple[int, tuple[int, int]]]


def home(name: str, slots: Mapping[str, Slot], shapes: Mapping[str, Shape]) -> Shape:
    """Shape of the canvas that an activation lies in."""
    slot = slots.get(name)
    return shapes[name] if slot is None else Shape(slot.width, shapes[name].scale)


def read_from(row: tuple[str, ...], slots: dict[str, Slot], shapes: dict[str, Shape]) -> Shape:
    """Shape of the canvas that a convolution reads activations from: their own, or one for copies where they lie apart."""
    if side_by_side(row, slots, shapes):
        return home(row[0], slots, shapes)
    return Shape(sum(shapes[name].channels for name in row), shapes[row[0]].scale)


class Canvases:
    """The canvas of each activation that is still needed.

    Args:
        shapes: of all activations.
        slots: places of those that lie in a row with others.
        size: images, height, width of the input.
        needs: of readers; by default they need neither border nor tiles.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        slots: dict[str, Slot],
        size: tuple[int, int, int],
        dtype: torch.dtype,
        device: torch.device,
        needs: Needs | None = None,
    ) -> None:
        self._shapes, self._slots, self._size = dict(shapes), slots, size
        self._dtype, self._device, self._needs = dtype, device, needs or {}
        self._free: dict[Shape, list[Canvas]] = {}
        self._rows: dict[tuple[str, ...], Canvas] = {}
        self._held: dict[str, Canvas] = {}

    def __getitem__(self, name: str) -> Canvas:
        return self._held[name]

    def allocate(self, name: str) -> Canvas:
        """A free canvas of the activation's shape, or a new one; each shape has its own zeros around the image."""
        slot, place = self._slots.get(name), home(name, self._slots, self._shapes)
        if slot is None:
            canvas = self.take(place)
        else:
            # The first of a row takes the canvas for all of it.
            if slot.row not in self._rows:
                self._rows[slot.row] = self.take(place)
            canvas = self._rows[slot.row].channel_slice(slot.first, self._shapes[name].channels)
        self._held[name] = canvas
        return canvas

    def release(self, name: str, free: bool = True) -> None:
        """Forgets an activation; its canvas is free, or, of a row, when all of the row are forgotten."""
        canvas = self._held.pop(name)
        slot = self._slots.get(name)
        if slot is None:
            if free:
                self.give(self._shapes[name], canvas)
        elif not any(other in self._held for other in slot.row):
            self.give(home(name, self._slots, self._shapes), self._rows.pop(slot.row))

    def offer(self, name: str) -> None:
        """Lets the next activation overwrite this one's canvas although its operation still reads it.

        Only for operations that work value by value: a convolution would read neighbours that are overwritten already.
        """
        self.give(self._shapes[name], self._held[name])

    def concatenated(self, names: tuple[str, ...]) -> Canvas | None:
        """Activations, their channels in a row, as one canvas; None where they lie apart."""
        if len(names) == 1:
            return self._held[names[0]]
        if not side_by_side(names, self._slots, self._shapes):
            return None
        slot = self._slots[names[0]]
        return self._rows[slot.row].channel_slice(slot.first, sum(self._shapes[name].channels for name in names))

    def take(self, shape: Shape) -> Canvas:
        """A free canvas, or a new one."""
        free = self._free.get(shape)
        return free.pop() if free else self.new(shape)

    def give(self, shape: Shape, canvas: Canvas) -> None:
        """The canvas is free."""
        self._free.setdefault(shape, []).append(canvas)

    def new(self, shape: Shape) -> Canvas:
        """A canvas that nobody else has."""
        images, height, width = self._size
        border, tile = self._needs.get(shape, (0, (1, 1)))
        size = (int(height * shape.scale), int(width * shape.scale))
        return Canvas.allocate(
            images, shape.channels, *size, border=border, tile=tile, dtype=self._dtype, device=self._device
        )
