"""Writes the table of what outputs keep into ``docs/video-kept.md``, from the one that the tests walk cell by cell."""

from __future__ import annotations

from pathlib import Path

from section import replaced

from srfast.video.keeping import FRAMES_ONLY, TABLE

PAGE = Path(__file__).parent / "video-kept.md"
BEGIN, END = "<!-- table: python docs/make_kept.py -->\n", "<!-- end of table -->\n"


def table() -> str:
    """Return the rows twice: for outputs that hold streams, and for those of frames alone; all would be too wide to read."""
    columns = list(next(iter(TABLE.values())))
    parts = ([c for c in columns if c not in FRAMES_ONLY], [c for c in columns if c in FRAMES_ONLY])
    return "\n".join(_part(part) for part in parts)


def _part(columns: list[str]) -> str:
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {row} | " + " | ".join(cells[column].value for column in columns) + " |" for row, cells in TABLE.items()
    ]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page with a fresh table."""
    return replaced(PAGE, BEGIN, END, table())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
