"""Frames one after another: what has not changed since the last frame is copied, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from srfast.engine import Engine
from srfast.images.alpha import upscale_with_alpha
from srfast.images.arrays import Array, resize_array, run_array
from srfast.upscaler import Upscaler

_BLOCK = 16  # pixels: changes are looked for in blocks of this size
_WORTH = 0.85  # of the whole image's pixels: regions that need more than this are not worth their edges


@dataclass
class Reuse:
    """How much was copied: frames in all, whole frames copied, input pixels in all and input pixels computed."""

    frames: int = 0
    repeated: int = 0
    pixels: int = 0
    computed: int = 0

    @property
    def saved(self) -> float:
        """Part of the network's work that was saved, 0..1."""
        return 1 - self.computed / self.pixels if self.pixels else 0.0


class SequenceUpscaler:
    """Upscales RGB frames of one video, in their order.

    A part of the result is copied from the last frame where the input, with all around it that the result depends on, is
    byte for byte the same. On an exact backend any rectangle is such a part; on others the engine's own tiles are, which
    are computed alike each time.

    Args:
        upscaler: the network.
        reuse: False computes everything.
        bits: of a sample in the frames; by default as many as their type has.
    """

    def __init__(self, upscaler: Upscaler, *, reuse: bool = True, bits: int | None = None) -> None:
        upscaler.check_takes_video()
        self._upscaler = upscaler
        engine = upscaler.engine if bits is None else upscaler.engine.for_bits(bits)
        self._colour = _Plane(engine, reuse)
        self._alpha = _Plane(engine, reuse)

    @property
    def statistics(self) -> Reuse:
        """Counts of the colour planes."""
        return self._colour.statistics

    def __call__(self, image: Array) -> Array:
        """[H, W, 3] RGB or [H, W, 4] RGBA of uint8 or uint16 -> the same, larger; alpha goes through as a gray image."""
        height, width = self._upscaler.output_size(*image.shape[:2])
        if image.shape[2] == 3:
            return resize_array(self._colour(image), height, width)
        return resize_array(upscale_with_alpha(image, self._colour, self._gray), height, width)

    def _gray(self, alpha: Array) -> Array:
        return np.asarray(cv2.cvtColor(self._alpha(cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)), cv2.COLOR_RGB2GRAY))


class _Plane:
    """The last frame and its result."""

    def __init__(self, engine: Engine, reuse: bool) -> None:
        self._engine, self._reuse = engine, reuse
        self._input: Array | None = None
        self._output: Array | None = None
        self.statistics = Reuse()

    def __call__(self, image: Array) -> Array:
        self.statistics.frames += 1
        self.statistics.pixels += image.shape[0] * image.shape[1]
        last, out = self._input, self._output
        if not self._reuse or last is None or out is None or last.shape != image.shape or last.dtype != image.dtype:
            out = self._whole(image)
        else:
            changed = changed_blocks(last, image)
            if not changed.any():
                self.statistics.repeated += 1
            else:
                out = self._changed(image, changed, last, out)
        if self._reuse:
            self._input, self._output = image, out
        return out

    def _whole(self, image: Array) -> Array:
        self.statistics.computed += image.shape[0] * image.shape[1]
        return run_array(image, self._engine)

    def _changed(self, image: Array, changed: Array, last: Array, out: Array) -> Array:
        tensor = torch.from_numpy(image).unsqueeze(0)
        engine = self._engine.for_type(tensor.dtype)
        if engine.halo is None:
            return self._whole(image)
        if not engine.exact:
            result = torch.from_numpy(out.copy()).unsqueeze(0)
            self.statistics.computed += engine.refresh(tensor, torch.from_numpy(last).unsqueeze(0), result)
            return result[0].numpy()
        height, width = image.shape[:2]
        # Results come in blocks of the alignment, so a change reaches whole blocks.
        reach = (-(-engine.halo // engine.alignment) + bool(_BLOCK % engine.alignment)) * engine.alignment
        boxes = rectangles(changed, reach, height, width)
        if sum(_window_pixels(box, reach, height, width) for box in boxes) > _WORTH * height * width:
            return self._whole(image)
        # The last result may still be on its way to the encoder.
        out, s = out.copy(), engine.scale
        for top, left, bottom, right in boxes:
            part = engine.region(tensor, top, left, bottom - top, right - left)
            out[top * s : bottom * s, left * s : right * s] = part[0].numpy()
            self.statistics.computed += _window_pixels((top, left, bottom, right), reach, height, width)
        return out


def changed_blocks(last: Array, image: Array) -> Array:
    """[ceil(H / 16), ceil(W / 16)] uint8: 1 where a block has any byte that differs."""
    height, width = image.shape[:2]
    differs = (last != image).any(2).astype(np.uint8)
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    padded = np.zeros((rows * _BLOCK, columns * _BLOCK), np.uint8)
    padded[:height, :width] = differs
    return np.asarray(padded.reshape(rows, _BLOCK, columns, _BLOCK).max((1, 3)))


def rectangles(changed: Array, halo: int, height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Rectangles (top, left, bottom, right) in pixels that hold all results that the changed blocks reach.

    Boxes of connected groups; two whose windows overlap become one where that is no more work.
    """
    count, _, stats, _ = cv2.connectedComponentsWithStats(changed, connectivity=8)
    boxes = []
    for left, top, columns, rows, _ in stats[1:count]:
        boxes.append(
            (
                max(0, int(top) * _BLOCK - halo),
                max(0, int(left) * _BLOCK - halo),
                min(height, int(top + rows) * _BLOCK + halo),
                min(width, int(left + columns) * _BLOCK + halo),
            )
        )
    if len(boxes) > 64:  # noise all over
        return [(0, 0, height, width)]
    merged = True
    while merged:
        merged = False
        for i, first in enumerate(boxes):
            for other in boxes[i + 1 :]:
                both = (
                    min(first[0], other[0]),
                    min(first[1], other[1]),
                    max(first[2], other[2]),
                    max(first[3], other[3]),
                )
                apart = _window_pixels(first, halo, height, width) + _window_pixels(other, halo, height, width)
                if _window_pixels(both, halo, height, width) <= apart:
                    boxes = [box for box in boxes if box not in (first, other)] + [both]
                    merged = True
                    break
            if merged:
                break
    return boxes


def _window_pixels(box: tuple[int, int, int, int], halo: int, height: int, width: int) -> int:
    """Input pixels that a rectangle's result reads."""
    top, left, bottom, right = box
    return (min(height, bottom + halo) - max(0, top - halo)) * (min(width, right + halo) - max(0, left - halo))
