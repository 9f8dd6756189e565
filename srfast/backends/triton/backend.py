"""The Triton backend: every node a fused kernel over preallocated canvases, one CUDA graph for each size."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from srfast.backends.base import Executable, reference_only
from srfast.backends.gpu.executable import OLDEST, GpuExecutable
from srfast.kernels.configs import device_names
from srfast.plan import Plan

if TYPE_CHECKING:
    from srfast.backends.triton.program import OtherKernel

_DTYPES = (torch.float16, torch.bfloat16)
# Input pixels for each multiprocessor that leave little of it idle: four programs of 128 pixels, one after another.
_FILL = 512


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


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


class TritonExecutable(GpuExecutable):
    """A plan with packed weights; keeps the canvases and graphs of the last sizes.

    Args:
        other: tells the kernel of another backend that shall run a convolution; None for Triton's own.
    """

    def __init__(
        self,
        plan: Plan,
        device: torch.device,
        dtype: torch.dtype,
        graphs: bool,
        other: OtherKernel = lambda node, dtype, device: None,
    ) -> None:
        # Triton decides when it is imported whether to interpret, and a process that never runs it need not import it.
        from srfast.backends.triton.program import Program, pack_plan
        from srfast.kernels.launch import compile_all

        steps = pack_plan(plan, device_names(device), dtype, device, other)
        min_pixels = _FILL * _multiprocessors(device)
        super().__init__(
            plan, device, lambda size: Program(plan, steps, size, dtype, device), graphs, min_pixels, compile_all
        )
