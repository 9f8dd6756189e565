"""One pass from a reader to a sink: decoding, network and encoding run at the same time."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from srfast._threads import Channel, Feeding, StageTimes, StoppedError
from srfast.errors import FrameLossError, OutputError
from srfast.video.reader import Item, RgbFrame, VideoReader
from srfast.video.sinks import Sink
from srfast.video.source import reason, require_av

_log = logging.getLogger("srfast")


class Run:
    """One pass from a reader to a sink.

    Args:
        reader: where frames and packets come from.
        network: makes the frames larger, as ``NetworkStage``.
        sink: where they go.
        streams: the reader's streams to copy.
        limit: frames after which it ends.
        times: where the stages' work is counted.
        live: the reader has no end of its own: Ctrl-C is the end.

    Attributes:
        interrupted: Ctrl-C ended it.
    """

    def __init__(
        self,
        reader: VideoReader,
        network: Callable[[Iterable[Item]], Iterator[Item]],
        sink: Sink,
        streams: list[Any],
        limit: int | None,
        times: StageTimes,
        live: bool = False,
    ) -> None:
        self._reader, self._network, self._sink = reader, network, sink
        self._streams, self._limit, self._times, self._live = streams, limit, times, live
        self._done, self._complete = sink.start.frames, True
        self.interrupted = False

    def go(self, report: Callable[[int], None]) -> None:
        """Runs to the end; on failure the sink keeps what can be continued.

        Raises:
            OutputError: the output cannot be written.
            FrameLossError: not every frame came through.
        """
        try:
            if not self._sink.start.finished:
                self._stages(report)
            with _output_errors(), self._times.measure("finish"):
                self._sink.finish()
        except BaseException as error:
            # Whatever it was, the frames so far are right; a second Ctrl-C gives up what the first was completing.
            left = self._sink.abandon(keep=self._complete and not self.interrupted)
            if left and isinstance(error, OutputError):
                raise OutputError(*error.args[:-1], f"{error.args[-1]}; {left}") from error
            if left:
                _log.warning("%s", left)
            raise

    def _stages(self, report: Callable[[int], None]) -> None:
        stop = threading.Event()
        decoded: Channel[Item] = Channel(stop)
        upscaled: Channel[Item] = Channel(stop)
        start = self._sink.start
        items = self._reader.items(
            self._streams, self._limit, skip_frames=start.frames, skip_packets=dict(start.packets)
        )
        timed = self._times.timed("decode", items)
        reading = Feeding(decoded, timed, "srfast-decode", self._reader.hold())
        writing = _WriterThread(self._sink, upscaled, self._times)
        try:
            reading.start()
            writing.start()
            self._upscale(decoded, upscaled, writing, report)
            upscaled.end()
            writing.join()
            writing.check()
        except StoppedError:
            writing.check()
            raise
        finally:
            stop.set()
            self._reader.interrupt()
            reading.leave()
            writing.leave()
        # Counted at three places: a frame lost anywhere between them is an error and never a shorter video.
        self._complete = self.interrupted or self._reader.decoded == self._done == self._sink.encoded
        if not self._complete:
            raise FrameLossError(
                f"{self._reader.decoded} frames came in, {self._sink.encoded} went out; the output is discarded"
            )

    def _upscale(
        self, decoded: Channel[Item], upscaled: Channel[Item], writing: _WriterThread, report: Callable[[int], None]
    ) -> None:
        try:
            for item in self._network(decoded):
                upscaled.put(item)
                if isinstance(item, RgbFrame):
                    self._done += 1
                    report(self._done)
                writing.check()
        except KeyboardInterrupt:
            if not self._live or not self._done:
                raise
            self.interrupted = True
            _log.warning("the output is being completed; Ctrl-C once more discards it")


def disk_reason(error: BaseException) -> str | None:
    """What a disk that takes no more says, with what to do; None for other errors."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"{os.strerror(number)}; make room first"
    if number == errno.EFBIG:
        return f"{os.strerror(number)} for this file system"
    return None


class _output_errors:  # noqa: N801
    """Turns what a muxer or the system says about writing into OutputError."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, BrokenPipeError):
            return  # who reads a pipe may stop at any time
        if isinstance(error, (OSError, ValueError, require_av().error.FFmpegError)):
            raise OutputError(f"cannot write the output: {disk_reason(error) or reason(error)}") from error


class _WriterThread(threading.Thread):
    """Encodes until the channel ends."""

    def __init__(self, sink: Sink, items: Channel[Item], times: StageTimes) -> None:
        super().__init__(name="srfast-encode", daemon=True)  # who reads a pipe may never read on
        self._sink, self._items, self._times = sink, items, times
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            for item in self._items:
                with self._times.measure("encode"):
                    if isinstance(item, RgbFrame):
                        self._sink.frame(item)
                    else:
                        self._sink.packet(item)
        except StoppedError:
            return
        except BaseException as error:
            self._error = error
            self._items.stop()

    def leave(self) -> None:
        """Waits for the item at hand, as long as the sink has patience."""
        if self.ident is not None:
            self.join(self._sink.patience)

    def check(self) -> None:
        """Raises what ended the thread."""
        if self._error is not None:
            with _output_errors():
                raise self._error
