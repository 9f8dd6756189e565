"""A record as Markdown tables; every number comes from the record."""

from __future__ import annotations

from statistics import median

from benchmarks.analysis import Ratio, ceiling, disagreements, fastest_others, percentiles, ratios, times
from benchmarks.contenders import OURS_BF16
from benchmarks.record import Quality, Record
from benchmarks.subjects import NETWORKS

FMA = "float32 multiply-adds"
# The ceiling that a network's rate is held to, first that was measured.
RATES = ("float16 matrix product", "bfloat16 matrix product", FMA, "float32 matrix product")
# Columns of the table in docs/performance.md: the size that a device runs in a reasonable time.
HEADLINE = {
    "cpu": ("240x136", "64x64"),
    "gpu": ("480x270", "64x64"),
}


def machine_line(record: Record) -> str:
    """One sentence on the hardware and versions."""
    v = record.versions
    return f"{_where(record)}; PyTorch {v.get('torch')}, Python {v['python']}, commit {record.commits()[-1]}, {record.taken[:10]}"


def _where(record: Record) -> str:
    m, v = record.machine, record.versions
    if m["gpu"]:
        return f"{m['gpu']}, driver {m.get('driver')}, CUDA {v.get('cuda')}, cuDNN {v.get('cudnn')}"
    sets = ", ".join(name for name in m["instruction_sets"] if name.startswith(("avx512", "amx"))) or "AVX2"
    return f"{m['cores']} cores of {m['cpu']} ({sets})"


def quoted(ratio: Ratio) -> str:
    """The median with its spread; a star where two runs do not agree, or only one was taken."""
    return f"{ratio.middle:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" + ("" if ratio.agrees else "\\*")


def rate_ceiling(record: Record) -> tuple[str, float] | None:
    """Name and FLOP/s of the arithmetic ceiling."""
    for name in RATES:
        value = ceiling(record, name)
        if value:
            return name, value
    return None


