"""What records say: ratios with their spread, whether two runs agree, and what became slower since the last record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.record import Measurement, Record

# Two runs, or two records, whose ratios are further apart than this do not agree.
AGREE = 0.05
_OURS = re.compile(r"srfast\b")
_HALF = re.compile(r"\b(bf16|fp16)\b")
_LEFT_OUT = re.compile(r"left out at this size: ([\d.]+) s ")  # as benchmarks.session writes it
# Suites whose contenders took turns, so that ratios mean something.
PAIRED = ("operation", "network", "frame", "video", "waterfall")


def percentiles(samples: list[float]) -> tuple[float, float, float]:
    """20th, 50th and 80th percentile."""
    if len(samples) == 1:
        return samples[0], samples[0], samples[0]
    fifths = quantiles(samples, n=5, method="inclusive")
    return fifths[0], median(samples), fifths[3]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as a contender srfast was.

    Attributes:
        low, middle, high: 20th, 50th and 80th percentile over the rounds of all runs; contender and srfast of one round.
        runs: the median of each run.
    """

    suite: str
    subject: str
    case: str
    contender: str
    low: float
    middle: float
    high: float
    runs: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.suite}: {self.subject}, {self.case}, {self.contender}"

    @property
    def agrees(self) -> bool:
        """Whether the runs are within ``AGREE`` of each other; one run alone agrees with nothing."""
        return len(self.runs) > 1 and max(self.runs) <= (1 + AGREE) * min(self.runs)


def ratios(record: Record, base: str | None = None) -> list[Ratio]:
    """Of all paired groups, each contender against the group's first, or against ``base`` where that took part."""
    groups: dict[tuple[str, str, str, int], list[Measurement]] = {}
    for measurement in record.measurements:
        if measurement.suite in PAIRED:
            groups.setdefault(measurement.key, []).append(measurement)
    taken: dict[tuple[str, str, str, str], list[list[float]]] = {}
    for (suite, subject, case, _), (first, *rest) in sorted(groups.items(), key=lambda item: item[0][3]):
        ours = first if base is None else next((m for m in rest if m.contender == base), None)
        if ours is None:
            continue
        for other in (m for m in (first, *rest) if m is not ours):
            each = [b / a for a, b in zip(ours.samples, other.samples, strict=True)]
            taken.setdefault((suite, subject, case, other.contender), []).append(each)
    found = []
    for key, runs in taken.items():
        low, middle, high = percentiles([value for run in runs for value in run])
        found.append(Ratio(*key, low, middle, high, tuple(median(run) for run in runs)))
    return found


def computes_in_half(contender: str) -> bool:
    """Whether its name says that it computes in 16 bits.

    Examples:
        >>> computes_in_half("eager bf16 NCHW"), computes_in_half("ncnn fp32")
        (True, False)
    """
    return _HALF.search(contender) is not None


def fastest_others(
    record: Record, suite: str, *, half: bool = True, base: str | None = None
) -> dict[tuple[str, str], Ratio]:
    """(subject, case) -> srfast against the fastest of the others; without ``half``, of those that compute in float32.

    ``base`` is another contender of srfast's than the first.

    Cases are left out in which a contender was faster in its trial than any that was measured, but too slow to take part.
    """
    taken, ours = times(record, suite), _OURS.match
    found: dict[tuple[str, str], Ratio] = {}
    for ratio in ratios(record, base):
        key = ratio.subject, ratio.case
        if (
            ratio.suite == suite
            and not ours(ratio.contender)
            and (half or not computes_in_half(ratio.contender))
            and (key not in found or ratio.middle < found[key].middle)
        ):
            found[key] = ratio
    trials: dict[str, float] = {}
    for label, reason in record.missing.items():
        left_out = _LEFT_OUT.match(reason)
        if left_out:
            case = label.rpartition(" (")[2].rstrip(")")
            trials[case] = min(float(left_out[1]), trials.get(case, float("inf")))
    return {
        (subject, case): ratio
        for (subject, case), ratio in found.items()
        if median(taken[subject, case][ratio.contender]) <= trials.get(f"{subject}, {case}", float("inf"))
    }


def times(record: Record, suite: str) -> dict[tuple[str, str], dict[str, list[float]]]:
    """(subject, case) -> contender -> samples in seconds of all runs."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for m in record.measurements:
        if m.suite == suite:
            found.setdefault((m.subject, m.case), {}).setdefault(m.contender, []).extend(m.samples)
    return found


def ceiling(record: Record, name: str) -> float | None:
    """The median of a ceiling over all runs, if it was measured."""
    samples = [value for c in record.ceilings if c.name == name for value in c.samples]
    return median(samples) if samples else None


def regressions(new: Record, old: Record) -> list[str]:
    """Ratios that fell by more than ``AGREE`` since an older record of the same machine, as sentences.

    Raises:
        ValueError: the records are of different machines.
    """
    if new.machine != old.machine:
        raise ValueError(f"records of different machines cannot be compared: {new.machine} and {old.machine}")
    before = {ratio.name: ratio.middle for ratio in ratios(old)}
    found = []
    for ratio in ratios(new):
        earlier = before.get(ratio.name)
        if earlier is not None and ratio.middle < (1 - AGREE) * earlier:
            found.append(
                f"{ratio.name}: {ratio.middle:.2f} times as fast, was {earlier:.2f} ({ratio.middle / earlier - 1:+.0%})"
            )
    return found


def disagreements(record: Record) -> tuple[int, int, list[str]]:
    """How many ratios have two runs, how many of them agree, and the others as sentences."""
    twice = [ratio for ratio in ratios(record) if len(ratio.runs) > 1]
    apart = [ratio for ratio in twice if not ratio.agrees]
    lines = [f"{r.name}: " + " and ".join(f"{value:.2f}" for value in r.runs) for r in apart]
    return len(twice), len(twice) - len(apart), lines
