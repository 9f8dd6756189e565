"""The mixed backend: convolutions in the compiled CUDA kernels where these were measured to be faster, all else in Triton."""

from __future__ import annotations

import torch

from srfast.backends.base import Executable
from srfast.backends.cuda import CudaBackend
from srfast.backends.gpu.kernel_choice import faster_in_cuda
from srfast.backends.triton import TritonBackend, TritonExecutable
from srfast.kernels.triton.config import device_names
from srfast.plan import Conv, Plan


class MixedBackend:
    """float16 and bfloat16 on NVIDIA GPUs from Ampere on, where measurements of this GPU are at hand.

    Args:
        interpret: Triton's part also runs on the CPU under TRITON_INTERPRET=1, for tests.
        graphs: replays CUDA graphs instead of launching kernel by kernel.
    """

    name = "mixed"

    def __init__(self, interpret: bool = False, graphs: bool = True) -> None:
        self._triton, self._cuda, self._graphs = TritonBackend(interpret), CudaBackend(), graphs

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        empty = Plan((), "x", "x", 3)  # CUDA runs what it can
        reasons = self._triton.not_supported_reasons(plan, device, dtype)
        reasons += [r for r in self._cuda.not_supported_reasons(empty, device, dtype) if r not in reasons]
        if not reasons and not any(isinstance(n, Conv) and faster_in_cuda(n, device_names(device)) for n in plan.nodes):
            reasons.append("no convolution was measured to be faster in CUDA than in Triton here")
        return reasons

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        graphs = self._graphs and device.type == "cuda"
        return TritonExecutable(
            plan, device, dtype, graphs, compiled=lambda node: faster_in_cuda(node, device_names(device))
        )
