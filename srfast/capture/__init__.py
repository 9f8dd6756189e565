"""From a PyTorch module to a plan."""

from __future__ import annotations

from srfast.capture.build import capture

__all__ = ["capture"]
