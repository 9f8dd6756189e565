"""Writes the table of architectures into ``docs/models.md``, from the records in ``srfast/checkpoint/readers``."""

from __future__ import annotations

from pathlib import Path

from section import replaced

from srfast.checkpoint.registry import ARCHITECTURES

PAGE = Path(__file__).parent / "models.md"
BEGIN, END = "<!-- architectures: python docs/make_models.py -->\n", "<!-- end of architectures -->\n"


def table() -> str:
    """The rows of all records, by name."""
    rows = sorted((row for record in ARCHITECTURES for row in record.rows), key=lambda row: row.name.lower())
    lines = [
        "| architecture | who writes such files | files | options you may need | tiles |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {row.name} | {row.writers} | {row.files} | {row.hint} | {row.tiles} |" for row in rows]
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page with a fresh table."""
    return replaced(PAGE, BEGIN, END, table())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
