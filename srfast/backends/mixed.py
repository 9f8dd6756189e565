"""The mixed backend: convolutions, alone or several in one launch, in the compiled CUDA kernels where these were measured to be
faster, all else in Triton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from srfast.backends.base import Executable, reference_only
from srfast.backends.cuda import CudaBackend
from srfast.backends.cuda.convs import pack_node, single_launch
from srfast.backends.cuda.fused import fused_pairs
from srfast.backends.cuda.trunk import Trunk, fused_trunks
from srfast.backends.kernel_choice import anything_in_cuda, faster_in_cuda
from srfast.backends.triton import TritonBackend
from srfast.kernels.buffers import Canvas
from srfast.kernels.configs import device_names
from srfast.kernels.targets import FrameTarget, Launch
from srfast.plan import Conv, Plan

if TYPE_CHECKING:  # Triton itself loads with it
    from srfast.backends.triton.program import OtherLaunch


@dataclass(frozen=True)
class MixedBackend:
    """float16 and bfloat16 on NVIDIA GPUs from Ampere on, where measurements of this GPU are at hand.

    Args:
        interpret: Triton's part also runs on the CPU under TRITON_INTERPRET=1, for tests.
        graphs: replays CUDA graphs instead of launching kernel by kernel.
    """

    name: ClassVar[str] = "mixed"

    interpret: bool = False
    graphs: bool = True

    def device_reasons(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = TritonBackend(self.interpret).device_reasons(device, dtype)
        return reasons + [r for r in CudaBackend().device_reasons(device, dtype) if r not in reasons]

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        reasons = self.device_reasons(device, dtype) + reference_only(plan)  # what CUDA has not, Triton runs
        if not reasons and not anything_in_cuda(plan, device_names(device)):
            reasons.append("no convolution was measured to be faster in CUDA than in Triton here")
        return reasons

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        from srfast.backends.triton.program import TritonExecutable

        graphs = self.graphs and device.type == "cuda"
        runs = fused_trunks(plan, device_names(device), dtype, device)
        pairs = cuda_pairs(plan, dtype, device, runs)
        return TritonExecutable(plan, device, dtype, graphs, other=cuda_kernel, fused=pairs, runs=runs)


def cuda_pairs(
    plan: Plan, dtype: torch.dtype, device: torch.device, runs: Sequence[Trunk] = ()
) -> dict[str, tuple[Conv, OtherLaunch]]:
    """Return the fused residual blocks and tails that were measured to be faster than two launches, for ``pack_plan``.

    Args:
        plan, dtype, device: what runs, in what and where.
        runs: of convolutions, which are launches of their own.
    """
    taken = {node.output for run in runs for node in run.nodes}
    pairs = fused_pairs(plan, device_names(device), dtype, device, without=taken)
    return {output: (pair.before, pair.launch) for output, pair in pairs.items()}


def cuda_kernel(node: Conv, dtype: torch.dtype, device: torch.device) -> OtherLaunch | None:
    """Return the compiled kernel of a convolution that was measured to be faster there, with its weights packed."""
    config = faster_in_cuda(node, device_names(device))
    if config is None:
        return None
    packed = pack_node(node, config, dtype, device)

    def launch(x: Canvas, out: Canvas | FrameTarget, residual: Canvas | None) -> Launch | None:
        if isinstance(out, FrameTarget) and out.reverse:
            return None  # the compiled kernels write channels in the network's order only
        return single_launch(x, packed, config, out, residual)

    return launch
