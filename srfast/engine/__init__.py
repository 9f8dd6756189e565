"""Runs a plan on images of any size: exact tiles, memory limits, transfers to and from a device."""

from __future__ import annotations

from srfast.engine.engine import Engine, Statistics

__all__ = ["Engine", "Statistics"]
