"""Pictures of one thing beside each other: collected, measured, and put into a page."""

from __future__ import annotations

from srfast.diagnostics.compare.page import Size, build_page
from srfast.diagnostics.compare.pictures import Compared, Scene, View, scenes

__all__ = ["Compared", "Scene", "Size", "View", "build_page", "scenes"]
