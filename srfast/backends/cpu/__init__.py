"""The CPU backend: srfast's own kernels, and oneDNN through PyTorch for what they do not cover."""

from __future__ import annotations

from srfast.backends.cpu.backend import CpuBackend, has_bf16, int8_set

__all__ = ["CpuBackend", "has_bf16", "int8_set"]
