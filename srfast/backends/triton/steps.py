"""What the Triton backend launches for a plan: weights packed, residuals and pairs of convolutions folded together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from srfast.backends.base import enlarged_residuals
from srfast.backends.gpu.layout import epilogue_of, row_slots
from srfast.kernels.buffers import Canvas
from srfast.kernels.configs import conv_key, pair_key
from srfast.kernels.packing import PackedConv, pack_conv
from srfast.kernels.targets import FrameTarget, Launch
from srfast.kernels.triton.config import Config, PairConfig, find_config, find_pair_config
from srfast.plan import Conv, Node, Plan

# A convolution by another backend's kernel: its launch, or None where the kernel cannot write that target.
OtherLaunch = Callable[[Canvas, Canvas | FrameTarget, Canvas | None], Launch | None]
# For a convolution, its dtype and device: the kernel of another backend that shall run it; None for Triton's own.
OtherKernel = Callable[[Conv, torch.dtype, torch.device], OtherLaunch | None]


@dataclass(frozen=True)
class Step:
    """One launch.

    Attributes:
        node: the plan's node; the second one where two convolutions are one launch.
        reads: activations; a residual may be read before its enlargement.
        sources: how many of them are, their channels in a row, the input.
        conv, config: packed weights of a convolution and how it is cut up.
        first, pair: the convolution in front, where two are one launch.
        other: the kernel of another backend that runs it instead.
    """

    node: Node
    reads: tuple[str, ...]
    sources: int = 1
    conv: PackedConv | None = None
    config: Config | None = None
    first: PackedConv | None = None
    pair: PairConfig | None = None
    other: OtherLaunch | None = None

    @property
    def reach(self) -> int:
        """Pixels that the launch reads beyond its own, on each side."""
        return sum(conv.half for conv in (self.first, self.conv) if conv is not None)

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns that a program reads at a time, without ``reach``."""
        if self.pair is not None:
            return self.pair.region_h, self.pair.region_w
        return (1, 1) if self.config is None else self.config.tile


def pack_plan(
    plan: Plan,
    names: tuple[str, ...],
    dtype: torch.dtype,
    device: torch.device,
    other: OtherKernel = lambda node, dtype, device: None,
) -> list[Step]:
    """The launches of a plan in order, weights packed.

    Args:
        names: select the launch configurations.
        other: tells the kernel of another backend that shall run a convolution.
    """
    folded = {name: small for name, (small, _) in enlarged_residuals(plan).items()}
    pairs = _pairs(plan, names)
    skipped = set(folded) | {first.output for first, _ in pairs.values()}
    slots = row_slots([node.sources for node in plan.nodes if isinstance(node, Conv)], plan.shapes())
    steps = []
    for node in plan.nodes:
        if node.output in skipped:
            continue
        if not isinstance(node, Conv):
            steps.append(Step(node, node.inputs))
            continue
        residual = () if node.residual is None else (folded.get(node.residual, node.residual),)
        if node.output in pairs:
            before, pair = pairs[node.output]
            first = _pack(before, pair.block_o, before.input in slots, dtype, device)
            second = _pack(node, pair.block_o, False, dtype, device)
            steps.append(Step(node, (before.input, *residual), 1, second, first=first, pair=pair))
        else:
            sources = node.sources
            config = find_config(names, conv_key(node.weight.shape[1], node.weight.shape[0], node.kernel))
            packed = _pack(node, config.block_o, sources[0] in slots, dtype, device)
            reads = (*sources, *residual)
            steps.append(Step(node, reads, len(sources), packed, config, other=other(node, dtype, device)))
    return steps


def _pack(node: Conv, block_o: int, exact: bool, dtype: torch.dtype, device: torch.device) -> PackedConv:
    fields = epilogue_of(node)
    return pack_conv(node.weight, node.bias, **fields, block_o=block_o, exact=exact, dtype=dtype, device=device)


def _pairs(plan: Plan, names: tuple[str, ...]) -> dict[str, tuple[Conv, PairConfig]]:
    """For the output of a second convolution the first one, where a configuration says that one launch is faster.

    From the end on: of a chain, the widest activation is the one before the last convolution.
    """
    convs = {node.output: node for node in plan.nodes if isinstance(node, Conv) and len(node.sources) == 1}
    pairs: dict[str, tuple[Conv, PairConfig]] = {}
    taken: set[str] = set()
    for node in reversed(convs.values()):
        first = convs.get(node.input)
        if first is None or node.output in taken or first.output == plan.output or plan.users(first.output) != [node]:
            continue
        simple = first.shuffle == 1 and first.gain == 1.0 and first.residual is None and first.clamp is None
        # The pair kernel knows none of these between the two; weights for up to 8 channels are packed in another order.
        if not simple or node.residual == first.output or first.weight.shape[0] <= 8:
            continue
        middle, channels, kernel, _ = first.weight.shape
        config = find_pair_config(names, pair_key(channels, kernel, middle, node.kernel, node.weight.shape[0]))
        if config is not None:
            pairs[node.output] = (first, config)
            taken.add(node.output)
    return pairs
