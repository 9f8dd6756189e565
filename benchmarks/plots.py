"""Plots of a record: what each technique gains, the roofline, and throughput against size."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.analysis import ceiling, times
from benchmarks.contenders import OURS
from benchmarks.record import Record
from benchmarks.tables import rate_ceiling

mpl.use("agg")
BLUE, GREY = "#1f5fa8", "#9a9a9a"


def draw(record: Record, folder: Path, device: str) -> None:
    """Writes ``<device>-<kind>.png`` for each kind that the record has data for."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, plot in (("waterfall", waterfall), ("roofline", roofline), ("size", throughput)):
        figure = Figure(figsize=(7.5, 3.6), layout="constrained")
        axes: Axes = figure.add_subplot()
        if plot(record, axes):
            axes.spines[["top", "right"]].set_visible(False)
            figure.savefig(folder / f"{device}-{kind}.png", dpi=110, metadata={"Software": None})


def waterfall(record: Record, axes: Axes) -> bool:
    """Speed against eager float32, one technique more in each bar."""
    for (subject, case), contenders in times(record, "waterfall").items():
        slowest_first = list(contenders.items())[1:][::-1] + list(contenders.items())[:1]
        names = [name for name, _ in slowest_first]
        base = median(slowest_first[0][1])
        gains = [base / median(samples) for _, samples in slowest_first]
        axes.barh(names[::-1], gains[::-1], color=[BLUE] * (len(names) - 1) + [GREY])
        axes.bar_label(axes.containers[0], fmt="%.2f", padding=3)  # type: ignore[arg-type]
        axes.set_xlabel("times as fast as eager float32 NCHW")
        axes.set_title(f"{subject}, {case}: one technique more in each bar", fontsize=10)
        return True
    return False


def roofline(record: Record, axes: Axes) -> bool:
    """Operations and networks under the measured ceilings."""
    limit, copy = rate_ceiling(record), ceiling(record, "copy")
    points = {
        (m.subject, m.case): m
        for m in record.measurements
        if m.suite in ("operation", "network") and m.contender == OURS and m.run == 1
    }
    if limit is None or copy is None or not points:
        return False
    intensities = [m.facts["flop"] / m.facts["bytes"] for m in points.values()]
    low, high = min(*intensities, limit[1] / copy) / 2, max(*intensities, limit[1] / copy) * 2
    axes.plot([low, limit[1] / copy, high], [low * copy / 1e9, limit[1] / 1e9, limit[1] / 1e9], color="black", lw=1)
    axes.annotate(f"{limit[0]}, measured", (high, limit[1] / 1e9), ha="right", va="bottom", fontsize=8)
    for suite, colour, mark in (("operation", GREY, "o"), ("network", BLUE, "s")):
        chosen = [m for m in points.values() if m.suite == suite]
        x = [m.facts["flop"] / m.facts["bytes"] for m in chosen]
        y = [m.facts["flop"] / median(m.samples) / 1e9 for m in chosen]
        axes.scatter(x, y, c=colour, marker=mark, label=f"{suite}s", s=24)
    axes.set(
        xscale="log", yscale="log", xlabel="FLOP per byte, each fused operation through memory once", ylabel="GFLOP/s"
    )
    axes.set_title("srfast, operations of the network as written (Winograd needs fewer)", fontsize=10)
    axes.legend(fontsize=8)
    return True


def throughput(record: Record, axes: Axes) -> bool:
    """Megapixels of input per second against pixels of input."""
    drawn = False
    for varied, colour in (("pixels", BLUE), ("pixels, eager", GREY)):
        found = {
            int(case): contenders for (name, case), contenders in times(record, "growth").items() if name == varied
        }
        for name in dict.fromkeys(n for contenders in found.values() for n in contenders):
            sizes = sorted(size for size, contenders in found.items() if name in contenders)
            rates = [size / median(found[size][name]) / 1e6 for size in sizes]
            axes.plot(sizes, rates, "o-", color=colour, label=name, ms=4)
            drawn = True
    axes.set(xscale="log", xlabel="pixels of the input", ylabel="input megapixels per second", ylim=(0, None))
    axes.set_title("Compact x2 on square images", fontsize=10)
    if drawn:
        axes.legend(fontsize=8)
    return drawn
