"""The stage between decoding and encoding: frames in, larger frames out, everything in its order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from srfast.sequence import Reuse, SequenceUpscaler
from srfast.stages import StageTimes
from srfast.upscaler import Upscaler
from srfast.video.reader import Item, RgbFrame


class NetworkStage:
    """Upscales the frames among the items of one video and lets packets pass.

    This is the only place where a video meets the engine.

    Args:
        upscaler: the network.
        reuse: copy what has not changed since the last frame.
        times: where its work is counted, under 'network'.
    """

    def __init__(self, upscaler: Upscaler, *, reuse: bool, times: StageTimes | None = None) -> None:
        self._sequence = SequenceUpscaler(upscaler, reuse=reuse)
        self._times = times or StageTimes()

    @property
    def statistics(self) -> Reuse:
        """What was copied from the frame before."""
        return self._sequence.statistics

    def __call__(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items in their order. It may take several before it gives the first."""
        for item in items:
            if not isinstance(item, RgbFrame):
                yield item
                continue
            with self._times.measure("network"):
                image = self._sequence(item.image)
            yield RgbFrame(image, item.pts, item.duration)
