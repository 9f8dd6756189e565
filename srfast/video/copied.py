"""Streams that are copied: what containers ask of them that their old one did not."""

from __future__ import annotations

from typing import Any

# FFmpeg's usual layouts by the number of channels.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}

_MOST = 32  # packets that wait for a decoding time: twice as many as frames may be coded out of order


def name_layout(context: Any) -> None:
    """Gives a sound that has only a number of channels (PCM in AVI and Matroska) the layout that players take it for.

    MP4 refuses it otherwise, and only in its trailer.
    """
    layout = context.layout
    if layout.name.endswith(" channels") and (usual := _LAYOUTS.get(layout.nb_channels)):
        context.layout = usual


class CopiedTimes:
    """Makes the times of a stream's packets such as every container takes them: decoding times rise, none is after its
    presentation.

    Args:
        kind: of the stream, by FFmpeg's name; 'cover' for a picture.
        loose: the container lets two packets have one decoding time.

    Attributes:
        moved: packets whose times went back behind those before them.
    """

    def __init__(self, kind: str, loose: bool) -> None:
        self.moved = 0
        self._step = 0 if loose or kind not in ("audio", "video") else 1
        self._last: int | None = None
        self._length = 0
        self._video = kind == "video"
        self._held: list[Any] = []

    def __call__(self, packet: Any) -> list[Any]:
        """Take a packet with its times in units of the output's stream; return those that can be written.

        Matroska tells no decoding times, and FFmpeg finds none for the first packets of a video whose frames are coded out
        of their order: these wait for the first that has one.
        """
        early = self._video and self._last is None and packet.dts is None and packet.pts is not None
        if early and len(self._held) < _MOST:
            self._held.append(packet)
            return []
        ready = self._released(packet.dts if packet.dts is not None else packet.pts)
        return [*ready, self._settled(packet)]

    def rest(self) -> list[Any]:
        """Return the packets that still wait, at the end of the stream."""
        return self._released(None)

    def _released(self, following: int | None) -> list[Any]:
        held, self._held = self._held, []
        order = sorted(packet.pts for packet in held)
        # In the order of presentation, early enough for each, and all before the packet that follows.
        late = [time - packet.pts for time, packet in zip(order, held, strict=True)]
        if held and following is not None:
            late.append(order[-1] + max(1, int(held[-1].duration or 0)) - following)
        for time, packet in zip(order, held, strict=True):
            packet.dts = time - max(0, *late)
        return [self._settled(packet) for packet in held]

    def _settled(self, packet: Any) -> Any:
        dts = packet.dts if packet.dts is not None or (self._video and self._last is not None) else packet.pts
        if self._last is not None:
            least = self._last + self._step
            self.moved += dts is not None and dts < self._last
            dts = self._last + max(self._length, self._step) if dts is None else max(dts, least)
            if packet.dts is None and packet.pts is not None:
                dts = max(least, min(dts, packet.pts))
        packet.dts = dts or 0
        # A packet cannot be shown before it is decoded; muxers end a run that asks for it.
        if packet.pts is None or packet.pts < packet.dts:
            packet.pts = packet.dts
        self._last, self._length = packet.dts, int(packet.duration or 0)
        return packet
