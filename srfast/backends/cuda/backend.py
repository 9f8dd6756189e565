"""The CUDA backend: convolutions in the compiled kernels, everything else in PyTorch, one CUDA graph for each size; and the
same with the trunk of a network in one launch, for Hopper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from srfast.backends.base import Executable, reference_only
from srfast.backends.cuda.convs import conv_reason, kernel_plan
from srfast.backends.cuda.int8 import int8_reason
from srfast.backends.cuda.program import CudaStep, Program, pack_plan
from srfast.backends.cuda.trunk import trunks
from srfast.backends.gpu.executable import OLDEST, GpuExecutable
from srfast.backends.int8 import Int8
from srfast.kernels import cuda
from srfast.kernels.configs import device_names
from srfast.kernels.cuda.hopper import hopper_reason
from srfast.kernels.cuda.trunk import trunk_reason
from srfast.plan import Conv, Plan


@dataclass(frozen=True)
class CudaBackend:
    """float16 and bfloat16 on NVIDIA GPUs from Ampere on.

    Args:
        graphs: replays CUDA graphs instead of launching kernel by kernel.
        int8: what ``calibrate.calibrate`` made of the plan: its 3x3 convolutions of 64 channels run in 8 bits, on Hopper.
    """

    name: ClassVar[str] = "cuda"

    graphs: bool = True
    int8: Int8 | None = None

    def device_reasons(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = [reason] if (reason := cuda.unavailable_reason()) else []
        if dtype not in cuda.DTYPES:
            reasons.append(f"it computes in float16 or bfloat16, not {str(dtype).removeprefix('torch.')}")
        reasons += _device_reasons(device)
        if self.int8 is not None and not reasons and (reason := hopper_reason(device)):
            reasons.append(f"its 8-bit convolutions do not run here: {reason}")
        return reasons

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = self.device_reasons(device, dtype) + reference_only(plan)
        plan = kernel_plan(plan)
        if self.int8 is not None and (reason := int8_reason(plan, self.int8.convs)):
            reasons.append(reason)
        convs = [node for node in plan.nodes if isinstance(node, Conv)]
        return reasons + sorted({text for node in convs if (text := conv_reason(node))})

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        plan = kernel_plan(plan)
        steps = self._steps(plan, device, dtype)
        graphs = self.graphs and device.type == "cuda"
        return GpuExecutable(plan, device, lambda size: Program(plan, steps, size, dtype, device), graphs)

    def _steps(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[CudaStep]:
        roundings = self.int8.convs if self.int8 is not None else {}
        return pack_plan(plan, device_names(device), dtype, device, roundings=roundings)


@dataclass(frozen=True)
class TrunkBackend(CudaBackend):
    """As ``CudaBackend``, on Hopper GPUs, for networks with a trunk, which is one launch whatever was measured of it alone."""

    name: ClassVar[str] = "trunk"

    def device_reasons(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = super().device_reasons(device, dtype)
        missing = None if reasons else trunk_reason(dtype, device)
        return [*reasons, missing] if missing else reasons

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = super().not_supported_reasons(plan, device, dtype)
        if not reasons and not trunks(kernel_plan(plan)):
            reasons.append("the network has no run of three 3x3 convolutions of 64 channels")
        return reasons

    def _steps(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[CudaStep]:
        return pack_plan(plan, device_names(device), dtype, device, measured_trunks=False)


def _device_reasons(device: torch.device) -> list[str]:
    # The emulated module of the tests runs on the host.
    if device.type == "cpu" and cuda.emulated():
        return []
    if device.type != "cuda":
        return [f"it runs on GPUs, not on {device}"]
    if not torch.cuda.is_available():
        return ["PyTorch sees no GPU"]
    # ROCm's PyTorch calls its devices "cuda" too.
    if torch.version.hip is not None:
        return ["it runs on NVIDIA GPUs"]
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        return [f"it needs compute capability 8.0, this GPU has {capability[0]}.{capability[1]}"]
    # Machine code runs on its own generation's later chips; 90a on 9.0 only.
    built = {int(arch.rstrip("a")) for arch in cuda.architectures()}
    if not any(arch // 10 == capability[0] and arch % 10 <= capability[1] for arch in built):
        return [f"srfast._cuda was built for {sorted(built)}, not for this GPU's {capability[0]}{capability[1]}"]
    return []
