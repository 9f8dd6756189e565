"""Writes the table of OpenModelDB's shares into ``docs/models.md``, from counts of its files by architecture."""

from __future__ import annotations

from pathlib import Path

from section import replaced

PAGE = Path(__file__).parent / "models.md"
BEGIN, END = "<!-- shares: python docs/make_shares.py -->\n", "<!-- end of shares -->\n"
SINCE = (0, 2023, 2024, 2025)
# Files of github.com/OpenModelDB/open-model-database at commit 782aac0 (14 August 2026), by their "architecture": of all times,
# and of those whose "date" is of 2023, 2024, 2025 or later.
COUNTS: dict[str, tuple[int, int, int, int]] = {
    "esrgan": (368, 48, 23, 7),
    "compact": (85, 61, 24, 7),
    "span": (34, 34, 18, 4),
    "dat": (34, 34, 14, 2),
    "swinir": (22, 7, 3, 0),
    "omnisr": (20, 20, 6, 5),
    "realplksr": (17, 17, 17, 3),
    "srformer": (9, 7, 0, 0),
    "sofvsr": (9, 0, 0, 0),
    "hat": (7, 7, 1, 1),
    "rgt": (7, 7, 7, 0),
    "drct": (6, 6, 6, 0),
    "mosr": (5, 5, 5, 0),
    "atd": (5, 5, 5, 0),
    "rcan": (4, 4, 4, 3),
    "real-cugan": (4, 4, 2, 1),
    "cain": (4, 0, 0, 0),
    "realplksr-dysample": (4, 4, 4, 0),
    "spsr": (3, 0, 0, 0),
    "cugan": (3, 3, 2, 2),
    "tscunet": (3, 3, 3, 3),
    "esrgan+": (3, 0, 0, 0),
    "ludvae": (2, 2, 1, 0),
    "ditn": (2, 2, 0, 0),
    "swift-srgan": (2, 0, 0, 0),
    "grl": (2, 2, 1, 0),
    "edsr": (1, 1, 0, 0),
    "sr-res-net": (1, 0, 0, 0),
    "cain-yuv": (1, 0, 0, 0),
    "rife": (1, 0, 0, 0),
    "craft": (1, 1, 0, 0),
    "dctlsa": (1, 1, 0, 0),
    "hma": (1, 1, 1, 0),
}
# What each row adds to the one before; the last is of spandrel 0.4.2's own registry.
STEPS: dict[str, tuple[str, ...]] = {
    "ESRGAN, Compact and the residual family alone": (
        "esrgan",
        "esrgan+",
        "compact",
        "swift-srgan",
        "edsr",
        "sr-res-net",
    ),
    "with SPAN, RealPLKSR, Real-CUGAN, RCAN, MoSR": ("span", "realplksr", "real-cugan", "cugan", "rcan", "mosr"),
    "and DySample": ("realplksr-dysample",),
    "and RTMoSR, IMDN (of which it lists no file)": (),
    "with `srfast[any]`, through spandrel": (
        *("dat", "swinir", "omnisr", "hat", "rgt", "drct", "atd", "grl", "ditn", "craft", "dctlsa"),
    ),
}


def shares() -> dict[str, tuple[float, ...]]:
    """Percent of the files of each time that load, after each step."""
    totals = [sum(counts[i] for counts in COUNTS.values()) for i in range(len(SINCE))]
    loaded, found = [0] * len(SINCE), {}
    for step, names in STEPS.items():
        loaded = [have + sum(COUNTS[name][i] for name in names) for i, have in enumerate(loaded)]
        found[step] = tuple(100 * have / total for have, total in zip(loaded, totals, strict=True))
    return found


def table() -> str:
    """One row a step, one column a time."""
    totals = [sum(counts[i] for counts in COUNTS.values()) for i in range(len(SINCE))]
    heads = (f"since {year} ({total})" if year else f"all {total}" for year, total in zip(SINCE, totals, strict=True))
    lines = [f"| srfast | {' | '.join(heads)} |", "|---" * (len(SINCE) + 1) + "|"]
    lines += [f"| {step} | {' | '.join(f'{share:.1f}%' for share in row)} |" for step, row in shares().items()]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page with a fresh table."""
    return replaced(PAGE, BEGIN, END, table())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
