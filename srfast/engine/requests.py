"""Images on their way through an engine: what a tile reads of them, and where its result belongs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from srfast.engine.batching import Part
from srfast.engine.pixels import UNITS, store, to_units
from srfast.kernels.planes import PlaneColour, Planes, load_planes_reference, store_planes_reference


@dataclass
class Job:
    """One batch of images, tile by tile.

    Attributes:
        images: [N, H, W, C]; with ``colour`` pictures of video planes, [N, 3 * H / 2, W, 1].
        out: where the results go, as ``images`` and ``scale`` times larger.
        bgr: the channels, of the images and of the result, are in the reverse of the network's order.
        pending: batches of tiles that are not delivered yet.
        flags: not 0 where a value was not finite, of tiles that nobody looked at yet.
        redone: a tile was computed again in float32.
    """

    images: Tensor
    out: Tensor
    scale: int
    bgr: bool = False
    colour: PlaneColour | None = None
    pending: int = 0
    flags: list[tuple[Tensor, list[Part]]] = field(default_factory=list)
    redone: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        rows, width = self.images.shape[1:3]
        return (rows if self.colour is None else rows // 3 * 2), width

    def window(self, part: Part) -> Tensor:
        """What a tile reads: [1, h, w, C], or a picture of planes."""
        if self.colour is None:
            return part.window(self.images)
        if self.whole(part):
            return self.images[part.image : part.image + 1]
        planes = Planes.of(self.images, self.colour)
        return Planes(part.window(planes.luma), part.halved().window(planes.chroma), self.colour).picture

    def whole(self, part: Part) -> bool:
        """Whether a tile's result is an image's."""
        return part.covers(*self.size)

    def store(self, parts: list[Part], y: Tensor) -> None:
        """Results of windows, of the images' type, one after another along the first dimension, to their places."""
        for index, part in enumerate(parts):
            self._store(part, y[index : index + 1])

    def _store(self, part: Part, y: Tensor) -> None:
        if self.colour is None:
            part.place(self.out, self.scale).copy_(part.crop(y, self.scale))
            return
        given, target, half = Planes.of(y, self.colour), Planes.of(self.out, self.colour), part.halved()
        part.place(target.luma, self.scale).copy_(part.crop(given.luma, self.scale))
        half.place(target.chroma, self.scale).copy_(half.crop(given.chroma, self.scale))

    def load_float(self, part: Part, device: torch.device, dtype: torch.dtype, peak: float) -> Tensor:
        """A tile's window as the network reads it: [1, C, h, w], white as ``peak``."""
        window = self.window(part).to(device, non_blocking=True)
        if self.colour is not None:
            return load_planes_reference(Planes.of(window, self.colour), peak).to(dtype)
        x = to_units(window, dtype, peak)
        return x.flip(1) if self.bgr else x

    def store_float(self, part: Part, y: Tensor) -> None:
        """A window's result as the network gives it, [1, C', h', w'] whose white is 255, to its place."""
        if self.colour is not None:
            self._store(part, store_planes_reference(y, UNITS, self.colour).picture)
            return
        y = y.permute(0, 2, 3, 1)
        store(part.crop(y.flip(3) if self.bgr else y, self.scale), part.place(self.out, self.scale))
