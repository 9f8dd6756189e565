"""The stage between decoding and encoding: frames in, larger frames out, everything in its order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from srfast._threads import StageTimes
from srfast.engine import Engine
from srfast.engine.transfer import SLOTS
from srfast.images.arrays import Array
from srfast.kernels.planes import LUMA_WEIGHTS, PlaneColour
from srfast.upscaler import Upscaler
from srfast.video.colour import FULL
from srfast.video.planes import FORMATS
from srfast.video.reader import Item, RgbFrame, VideoReader
from srfast.video.reuse import Reuse, SequenceUpscaler
from srfast.video.settings import Settings

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
    unit = upscaler.engine.for_bits(given[0]).plane_unit
    if unit is None or reader.height % unit or reader.width % unit:
        return None
    return PlaneColour(colour.matrix, colour.range == FULL, torch.uint8 if given[0] == 8 else torch.uint16)


class NetworkStage:
    """Upscales the frames among the items of one video and lets packets pass.

    This is the only place where a video meets the engine. Where the engine overlaps copies with its work, several frames are
    on their way at a time; a frame that is the one before it, byte for byte, is not sent again.

    Args:
        upscaler: the network.
        reuse: copy what has not changed since the last frame.
        times: where its work is counted, under 'network'.
        planes: what the frames are, if not RGB.
        bits: of a sample in the frames; by default as many as their type has.
    """

    def __init__(
        self,
        upscaler: Upscaler,
        *,
        reuse: bool,
        times: StageTimes | None = None,
        planes: PlaneColour | None = None,
        bits: int | None = None,
    ) -> None:
        self._upscaler, self._planes = upscaler, planes
        self._sequence = SequenceUpscaler(upscaler, reuse=reuse, bits=bits)
        self._times = times or StageTimes()
        engine = upscaler.engine if bits is None else upscaler.engine.for_bits(bits)
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
