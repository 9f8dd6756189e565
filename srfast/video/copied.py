"""Streams that are copied: what containers ask of them that their old one did not."""

from __future__ import annotations

from typing import Any

# FFmpeg's usual layouts by the number of channels.
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


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
        kind: of the stream, by FFmpeg's name.
        loose: the container lets two packets have one decoding time.

    Attributes:
        moved: packets whose times went back behind those before them.
    """

    def __init__(self, kind: str, loose: bool) -> None:
        self.moved = 0
        self._step = 0 if loose or kind not in ("audio", "video") else 1
        self._last: int | None = None
        self._length = 0

    def settle(self, packet: Any) -> None:
        """Moves its times, given in units of the output's stream, where they must be."""
        dts = packet.dts if packet.dts is not None else packet.pts
        if self._last is not None:
            least = self._last + self._step
            self.moved += dts is not None and dts < self._last
            dts = self._last + max(self._length, self._step) if dts is None else max(dts, least)
        packet.dts = dts or 0
        if packet.pts is None or packet.pts < packet.dts:
            packet.pts = packet.dts
        self._last, self._length = packet.dts, int(packet.duration or 0)