def comparison(record: Record, suite: str, columns: list[tuple[str, str]]) -> list[str]:
    """Contenders down, (subject, case) across: srfast's time and rate, then how many times as fast it was."""
    taken = times(record, suite)
    columns = [c for c in columns if c in taken]
    if not columns:
        return []
    lines = ["| | " + " | ".join(f"{subject} {case}" for subject, case in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    first = {c: next(iter(taken[c])) for c in columns}
    ours = {c: taken[c][first[c]] for c in columns}
    lines.append("| srfast, ms | " + " | ".join(_milliseconds(median(ours[c])) for c in columns) + " |")
    lines += _rate_row(record, suite, columns, {c: median(ours[c]) for c in columns})
    found = {(r.subject, r.case, r.contender): r for r in ratios(record) if r.suite == suite}
    names = dict.fromkeys(name for c in columns for name in taken[c] if name != first[c])
    for name in names:
        cells = [quoted(found[c[0], c[1], name]) if (c[0], c[1], name) in found else "-" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _rate_row(
    record: Record, suite: str, columns: list[tuple[str, str]], seconds: dict[tuple[str, str], float]
) -> list[str]:
    flop = {(m.subject, m.case): m.facts["flop"] for m in record.measurements if m.suite == suite and "flop" in m.facts}
    limit = rate_ceiling(record)
    if limit is None or not all(c in flop for c in columns):
        return []
    cells = [f"{flop[c] / seconds[c] / 1e9:.0f}, {flop[c] / seconds[c] / limit[1]:.0%}" for c in columns]
    return [f"| srfast, GFLOP/s and share of the {limit[0]} rate | " + " | ".join(cells) + " |"]


def headline(record: Record) -> list[tuple[str, str]]:
    """One size of every network, in the order of the suite, whatever was measured last; others after them."""
    taken = times(record, "network")
    known = [subject.name for subject in NETWORKS]
    subjects = sorted(
        {subject for subject, _ in taken}, key=lambda name: (name not in known, [*known, name].index(name))
    )
    wanted = HEADLINE["gpu" if record.machine["gpu"] else "cpu"]
    found = []
    for subject in subjects:
        sizes = [case for name, case in taken if name == subject]
        found.append((subject, next((case for case in wanted if case in sizes), sizes[-1])))
    return found


def sizes(record: Record) -> list[str]:
    """Every network at every size against the fastest of the others, and in bfloat16 where srfast was measured in that too."""
    taken, found = times(record, "network"), fastest_others(record, "network")
    halves = fastest_others(record, "network", base=OURS_BF16)
    lines: list[str] = []
    for (subject, case), ratio in sorted(found.items(), key=lambda item: (item[0][0], _pixels(item[0][1]))):
        if not lines:
            lines = ["| network, image | srfast, ms | fastest other | srfast is so many times as fast |"]
            lines[0] += " srfast bf16, ms | so many times as fast |" if halves else ""
            lines.append("|---" * (lines[0].count("|") - 1) + "|")
        ours = next(iter(taken[subject, case].values()))
        cells = [f"{subject}, {case}", _milliseconds(median(ours)), ratio.contender, quoted(ratio)]
        if (half := halves.get((subject, case))) is not None:
            cells += [_milliseconds(median(taken[subject, case][OURS_BF16])), quoted(half)]
        elif halves:
            cells += ["-", "-"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _pixels(case: str) -> int:
    width, _, height = case.partition("x")
    return int(width) * int(height)


def overview(records: list[Record]) -> list[str]:
    """Machines across: how many times as fast as the fastest other srfast ran each network, at the headline's size.

    Where that one computes in 16 bits, the fastest that computes in float32 follows in brackets.
    """
    columns = []
    for record in records:
        found, exact = fastest_others(record, "network"), fastest_others(record, "network", half=False)
        columns.append({key: _against(found[key], exact.get(key)) for key in headline(record) if key in found})
    cases = dict.fromkeys(case for column in columns for case in column)
    lines = ["| | " + " | ".join(map(_where, records)) + " |", "|---" * (len(records) + 1) + "|"]
    for subject, case in cases:
        cells = [column.get((subject, case), "-") for column in columns]
        lines.append(f"| {subject}, {case} | " + " | ".join(cells) + " |")
    return lines


def _against(any_other: Ratio, exact: Ratio | None) -> str:
    """How many times as fast, as a cell of the overview."""
    more = f" ({exact.middle:.2f})" if exact and exact.contender != any_other.contender else ""
    return f"{any_other.middle:.2f}{more}"


def videos(record: Record) -> list[str]:
    """Frames per second of every way from file to file, and how many times as fast srfast's first way was."""
    taken = times(record, "video")
    found = {(r.subject, r.case, r.contender): r for r in ratios(record) if r.suite == "video"}
    lines: list[str] = []
    for (subject, case), contenders in taken.items():
        frames = int(case.split(", ")[1].split()[0])
        if not lines:
            lines = [
                "| video, file to file | frames/s | the first way is so many times as fast |",
                "|---|---|---|",
            ]
        for name, samples in contenders.items():
            ratio = found.get((subject, case, name))
            rate = f"{frames / median(samples):.3g}"
            lines.append(f"| {subject}, {case}: {name} | {rate} | {quoted(ratio) if ratio else '1'} |")
    return lines


def growth(record: Record) -> list[str]:
    """Time and memory against what was varied."""
    memory = times(record, "memory")
    lines: list[str] = []
    for (varied, case), contenders in times(record, "growth").items():
        if not lines:
            lines = [
                "| varied | value | contender | ms: 20th, 50th, 80th percentile | most MB |",
                "|---|---|---|---|---|",
            ]
        for name, samples in contenders.items():
            spread = " ".join(f"{1e3 * value:.4g}" for value in percentiles(samples))
            peak = max(memory[varied, case][name]) / 1e6
            lines.append(f"| {varied} | {case} | {name} | {spread} | {peak:.0f} |")
    return lines


def startup(record: Record) -> list[str]:
    """Start of Python to the first image."""
    taken, memory = times(record, "startup"), times(record, "memory")
    if not taken:
        return []
    lines = ["| from the start of Python to the first image | s | most memory of the process, MB |", "|---|---|---|"]
    for (subject, case), contenders in taken.items():
        for name, samples in contenders.items():
            peak = max(memory[f"whole process, {name}", case][name]) / 1e6
            lines.append(f"| {subject.removeprefix('first image, ')} | {median(samples):.1f} | {peak:.0f} |")
    return lines


def quality(record: Record) -> list[str]:
    """PSNR-Y and SSIM-Y by model, data set and precision mode."""
    sets = list(dict.fromkeys(q.data for q in record.quality))
    if not sets:
        return []
    lines = ["| PSNR-Y, dB / SSIM-Y | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for q in record.quality:
        rows.setdefault((q.model, q.mode), {})[q.data] = f"{q.psnr:.2f} / {q.ssim:.4f}"
    for (model, mode), cells in rows.items():
        lines.append(f"| {model}, {mode} | " + " | ".join(cells.get(name, "-") for name in sets) + " |")
    return lines


def quality_summary(record: Record) -> list[str]:
    """One row a model: eager float32 over bicubic interpolation; then what each of srfast's precisions changes."""
    sets = list(dict.fromkeys(q.data for q in record.quality))
    by_mode: dict[str, dict[tuple[str, str], Quality]] = {}
    for q in record.quality:
        by_mode.setdefault(q.mode, {})[q.model, q.data] = q
    eager, bicubic = by_mode.pop("eager fp32", {}), by_mode.pop("bicubic", {})
    if not eager:
        return []
    lines = ["| PSNR-Y, dB / SSIM-Y (bicubic) | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    for model in dict.fromkeys(model for model, _ in eager):
        cells = []
        for name in sets:
            found, plain = eager.get((model, name)), bicubic.get((model, name))
            text = f"{found.psnr:.2f} / {found.ssim:.4f}" if found else "-"
            cells.append(text + (f" ({plain.psnr:.2f})" if plain else ""))
        lines.append(f"| {model} | " + " | ".join(cells) + " |")
    for mode, by_key in by_mode.items():
        changes = {
            name: [abs(q.psnr - eager[key].psnr) for key, q in by_key.items() if key[1] == name and key in eager]
            for name in sets
        }
        cells = [f"{max(values):.3f} dB" if values else "-" for values in changes.values()]
        lines.append(f"| {mode}: furthest of all from eager fp32 | " + " | ".join(cells) + " |")
    return lines


def ceilings(record: Record) -> str:
    """The measured limits in one sentence."""
    names = dict.fromkeys(c.name for c in record.ceilings)
    parts = []
    for name in names:
        unit = next(c.unit for c in record.ceilings if c.name == name)
        parts.append(f"{name} {(ceiling(record, name) or 0) / 1e9:.4g} G{unit}")
    return "Measured beside it: " + ", ".join(parts) + "." if parts else ""


def repeatability(record: Record) -> str:
    """Whether two runs agree, in one sentence."""
    twice, agree, _ = disagreements(record)
    if not twice:
        return "Only one run was taken (\\*): repeatability is not shown."
    rest = "" if agree == twice else "; those marked \\* do not"
    loads = [m.facts["other_load"] for m in record.measurements if "other_load" in m.facts]
    disturbed = f" Other processes took {100 * median(loads):.2g}% of the CPU meanwhile." if loads else ""
    return f"Two runs agree within 5% on {agree} of {twice} ratios{rest}.{disturbed}"


def missing(record: Record) -> list[str]:
    """Contenders that could not run, by reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in record.missing.items():
        by_reason.setdefault(reason, []).append(name)
    return [f"- {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
