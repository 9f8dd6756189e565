"""Times of packets in other units, beside FFmpeg's own rescaling. Integers, no frames."""

from __future__ import annotations

import random
import re
from fractions import Fraction
from pathlib import Path

import av
import pytest

import srfast
from srfast.video.muxer import rescale

UNITS = [
    Fraction(1, 25),
    Fraction(1, 1000),
    Fraction(1001, 30000),
    Fraction(1, 90000),
    Fraction(1, 48000),
    Fraction(1, 3),
]


@pytest.mark.skipif(not hasattr(av.Packet, "rescale_ts"), reason="PyAV before 18 does not offer FFmpeg's function")
@pytest.mark.parametrize("unit", UNITS, ids=str)
def test_times_equal_those_of_ffmpeg(unit: Fraction) -> None:
    numbers = random.Random(0)
    for before in UNITS:
        for _ in range(200):
            pts, dts = (
                numbers.choice((None, numbers.randint(-(10**9), 10**9), numbers.randint(-9, 9))) for _ in range(2)
            )
            duration = numbers.randint(0, 10**6)
            ours, theirs = av.Packet(1), av.Packet(1)
            for packet in (ours, theirs):
                packet.pts, packet.dts, packet.duration, packet.time_base = pts, dts, duration, before
            rescale(ours, unit)
            theirs.rescale_ts(av.AVRational(unit.numerator, unit.denominator))
            assert (ours.pts, ours.dts, ours.duration) == (theirs.pts, theirs.dts, theirs.duration)
            assert ours.time_base == theirs.time_base == unit


def test_nothing_newer_than_the_oldest_pyav_is_used() -> None:
    """PyAV 17.1 is the last for Python 3.10; what came after it must not be taken for granted."""
    later = re.compile(
        r"\.(sw_format|rescale_ts|AVRational|field_order|vpush|supported_options|start_time_realtime)\b|ACCURATE_RND"
    )
    folder = Path(srfast.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        assert not later.search(path.read_text(encoding="utf-8")), path
