"""Where a video is cut: at key frames of its container, found by its packets, without decoding."""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from srfast.cluster.plan import Segment
from srfast.video.reader import VideoReader

# Codecs whose key frames are all that a decoder needs to begin. Others may lean on any frame before.
_CUT = (
    *("h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv1", "vc1", "wmv3"),
    *("prores", "dnxhd", "cfhd", "ffv1", "ffvhuff", "huffyuv", "utvideo", "magicyuv", "mjpeg", "jpeg2000", "png"),
    *("rawvideo", "v210", "dvvideo"),
)
_BEFORE = 2  # key frames before a part from which it is read: after a gradual refresh one is not enough


@dataclass(frozen=True)
class Packets:
    """The video's packets in the order of the file: times in units of the stream.

    Attributes:
        shown: presentation times of those that are shown, sorted.
        keys: decoding and presentation time of each key frame.
        trouble: why the times do not tell where to cut, None if they do.
    """

    shown: list[int]
    keys: list[tuple[int, int]]
    trouble: str | None


def cut(reader: VideoReader, seconds: float) -> tuple[list[Segment], str | None]:
    """Find the segments of a video, and say why it is one where it cannot be cut.

    Args:
        reader: of the video.
        seconds: the least length of a segment.
    """
    trouble = _not_cut(reader)
    packets = None if trouble else reader.look(_packets)
    if trouble is None:
        trouble = packets.trouble if packets else "it cannot be read twice"
    if packets is None or trouble:
        return [Segment(None, None, None, reader.expected_frames)], trouble
    base, reach = reader.time_base, reader.range
    shown = [pts for pts in packets.shown if reach.holds(pts * base)]  # type: ignore[arg-type]
    return _segments(shown, packets.keys, Fraction(seconds).limit_denominator(1000) / base), None


def _not_cut(reader: VideoReader) -> str | None:
    """What of the input as a whole forbids to cut it."""
    codec, container = reader.stream.codec_context.name, reader.container.format.name
    if reader.deinterlaces:
        return "fields are made frames from those around them"
    if container in ("avi", "image2", "gif", "apng", "webp_pipe") or codec not in _CUT:
        return f"the times or key frames of {codec} in {container} follow from all frames before"
    return None


def _packets(container: Any, stream: Any) -> Packets:
    shown, keys, last, trouble = [], [], None, None
    for packet in container.demux(stream):
        if not packet.size:
            continue
        if packet.pts is None:
            trouble = "packets without times"
            break
        if packet.dts is not None:  # Matroska has none at first
            if last is not None and packet.dts < last:
                trouble = "times that go back"
                break
            last = packet.dts
        if packet.is_keyframe:
            keys.append((packet.pts if packet.dts is None else packet.dts, packet.pts))
        if not packet.is_discard:
            shown.append(packet.pts)
    shown.sort()
    if trouble is None and any(a == b for a, b in itertools.pairwise(shown)):
        trouble = "two frames at one time"
    return Packets(shown, keys, trouble)


def _segments(shown: list[int], keys: list[tuple[int, int]], least: Fraction) -> list[Segment]:
    """Cuts before key frames, each segment at least ``least`` units long; what is left at the end joins the last one."""
    if not shown:
        return [Segment(None, None, None, 0)]
    cuts: list[int] = []  # numbers of key frames
    begin, end = shown[0], shown[-1]
    for number, (_, pts) in enumerate(keys):
        if pts - begin >= least and end - pts >= least:
            cuts.append(number)
            begin = pts
    bounds = [None, *(keys[number][1] for number in cuts), None]
    starts = [None, *(_start(keys, number) for number in cuts)]
    places = [0, *(bisect.bisect_left(shown, keys[number][1]) for number in cuts), len(shown)]
    return [Segment(bounds[k], bounds[k + 1], starts[k], places[k + 1] - places[k]) for k in range(len(starts))]


def _start(keys: list[tuple[int, int]], number: int) -> int | None:
    """The decoding time to read from for the segment that begins with a key frame; None is the file's beginning."""
    # Two key frames before the first ones lies the beginning of the file.
    return keys[number - _BEFORE][0] if number > _BEFORE else None
