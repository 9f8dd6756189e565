"""The ``srfast`` command."""

from __future__ import annotations

from srfast.cli.main import main

__all__ = ["main"]
