"""Turns the last record of every machine into docs/performance.md's section, README's table, plots and one HTML file.

It is what ``make bench-report`` runs.
"""

from __future__ import annotations

import argparse
import base64
import html
import sys
from pathlib import Path

from benchmarks import record, tables
from benchmarks.analysis import times
from benchmarks.machine import REPOSITORY
from benchmarks.record import Record

PAGE = REPOSITORY / "docs" / "performance.md"
README = REPOSITORY / "README.md"
PLOTS = REPOSITORY / "docs" / "plots"
HTML = Path(__file__).parent / "report.html"
BEGIN = "<!-- benchmarks: begin; made by `make bench-report` from benchmarks/records, not by hand -->"
END = "<!-- benchmarks: end -->"
KINDS = ("waterfall", "roofline", "size")
STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}img{max-width:100%}"
)


def section(records: dict[str, Record]) -> str:
    """Return the page's section, between its markers."""
    parts = [BEGIN]
    for device, taken in records.items():
        parts.append(
            f"**{tables.machine_line(taken)}.** How many times as fast as each way srfast ran whole networks: "
            "median (20th to 80th percentile) over rounds in which all took turns."
        )
        parts.append("\n".join(tables.comparison(taken, "network", tables.headline(taken))))
        parts.append("\n".join(tables.sizes(taken)))
        parts.append("\n".join(tables.videos(taken)))
        parts.append("\n".join(tables.quality_summary(taken)))
        parts.append(" ".join(filter(None, (tables.ceilings(taken), tables.repeatability(taken)))))
        shown = [kind for kind in KINDS if (PLOTS / f"{device}-{kind}.png").exists()]
        parts.append("\n".join(f"![{kind}, {device}](plots/{device}-{kind}.png)" for kind in shown))
    return "\n\n".join(filter(None, [*parts, END]))


def overview(records: dict[str, Record]) -> str:
    """Return README's table, between its markers."""
    return "\n".join([BEGIN, *tables.overview(list(records.values())), END])


def splice(text: str, new: str) -> str:
    """``text`` with the section between its markers replaced.

    Raises:
        ValueError: the markers are not there.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"docs/performance.md and README.md each need one line {BEGIN!r} and one {END!r}")
    before, _, rest = text.partition(BEGIN)
    return before + new + rest.partition(END)[2]


def records() -> dict[str, Record]:
    """The last of each device."""
    return {device: record.load(path) for device, path in record.latest().items()}


def page(found: dict[str, Record]) -> str:
    """One self-contained HTML page with every table, plot and missing contender."""
    body = ["<h1>srfast: measurements</h1>", "<p>Made by <code>make bench-report</code> from the records.</p>"]
    for device, taken in found.items():
        body.append(f"<h2>{html.escape(device)}</h2><p>{html.escape(tables.machine_line(taken))}</p>")
        body.append(f"<p>{html.escape(tables.ceilings(taken))} {html.escape(tables.repeatability(taken))}</p>")
        for kind in KINDS:
            body += [_image(path) for path in [PLOTS / f"{device}-{kind}.png"] if path.exists()]
        for suite in ("network", "operation", "frame", "waterfall"):
            body += _by_subject(taken, suite)
        for title in ("videos", "quality", "startup", "growth"):
            body += [f"<h3>{title}</h3>", _table(getattr(tables, title)(taken))]
        body.append("<h3>missing</h3><ul>")
        body += [f"<li>{html.escape(line[2:])}</li>" for line in tables.missing(taken)]
        body.append("</ul>")
    return f"<!doctype html><meta charset=utf-8><title>srfast</title><style>{STYLE}</style>" + "\n".join(body) + "\n"


def _by_subject(taken: Record, suite: str) -> list[str]:
    columns: dict[str, list[tuple[str, str]]] = {}
    for subject, case in times(taken, suite):
        columns.setdefault(subject, []).append((subject, case))
    parts = [f"<h3>{suite}: srfast was so many times as fast</h3>"] if columns else []
    return parts + [_table(tables.comparison(taken, suite, cases)) for cases in columns.values()]


def _table(lines: list[str]) -> str:
    """Markdown table lines as HTML."""
    rows = []
    for index, line in enumerate(line for line in lines if not line.startswith("|---")):
        cells = [html.escape(cell.strip().replace("\\*", "*")) for cell in line.strip("|").split("|")]
        tag = "th" if index == 0 else "td"
        rows.append("<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>")
    return f"<table>{''.join(rows)}</table>"


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<p><img alt="{path.stem}" src="data:image/png;base64,{data}"></p>'


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-plots", action="store_true", help="tables only, without matplotlib")
    options = parser.parse_args(arguments)
    found = records()
    if not found:
        print("there are no records: run `make bench` first", file=sys.stderr)
        return 1
    if not options.no_plots:
        from benchmarks.plots import draw

        for device, taken in found.items():
            draw(taken, PLOTS, device)
    for path, new in ((PAGE, section(found)), (README, overview(found))):
        path.write_text(splice(path.read_text(encoding="utf-8"), new), encoding="utf-8")
    HTML.write_text(page(found), encoding="utf-8")
    print(f"wrote {PAGE.name}, {README.name}, {HTML.name}, {PLOTS.name}/ from {len(found)} records")
    return 0


if __name__ == "__main__":
    sys.exit(main())
