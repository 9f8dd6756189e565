"""``srfast upscale --max-latency``: cameras and streams, within a latency."""

from __future__ import annotations

import argparse
import logging
import sys
import threading
import time
from typing import Any

import cv2

from srfast.cli.options import copied_from, encoding_from, input_from, upscaler_from
from srfast.errors import escaped


def upscale_live(args: argparse.Namespace, source: str, target: str, latency: float) -> int:
    """Runs until the source ends or Ctrl-C, then completes the output; returns 0."""
    from srfast._threads import PATIENCE
    from srfast.live import LiveFrame, LiveUpscaler
    from srfast.video.encoder import settle
    from srfast.video.keeping import column_of, prepare, tell_left_out
    from srfast.video.reader import RgbFrame, VideoReader
    from srfast.video.sinks import StreamSink
    from srfast.video.source import can_reopen

    upscaler = upscaler_from(args, "video")
    with VideoReader(source, input_from(args)) as reader:
        encoding = encoding_from(args)
        suffix = ".y4m" if target == "-" else "." + target.rpartition(".")[2].lower()
        kind = encoding.format or ("y4m" if target == "-" else None)
        prepare(reader, column_of(suffix, kind))
        height, width = upscaler.output_size(reader.height, reader.width)
        tell_left_out(
            [s for s in reader.copied_streams if s.type in copied_from(args)], "a live run carries frames only"
        )
        settings = settle(reader, encoding, suffix, width, height)
        live = LiveUpscaler(upscaler, max_latency=latency, lighter=args.lighter)
        live.warm_up(reader.height, reader.width)
        sink = StreamSink(target, kind, reader, settings, [], args.overwrite)
        stop = threading.Event()
        recorded = can_reopen(source)
        failed: list[BaseException] = []
        release = reader.hold()

        def submit() -> None:
            started = time.perf_counter()
            for count, item in enumerate(reader.items([], args.frames)):
                if stop.is_set():
                    break
                if recorded and isinstance(item, RgbFrame):  # plays at its own rate, as a camera would
                    time.sleep(max(0.0, started + float(item.pts * reader.time_base) - time.perf_counter()))
                if isinstance(item, RgbFrame):
                    live.submit(cv2.cvtColor(item.image[..., :3], cv2.COLOR_RGB2BGR), (count, item))

        def feed() -> None:
            try:
                submit()
            except BaseException as error:
                failed.append(error)
            finally:
                release()
                live.close()

        def write(frame: LiveFrame) -> None:
            item: Any = frame.tag[1]
            sink.frame(RgbFrame(cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB), item.pts, item.duration))

        feeding = threading.Thread(target=feed, name="srfast-decode", daemon=True)
        feeding.start()
        try:
            for frame in live:
                write(frame)
            if failed:
                raise failed[0]
        except KeyboardInterrupt:
            pass  # the end of a live run: what came so far becomes the file
        except BaseException:
            if left := sink.abandon(keep=not recorded):
                logging.getLogger("srfast").warning("%s", left)
            raise
        finally:
            stop.set()
            reader.interrupt()
            feeding.join(PATIENCE)
        try:
            sink.finish()
        except BaseException:
            sink.abandon(keep=False)
            raise
    name = "the standard output" if target == "-" else target
    print(escaped(f"{name}: {live.statistics}, at most {latency * 1000:.0f} ms each, on {upscaler}"), file=sys.stderr)
    return 0
