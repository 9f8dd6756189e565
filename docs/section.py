"""Puts what is made into the pages that are written by hand: each such page has a section between two marks."""

from __future__ import annotations

from pathlib import Path


def replaced(page: Path, begin: str, end: str, new: str) -> str:
    """Return a page's text with something new between two marks.

    Args:
        page: the page, which is only read.
        begin, end: lines that stand in it once each, with their line breaks.
        new: whole lines.

    Raises:
        ValueError: a mark is missing, or stands there twice.
    """
    text = page.read_text(encoding="utf-8")
    for mark in (begin, end):
        if text.count(mark) != 1:
            raise ValueError(f"{page} needs one line {mark.strip()!r}; it has {text.count(mark)}")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}\n{new}\n{end}{rest.partition(end)[2]}"
