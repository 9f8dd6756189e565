"""The frame rate of a video, as its own time stamps show it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from srfast.video.timeline import Bare

# Codecs in which a packet without data means: the last frame again.
REPEATING = ("theora",)
_SAMPLE = 240  # packets whose times are looked at
_DECODED = 64  # frames that are, where packets have no times
_FASTEST = 1000  # frames per second: more is the rate of a clock
_SECONDS = 0.5  # and how long that may take
_FEW = 3  # units of time, in which a multiple cannot be told from any other step
_LEAST_FILM = 8  # steps from frame to frame
_SHOWN = 60  # fields a second
_STEADY = 0.8  # the share of steps that are alike in a steady video: others may be gaps
_USUAL = tuple(
    Fraction(rate)
    for rate in (
        "24000/1001",
        "24",
        "25",
        "30000/1001",
        "30",
        "48",
        "50",
        "60000/1001",
        "60",
        "100",
        "120000/1001",
        "120",
    )
)


def sample_times(container: Any, stream: Any) -> tuple[list[int], bool]:
    """Times of the first packets of a newly opened container's stream, in its units, as they are shown.

    Packets that an edit list hides are left out. A stream without a container has the times that its frames' lengths make. The
    second value is True where these are all.
    """
    if container.format.name in Bare.FORMATS:
        # In the order of decoding, the durations of packets are not yet those from frame to frame.
        frames = itertools.islice(container.decode(stream), _DECODED + 1)
        bare = list(itertools.accumulate((int(frame.duration or 0) for frame in frames), initial=0))[:-1]
        return (sorted(set(bare[:_DECODED])), len(bare) <= _DECODED) if len(set(bare)) == len(bare) else ([], False)
    times, ends, avi = [], time.monotonic() + _SECONDS, container.format.name == "avi"
    repeats = stream.codec_context.name in REPEATING  # an empty packet is a frame, too
    for packet in container.demux(stream):
        stamp = packet.dts if packet.pts is None or avi else packet.pts
        if stamp is not None and (packet.size or repeats) and not packet.is_discard:
            times.append(stamp)
        if len(times) >= _SAMPLE or time.monotonic() > ends:
            break
    else:
        return sorted(set(times)), True
    # The last ones may still miss a frame between them that is coded later.
    return sorted(set(times))[:-16], False


def frame_rate(
    told: Sequence[Fraction | None], times: Sequence[int], base: Fraction, whole: bool = False
) -> Fraction | None:
    """Frames per second.

    Args:
        told: what the container, the codec and FFmpeg say, the most trusted first.
        times: sorted, of frames that follow each other, in units of ``base``.
        base: seconds.
        whole: these are all the frames there are.

    Returns:
        The first of ``told`` that agrees with the times; else a usual rate that does; else the mean of the times. Where the
        steps are uneven, the first of ``told`` unless it is above all that the times show. None if nothing is known.
    """
    rates = [rate for rate in told if rate]
    steps = [b - a for a, b in itertools.pairwise(times) if b > a]
    if len(steps) < 2:
        if steps:
            return _agreeing(rates, Fraction(steps[0]), 1, base)
        return next((rate for rate in rates if rate <= _FASTEST), None)
    if film := pulldown(times, base):
        shown = [
            rate * share for share in (Fraction(4, 5), Fraction(2, 5)) for rate in rates
        ]  # of frames, or of fields
        return _agreeing(shown, film, len(steps), base)
    # The median, because a few gaps, each many steps long, would move the mean.
    usual = statistics.median(steps)
    near = [step for step in steps if abs(step - usual) <= max(1, usual / 20)]
    if len(near) >= _STEADY * len(steps):
        return _agreeing(rates, Fraction(sum(near), len(near)), len(near), base)
    unit = 1 / (rates[0] * base) if rates else Fraction(0)
    # The told rate, some of whose frames are shown for longer; in few units of time every step would look like that.
    if unit >= _FEW and abs(unit - min(steps)) <= 1 and all(_is_multiple(step, unit) for step in steps):
        return rates[0]
    mean = Fraction(len(steps), sum(steps)) / base
    if rates and rates[0] * base * min(steps) <= 1 and not (whole and abs(rates[0] - mean) > mean / 10):
        return rates[0]
    return mean.limit_denominator(1001)


def mean_rate(rate: Fraction, times: Sequence[int], base: Fraction) -> Fraction:
    """Frames per second on the average, which are fewer than ``rate`` where some are shown for longer.

    Args:
        rate: as ``frame_rate`` gives it.
        times: sorted, of frames that follow each other, in units of ``base``.
        base: seconds.
    """
    if len(times) <= _LEAST_FILM:
        return rate
    mean = Fraction(len(times) - 1, times[-1] - times[0]) / base
    return mean if abs(mean - rate) > rate / 20 else rate


def pulldown(times: Sequence[int], base: Fraction) -> Fraction | None:
    """Units of ``base`` from frame to frame of film that is shown by 60 fields a second; None where it is not.

    Its frames are shown for three and for two fields in turn (3:2 pulldown): flags of the video tell the player to repeat one.
    """
    steps = [b - a for a, b in itertools.pairwise(times) if b > a]
    if len(steps) < _LEAST_FILM:
        return None
    # Two frames are shown for five fields.
    field = Fraction(2 * sum(steps), 5 * len(steps))
    fields = [round(step / field) for step in steps]
    if set(fields) != {2, 3}:
        return None
    field = Fraction(sum(steps), sum(fields))
    if field < _FEW or any(abs(s - n * field) > 1 + field / 20 for s, n in zip(steps, fields, strict=True)):
        return None
    # Three and two in turn, but for cuts, where the order begins anew.
    turns = sum(a != b for a, b in itertools.pairwise(fields))
    is_film = abs(_SHOWN * base * field - 1) < Fraction(1, 100)
    return field * 5 / 2 if is_film and turns >= _STEADY * (len(steps) - 1) else None


def _is_multiple(step: int, unit: Fraction) -> bool:
    """Whether a step is a whole number of units, but for the rounding of both its ends."""
    return abs(step - max(1, round(step / unit)) * unit) <= 1


def _agreeing(rates: Sequence[Fraction], step: Fraction, count: int, base: Fraction) -> Fraction:
    """The first rate whose step is this one, but for the rounding of ``count`` of them to whole units of ``base``."""
    # Each end is rounded to a unit, so their mean is off by at most one of them divided by the steps; and clocks drift.
    error = Fraction(1, count) + step / 2000

    def off(rate: Fraction) -> Fraction:
        return abs(1 / (rate * base) - step)

    told = (*(rate for rate in rates if rate in _USUAL), *rates)
    longer = (rate / times for times in (2, 3, 4) for rate in rates if rate in _USUAL)  # each frame shown several times
    for rate in (*told, *sorted(_USUAL, key=off), *longer):
        if off(rate) <= error:
            return rate
    return (1 / (step * base)).limit_denominator(1001)


def even_rate(rate: Fraction | None, times: Sequence[int], base: Fraction) -> Fraction | None:
    """The rate for a container without times, whose frames take places: one in which each frame has the place of its time.

    Args:
        rate: that of the frames.
        times: sorted, of the first frames, in units of ``base``.
        base: seconds.

    Returns:
        ``rate`` where it has the places; else the lowest usual rate that has them, or the fastest.
    """
    if rate is None or len(times) < 3:
        return rate
    for one in (rate, *(usual for usual in _USUAL if usual >= rate)):
        places = [(time - times[0]) * base * one for time in times]
        near = all(abs(place - round(place)) <= max(Fraction(1, 8), base * one) for place in places)
        if near and len({round(place) for place in places}) == len(places):
            return one
    return max(rate, _USUAL[-1])
