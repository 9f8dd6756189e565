"""The Triton backend: every node a fused kernel over preallocated canvases, one CUDA graph for each size; and the same with
the convolution of 64 channels in Gluon, for Hopper."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import ClassVar

import torch

from srfast.backends.base import Executable, reference_only
from srfast.backends.gpu.executable import OLDEST
from srfast.kernels import gluon
from srfast.plan import Conv, Node, Plan

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


@dataclass(frozen=True)
class GluonBackend:
    """float16 on Hopper GPUs, for networks with 3x3 convolutions of 64 channels: these in Gluon, all else as in Triton.

    Args:
        interpret: as of ``TritonBackend``; Gluon itself cannot be interpreted, so its convolutions are then left out.
        graphs: replays CUDA graphs instead of launching kernel by kernel.
    """

    name: ClassVar[str] = "gluon"

    interpret: bool = False
    graphs: bool = True

    def device_reasons(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = TritonBackend(self.interpret).device_reasons(device, dtype)
        if self.interpret and device.type == "cpu":
            return reasons
        if dtype == torch.bfloat16:
            reasons.append("it computes in float16, not bfloat16")
        if not reasons and (major := torch.cuda.get_device_capability(device)[0]) != 9:
            reasons.append(f"it needs a Hopper GPU (compute capability 9.0), this one has {major}")
        missing = None if reasons else gluon.unavailable_reason()
        return [*reasons, missing] if missing else reasons

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = self.device_reasons(device, dtype) + reference_only(plan)
        if not reasons and not self.interpret and not any(map(_of_64_channels, plan.nodes)):
            reasons.append("the network has no 3x3 convolution of 64 channels")
        return reasons

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        from srfast.backends.triton.program import TritonExecutable

        graphs = self.graphs and device.type == "cuda"
        return TritonExecutable(plan, device, dtype, graphs, gluon=not self.interpret)


def _of_64_channels(node: Node) -> bool:
    return isinstance(node, Conv) and tuple(node.weight.shape) == (64, 64, 3, 3)


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
