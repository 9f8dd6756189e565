"""Two convolutions of a plan in one CUDA kernel, residual blocks and tails, where measurements say that this is faster."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

import torch

from srfast.backends.cuda.convs import conv_reason, pack_node
from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.config import PAIRS, CudaConfig, find_pair
from srfast.kernels.cuda.pack import CudaConv
from srfast.kernels.cuda.pair import pair_fits, pair_launch
from srfast.kernels.cuda.tail import CudaTail, pack_tail, tail_fits, tail_launch
from srfast.kernels.targets import FrameTarget
from srfast.plan import Conv, Plan

_PLAIN = CudaConfig()


@dataclass(frozen=True)
class Fused:
    """Two convolutions packed for one launch: as a pair of 64 channels, or as a network's tail.

    Attributes:
        before: the first convolution of the plan.
        first, second: both, packed.
        config: names the kernel.
        tail: both in the order of the tail's kernels; None for a pair.
    """

    before: Conv
    first: CudaConv
    second: CudaConv
    config: CudaConfig
    tail: CudaTail | None

    def launch(
        self, x: Canvas, out: Canvas | FrameTarget, residual: Canvas | None, programmatic: bool = False
    ) -> cuda.Launch | None:
        """The launch; None where the kernel cannot write such a target: a pair no frames, a tail none in reverse."""
        form = self.config.kernel
        if self.tail is not None:
            if isinstance(out, FrameTarget) and out.reverse:
                return None
            return tail_launch(x, self.tail, out, residual, form=form, programmatic=programmatic)
        if isinstance(out, FrameTarget):
            return None
        return pair_launch(x, self.first, self.second, out, residual, form=form, programmatic=programmatic)


def measured_pairs(plan: Plan, names: tuple[str, ...]) -> dict[str, tuple[Conv, CudaConfig]]:
    """For the output of a second convolution the first one, where a measurement says that one launch is faster.

    Args:
        plan: what runs.
        names: under which measurements are looked up, from ``kernels.configs.device_names``.
    """
    convs = {node.output: node for node in plan.nodes if isinstance(node, Conv) and not node.more}
    pairs: dict[str, tuple[Conv, CudaConfig]] = {}
    for node in convs.values():
        first = convs.get(node.input)
        if first is None or first.output == plan.output or plan.users(first.output) != [node] or first.output in pairs:
            continue
        # What lies between the two never reaches memory, so nothing can be added to it there, nor be read from there.
        if first.residual is not None or node.residual == first.output or conv_reason(first) or conv_reason(node):
            continue
        middle, channels, kernel, _ = first.weight.shape
        config = find_pair(names, channels, kernel, middle, node.kernel, node.weight.shape[0])
        if config is not None:
            pairs[node.output] = first, config
    return pairs


def fused_pairs(
    plan: Plan,
    names: tuple[str, ...],
    dtype: torch.dtype,
    device: torch.device,
    pack: Callable[[Conv], CudaConv] | None = None,
    without: Container[str] = (),
) -> dict[str, Fused]:
    """The pairs of ``measured_pairs`` that their kernels can run on the device, by the output of the second convolution.

    Args:
        plan, names: as of ``measured_pairs``.
        dtype, device: of the weights.
        pack: gives a packed convolution; by default it is packed here.
        without: outputs of convolutions that are in other launches.
    """
    packed = pack or (lambda node: pack_node(node, _PLAIN, dtype, device))
    nodes = {node.output: node for node in plan.nodes if isinstance(node, Conv)}
    found: dict[str, Fused] = {}
    for output, (before, config) in measured_pairs(plan, names).items():
        if output in without or before.output in without:
            continue
        first, second, is_pair = packed(before), packed(nodes[output]), config.kernel in PAIRS
        if (pair_fits if is_pair else tail_fits)(first, second, config.kernel) is None:
            tail = None if is_pair else pack_tail(first, second, nodes[output].weight)
            found[output] = Fused(before, first, second, config, tail)
    return found
