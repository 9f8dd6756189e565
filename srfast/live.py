"""Live upscaling: a deadline for each frame; the newest frame wins, and what would be late takes a lighter way."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2

from srfast.images.arrays import Array
from srfast.upscaler import Upscaler

_MARGIN = 1.1  # an estimate is late if it is within a tenth of the deadline
_SMOOTH = 0.2  # weight of the newest measurement of a way's time
_RETRY = 30  # frames after which a way that was too slow is tried again, where it is near


@dataclass
class LiveStatistics:
    """What became of the frames that came in: each was made in one way or dropped."""

    received: int = 0
    full: int = 0
    lighter: int = 0
    bicubic: int = 0
    dropped: int = 0
    late: int = 0

    def __str__(self) -> str:
        return (
            f"{self.received} frames in: {self.full} by the model, {self.lighter} by the lighter one, "
            f"{self.bicubic} bicubic, {self.dropped} dropped for newer ones; {self.late} came out late"
        )


@dataclass(frozen=True)
class LiveFrame:
    """A result: the image, what was submitted with it, how it was made, and the seconds from submission to result."""

    image: Array
    tag: Any
    way: str
    latency: float


@dataclass
class _Way:
    """One way to make a result, and the seconds that it takes (None until measured)."""

    name: str
    run: Callable[[Array], Array]
    seconds: float | None = None
    skipped: int = 0

    def fits(self, left: float) -> bool:
        if self.seconds is None or self.seconds * _MARGIN <= left:
            return True
        # The machine may have become faster; a way that is hopeless is not tried again.
        self.skipped += 1
        if self.skipped >= _RETRY and self.seconds <= 2 * left:
            self.skipped = 0
            return True
        return False

    def __call__(self, image: Array) -> Array:
        started = time.perf_counter()
        result = self.run(image)
        taken = time.perf_counter() - started
        self.seconds = taken if self.seconds is None else (1 - _SMOOTH) * self.seconds + _SMOOTH * taken
        return result


class LiveUpscaler:
    """Upscales frames as they come, in a thread of its own, within a latency.

    A frame waits in a short queue; when that is full the oldest waiting one is dropped. When its turn comes, it takes the
    best way that is expected to end in time: the model, the lighter model, or bicubic interpolation. Every choice is counted.

    Args:
        model: an upscaler, or what ``srfast.load`` takes.
        max_latency: seconds from ``submit`` to the result.
        lighter: a faster model of the same enlargement.
        queue: frames that may wait.

    Examples:
        >>> import numpy as np
        >>> from srfast.models import SRVGGNetCompact
        >>> module = SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2).eval()
        >>> with LiveUpscaler(Upscaler(module, device="cpu", dtype="fp32"), max_latency=10.0) as live:
        ...     live.submit(np.zeros((24, 32, 3), np.uint8))
        ...     result = live.read()
        >>> result.image.shape, result.way
        ((48, 64, 3), 'full')
    """

    def __init__(
        self,
        model: Upscaler | str | os.PathLike[str],
        *,
        max_latency: float = 0.04,
        lighter: Upscaler | str | os.PathLike[str] | None = None,
        queue: int = 1,
    ) -> None:
        if max_latency <= 0 or queue < 1:
            raise ValueError(f"max_latency and queue must be positive, not {max_latency} and {queue}")
        self._model = model if isinstance(model, Upscaler) else Upscaler(model)
        self._ways = [_Way("full", self._model)]
        if lighter is not None:
            size, height = self._model.size, self._model.height
            outscale = self._model.outscale if size is None and height is None else None
            light = (
                lighter
                if isinstance(lighter, Upscaler)
                else Upscaler(lighter, outscale=outscale, size=size, height=height)
            )
            self._ways.append(_Way("lighter", light))
        self._ways.append(_Way("bicubic", self._bicubic))
        self.max_latency = max_latency
        self.statistics = LiveStatistics()
        self._waiting: deque[tuple[Array, Any, float]] = deque()
        self._results: deque[LiveFrame] = deque(maxlen=max(2, queue))
        self._length = queue
        self._changed = threading.Condition()
        self._closing = self._done = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="srfast-live", daemon=True)
        self._thread.start()

    def warm_up(self, height: int, width: int) -> dict[str, float]:
        """Measures every way on an empty frame of that size before the first deadline; returns their seconds."""
        import numpy as np

        image = np.zeros((height, width, 3), np.uint8)
        for way in self._ways:
            # The first run also compiles, allocates and chooses a schedule; only the second is what a frame will cost.
            way.run(image)
            way.seconds = None
            way(image)
        return {way.name: way.seconds or 0.0 for way in self._ways}

    def submit(self, image: Array, tag: Any = None) -> None:
        """Hands in a frame, [H, W, 3] BGR of uint8; never waits.

        Raises:
            RuntimeError: it is closed.
        """
        with self._changed:
            if self._closing:
                raise RuntimeError("this LiveUpscaler is closed")
            self.statistics.received += 1
            # The oldest goes: it is the one nearest to being late, and viewers want what is newest.
            if len(self._waiting) >= self._length:
                self._waiting.popleft()
                self.statistics.dropped += 1
            self._waiting.append((image, tag, time.perf_counter()))
            self._changed.notify_all()

    def read(self, timeout: float | None = None) -> LiveFrame | None:
        """The next result; None after ``timeout`` seconds, or at the end.

        Raises:
            SrfastError: the network failed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._results or self._done, timeout)
            if self._results:
                return self._results.popleft()
            if self._error is not None:
                raise self._error
            return None

    def __iter__(self) -> Iterator[LiveFrame]:
        while (frame := self.read()) is not None:
            yield frame

    def close(self) -> None:
        """Ends after the frames that wait; results can still be read."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> LiveUpscaler:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _bicubic(self, image: Array) -> Array:
        height, width = self._model.output_size(*image.shape[:2])
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)

    def _work(self) -> None:
        try:
            while (taken := self._next()) is not None:
                self._one(*taken)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._done = self._closing = True
            self._changed.notify_all()

    def _next(self) -> tuple[Array, Any, float] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            return self._waiting.popleft() if self._waiting else None

    def _one(self, image: Array, tag: Any, submitted: float) -> None:
        left = self.max_latency - (time.perf_counter() - submitted)
        # Bicubic, the last one, is always there and takes next to nothing: a frame that waited too long still comes out.
        way = next((way for way in self._ways[:-1] if way.fits(left)), self._ways[-1])
        result = way(image)
        latency = time.perf_counter() - submitted
        with self._changed:
            setattr(self.statistics, way.name, getattr(self.statistics, way.name) + 1)
            self.statistics.late += latency > self.max_latency
            if len(self._results) == self._results.maxlen:
                gone = self._results.popleft()  # nobody reads: the newest wins here too
                setattr(self.statistics, gone.way, getattr(self.statistics, gone.way) - 1)
                self.statistics.dropped += 1
            self._results.append(LiveFrame(result, tag, way.name, latency))
            self._changed.notify_all()
