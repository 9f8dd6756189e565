"""The Triton backend: every node of a plan is a Triton kernel."""

from __future__ import annotations

from srfast.backends.triton.backend import TritonBackend

__all__ = ["TritonBackend"]
