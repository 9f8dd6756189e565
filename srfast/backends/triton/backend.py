"""The Triton backend: every node a fused kernel over preallocated canvases, one CUDA graph for each size."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import ClassVar

import torch

from srfast.backends.base import Executable, reference_only
from srfast.backends.gpu.executable import OLDEST
from srfast.plan import Plan

_DTYPES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class TritonBackend:
    """float16 and bfloat16 on NVIDIA GPUs from Ampere on.

    Args:
        interpret: also runs on the CPU under TRITON_INTERPRET=1, for tests.
        graphs: replays CUDA graphs instead of launching kernel by kernel.
    """

    name: ClassVar[str] = "triton"

    interpret: bool = False
    graphs: bool = True

    def device_reasons(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = []
        if importlib.util.find_spec("triton") is None:
            reasons.append("Triton is not installed (pip install triton)")
        if dtype not in _DTYPES:
            reasons.append(f"it computes in float16 or bfloat16, not {str(dtype).removeprefix('torch.')}")
        if not (self.interpret and device.type == "cpu"):
            reasons += _device_reasons(device)
        return reasons

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        return self.device_reasons(device, dtype) + reference_only(plan)

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        # Triton decides when it is imported whether to interpret, and a process that never runs it need not import it.
        from srfast.backends.triton.program import TritonExecutable

        return TritonExecutable(plan, device, dtype, graphs=self.graphs and device.type == "cuda")


def _device_reasons(device: torch.device) -> list[str]:
    if device.type != "cuda":
        return [f"it runs on GPUs, not on {device}"]
    if not torch.cuda.is_available():
        return ["PyTorch sees no GPU"]
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and capability < OLDEST:
        given, oldest = (".".join(map(str, c)) for c in (capability, OLDEST))
        return [f"it needs compute capability {oldest}, this GPU has {given}"]
    return []
