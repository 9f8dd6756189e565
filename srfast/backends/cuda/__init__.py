"""The CUDA backend: plans of convolutions on the compiled CUDA kernels."""

from __future__ import annotations

from srfast.backends.cuda.backend import CudaBackend, TrunkBackend

__all__ = ["CudaBackend", "TrunkBackend"]
