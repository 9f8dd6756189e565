"""What differs between the versions of PyAV."""

from __future__ import annotations

from typing import Any


def version(av: Any) -> tuple[int, ...]:
    """The first two numbers of a PyAV module's version."""
    return tuple(map(int, av.__version__.split(".")[:2]))


def tags_replaced(av: Any) -> dict[str, str]:
    """What ``av.open`` is told so that it takes files with tags that are no UTF-8; PyAV 19 does without being told."""
    return {"metadata_errors": "replace"} if version(av) < (19,) else {}
