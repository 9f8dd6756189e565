"""The times of an input that jump, or that its container does not tell: made to rise before anything is decoded."""

from __future__ import annotations

import heapq
import logging
from fractions import Fraction
from typing import Any

_log = logging.getLogger("srfast")
# Containers that are made to be cut and joined, so that their times may start anew: FFmpeg's AVFMT_TS_DISCONT.
_JOINED = ("mpegts", "mpeg", "flv", "live_flv", "ogg", "concat", "hls", "asf")
# Seconds by which an audio packet may lie before the place where the new times continue.
_OVERLAP = Fraction(1)
_ZERO = Fraction(0)
_LEAP = Fraction(3600)  # seconds: another recording, and more than some containers can leave between two packets


def clock_start(container: Any) -> Fraction:
    """Seconds at which the clock of a broadcast, a disc or a live stream begins: anywhere, so its times count from there."""
    joined = any(name in _JOINED for name in container.format.name.split(","))
    return Fraction(max(0, container.start_time or 0), 1_000_000) if joined else Fraction(0)


class Timeline:
    """Moves the packets after a jump to where the packets before it ended, alike in all streams.

    A file whose bytes repeat after damage, or that was joined from two recordings, goes on with the time of its start. Each
    jump adds an offset. A stream takes it up where its own times jump, as streams do not jump at the same byte.

    Args:
        container: by FFmpeg's name; in formats that cannot be joined nothing is moved.
        label: of the input, for what is said.
        start: seconds that are taken from all times.

    Attributes:
        jumps: how many there were.
    """

    def __init__(self, container: str, label: str, start: Fraction = _ZERO) -> None:
        self.jumps = 0
        self._label = label
        self._active = any(name in _JOINED for name in container.split(","))
        self._offsets = [-start]
        self._epoch: dict[int, int] = {}  # by stream: which offset it is at
        self._ends: dict[int, Fraction] = {}  # by stream: where the next packet is expected, in seconds
        self._shown: dict[int, Fraction] = {}  # and how long the last one is

    def move(self, packet: Any) -> bool:
        """Shifts the packet's times; True where it is the first after a jump."""
        if not self._active:
            return False
        if packet.dts is None:
            self._shift(packet, self._offsets[self._epoch.get(packet.stream.index, 0)])
            return False
        stream, base = packet.stream, packet.time_base
        if stream.type not in ("video", "audio"):
            # Too few packets to tell a jump by: they go with the sound and the pictures around them.
            self._shift(packet, self._offsets[max(self._epoch.values(), default=0)])
            return False
        index = stream.index
        time, jumped = packet.dts * base, False
        epoch = self._epoch.setdefault(index, 0)
        end = self._ends.get(index)
        moved = time + self._offsets[epoch]
        # Forward only a leap of an hour is a jump: a shorter one may be a pause, which the output keeps.
        if end is not None and not end - self._tolerance(index, packet) <= moved <= end + _LEAP:
            epoch, jumped = self._next(epoch, time, end, "jump back" if moved < end else "leap ahead")
            self._epoch[index] = epoch
        self._shift(packet, self._offsets[epoch])
        self._shown[index] = Fraction(packet.duration or 0) * base
        self._ends[index] = packet.dts * base + self._shown[index]
        return jumped

    def _tolerance(self, index: int, packet: Any) -> Fraction:
        """Less than a packet's length is no jump but rounding, or one that is decoded before it is shown for longer."""
        own = Fraction(packet.duration or 0) * packet.time_base
        return Fraction(max(own, self._shown.get(index, own), Fraction(1, 1000)))

    def _next(self, epoch: int, time: Fraction, end: Fraction, how: str) -> tuple[int, bool]:
        """The offset that continues at ``end``: one that another stream has found already, or a new one."""
        for later in range(epoch + 1, len(self._offsets)):
            if end - _OVERLAP <= time + self._offsets[later] <= end + _LEAP:
                return later, False
        # No stream should go back: the one that ends last tells where all go on.
        end = max(end, *(other for other in self._ends.values() if other < end + _OVERLAP))
        self._offsets.append(end - time)
        self.jumps += 1
        if self.jumps == 1:
            _log.warning("%s: its times %s at %.3f s; what follows is put behind that", self._label, how, float(end))
        return len(self._offsets) - 1, True

    @staticmethod
    def _shift(packet: Any, offset: Fraction) -> None:
        if not offset:
            return
        ticks = round(offset / packet.time_base)
        if packet.dts is not None:
            packet.dts += ticks
        if packet.pts is not None:
            packet.pts += ticks


class HiddenSound:
    """Tells the packets of a sound that an edit list hides, less those that its decoder needs to get going."""

    _RUN_UP = Fraction(1, 10)  # seconds

    def __init__(self) -> None:
        self._last: dict[int, int | None] = {}

    def __call__(self, packet: Any) -> bool:
        """True for one that is to be left out."""
        if packet.stream.type != "audio" or packet.pts is None:
            return False
        again = packet.is_discard and self._last.get(packet.stream.index) == packet.pts  # all behind the edit: one time
        self._last[packet.stream.index] = packet.pts
        # Only an edit list makes times negative.
        return bool(again or (packet.pts + (packet.duration or 0)) * packet.time_base < -self._RUN_UP)


class Bare:
    """Presentation times of a stream without a container (H.264, HEVC): each frame for as long as its flags ask.

    They may ask a player to show one for three fields, or two or three times over (pic_struct); parsers make durations of that.

    Args:
        step: units of the time base for each frame, where a rate is given that counts; None for what the frames say.
        usual: for a frame that says nothing.
    """

    # Formats by FFmpeg's name, whose demuxers give no times.
    FORMATS = ("h264", "hevc", "vvc")

    def __init__(self, step: Fraction | None, usual: Fraction) -> None:
        self._step, self._usual = step, usual
        self._clock = _ZERO

    def frame(self, duration: int | None) -> int:
        """The time of the next frame, which says that it is shown for ``duration`` units."""
        time = round(self._clock)
        self._clock += self._step or duration or self._usual
        return time


class Slots:
    """Presentation times in a container that has none (AVI): frame by frame, the places of its packets.

    AVI numbers its packets in decoding order and shows frame after frame, so the n-th frame shows at the n-th place
    whatever the order in which B-frames are coded; an empty place shows the frame before it for longer.
    """

    def __init__(self) -> None:
        self._free: list[int] = []

    def packet(self, place: int | None) -> None:
        """A packet that holds a frame goes to the decoder."""
        if place is not None:
            heapq.heappush(self._free, place)

    def failed(self, place: int | None) -> None:
        """It could not be decoded: no frame will take its place."""
        if place in self._free:
            self._free.remove(place)
            heapq.heapify(self._free)

    def frame(self, otherwise: int | None) -> int | None:
        """The time of the next frame."""
        return heapq.heappop(self._free) if self._free else otherwise
