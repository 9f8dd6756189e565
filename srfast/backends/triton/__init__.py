"""The Triton backend: every node of a plan is a Triton kernel."""

from __future__ import annotations

from srfast.backends.triton.backend import GluonBackend, TritonBackend

__all__ = ["GluonBackend", "TritonBackend"]
