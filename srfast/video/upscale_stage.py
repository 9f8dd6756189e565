"""The stage between decoding and encoding: frames in, larger frames out, everything in its order.

What has not changed since the last frame is copied, bit for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from srfast._threads import StageTimes
from srfast.engine import Engine
from srfast.engine.transfer import SLOTS
from srfast.images.alpha import upscale_with_alpha
from srfast.images.arrays import Array, resize_array, run_array
from srfast.kernels.planes import LUMA_WEIGHTS, PlaneColour
from srfast.upscaler import Upscaler
from srfast.video.colour import FULL
from srfast.video.planes import FORMATS
from srfast.video.reader import Item, RgbFrame, VideoReader
from srfast.video.settings import Settings

_BLOCK = 16  # pixels: changes are looked for in blocks of this size
_WORTH = 0.85  # of the whole image's pixels: regions that need more than this are not worth their edges
# Their chroma lies between columns, not beside the even ones.
_CENTRED = ("mjpeg", "mpeg1video")


def plane_colour(reader: VideoReader, settings: Settings, upscaler: Upscaler) -> PlaneColour | None:
    """How the video's planes encode colour, if they can go through the network and to the encoder as they are.

    None where the kernels do not convert planes, or where input and output are not both 4:2:0 of the same 8 or 10 bits and
    the same colour, of even size, with chroma beside the even columns.
    """
    if reader.turned:
        return None
    given, wanted, colour = FORMATS.get(reader.format.name), FORMATS.get(settings.pix_fmt), reader.colour
    if given is None or wanted is None or given[0] != wanted[0] or upscaler.resizes:
        return None
    same = (colour.matrix, colour.range) == (settings.colour.matrix, settings.colour.range)
    if not same or colour.matrix not in LUMA_WEIGHTS or reader.stream.codec_context.name in _CENTRED:
        return None
    unit = upscaler.engine.for_frames(given[0], reader.height, reader.width).plane_unit
    if unit is None or reader.height % unit or reader.width % unit:
        return None
    return PlaneColour(colour.matrix, colour.range == FULL, torch.uint8 if given[0] == 8 else torch.uint16)


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


class NetworkStage:
    """Upscales the frames among the items of one video and lets packets pass.

    This is the only place where a video meets the engine. Where the engine overlaps copies with its work, several frames are
    on their way at a time; a frame that is the one before it, byte for byte, is not sent again.

    Args:
        upscaler: the network.
        engine: the upscaler's, for frames of this depth and size.
        reuse: copy what has not changed since the last frame.
        times: where its work is counted, under 'network'.
        planes: what the frames are, if not RGB.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        engine: Engine,
        *,
        reuse: bool,
        times: StageTimes | None = None,
        planes: PlaneColour | None = None,
    ) -> None:
        self._upscaler, self._planes = upscaler, planes
        self._sequence = SequenceUpscaler(upscaler, engine, reuse=reuse)
        self._times = times or StageTimes()
        self._ahead = _Ahead(engine, reuse, planes)
        self._first: tuple[float, int] | None = None
        self._slots = SLOTS if engine.overlaps else 1

    @property
    def statistics(self) -> Reuse:
        """What was copied from the frame before."""
        counts, others = self._ahead.statistics, self._sequence.statistics
        return Reuse(*(a + b for a, b in zip(vars(counts).values(), vars(others).values(), strict=True)))

    def seconds_a_frame(self) -> float | None:
        """Seconds that a frame takes of which nothing is copied, the first left out, which pays for the start; None at first."""
        counts = self.statistics
        if self._first is None or not counts.frames:
            return None
        seconds = self._times.seconds.get("network", 0.0) - self._first[0]
        whole = (counts.computed - self._first[1]) / (counts.pixels / counts.frames)
        return seconds / whole if whole >= 1 else None

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in their order. It may take several before it gives the first."""
        waiting: deque[tuple[Item, Callable[[], Array] | None]] = deque()
        begun = 0
        for item in items:
            if isinstance(item, RgbFrame):
                with self._times.measure("network"):
                    waiting.append((item, self._begin(item)))
                begun += 1
            else:
                waiting.append((item, None))
            # A packet has nothing to wait for, but must not overtake the frames that came before it.
            while waiting and (waiting[0][1] is None or begun >= self._slots):
                begun -= waiting[0][1] is not None
                yield self._finished(*waiting.popleft())
        while waiting:
            yield self._finished(*waiting.popleft())

    def _begin(self, frame: RgbFrame) -> Callable[[], Array]:
        scaled = not self._upscaler.resizes
        if self._planes is not None or (self._slots > 1 and scaled and frame.image.shape[2] == 3):
            return self._ahead.begin(frame.image)
        return lambda: self._sequence(frame.image)

    def _finished(self, item: Item, result: Callable[[], Array] | None) -> Item:
        if result is None or not isinstance(item, RgbFrame):
            return item
        with self._times.measure("network"):
            large = RgbFrame(result(), item.pts, item.duration, item.planes)
        if self._first is None:
            self._first = (self._times.seconds.get("network", 0.0), self.statistics.computed)
        return large


class _Ahead:
    """Whole frames sent one after another; a frame that repeats the last one has its result."""

    def __init__(self, engine: Engine, reuse: bool, planes: PlaneColour | None) -> None:
        self._engine, self._reuse, self._planes = engine, reuse, planes
        self._last: tuple[Array, Callable[[], Array]] | None = None
        self.statistics = Reuse()

    def begin(self, image: Array) -> Callable[[], Array]:
        """Sends [H, W, 3], or a picture of planes; the function waits for the larger one."""
        rows, width = image.shape[:2]
        pixels = (rows if self._planes is None else rows // 3 * 2) * width
        self.statistics.frames += 1
        self.statistics.pixels += pixels
        # Whole frames only: to change a part of the last result it would have to be waited for, and nothing would
        # overlap.
        if self._reuse and self._last is not None and np.array_equal(self._last[0], image):
            self.statistics.repeated += 1
            return self._last[1]
        self.statistics.computed += pixels
        result = _once(self._engine.begin(torch.from_numpy(image).unsqueeze(0), colour=self._planes))
        self._last = (image, result)
        return result


def _once(wait: Callable[[], torch.Tensor]) -> Callable[[], Array]:
    """The result as an array, waited for when it is first asked for."""
    found: list[Array] = []

    def result() -> Array:
        if not found:
            found.append(wait()[0].numpy())
        return found[0]

    return result


class SequenceUpscaler:
    """Upscales RGB frames of one video, in their order.

    A part of the result is copied from the last frame where the input, with all around it that the result depends on, is
    byte for byte the same. On an exact backend any rectangle is such a part; on others the engine's own tiles are, which
    are computed alike each time.

    Args:
        upscaler: the network.
        engine: the upscaler's, for frames of this depth and size; by default what the frames say themselves decides.
        reuse: False computes everything.
    """

    def __init__(self, upscaler: Upscaler, engine: Engine | None = None, *, reuse: bool = True) -> None:
        upscaler.check_takes_video()
        self._upscaler = upscaler
        engine = engine or upscaler.engine
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
        engine = self._engine.for_images(tensor)
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
