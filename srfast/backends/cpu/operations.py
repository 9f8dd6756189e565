"""How the compiled CPU kernels do each operation other than a convolution: by its name in ``csrc/cpu/node.h``, with options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from srfast.backends.cpu.gates import GatedSum
from srfast.backends.cpu.lower import MovedShuffle, MovedUnshuffle
from srfast.backends.reference import resize_weights
from srfast.kernels.cpu import Network
from srfast.plan import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Clamp,
    Concat,
    Depthwise,
    GroupNorm,
    InstanceNorm,
    Multiply,
    Node,
    PixelNorm,
    Pool,
    Resize,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
)


@dataclass(frozen=True)
class Operation:
    """A node as ``kernels.cpu.Network.node`` takes it; rows as in ``backends.cpu.schedule.Layer``."""

    name: str
    shrink: int = 1
    grow: int = 1
    whole: bool = False
    options: Mapping[str, Any] | None = None

    def add(self, network: Network, sources: list[int], target: int) -> None:
        """Add the node to a compiled network: its sources' and its own activation by their numbers there."""
        network.node(sources, target, self.name, **(self.options or {}))

    @property
    def reach(self) -> int:
        """Rows read above and below each row."""
        return int((self.options or {}).get("reach", 0))


@singledispatch
def operation(node: Node, channels: int) -> Operation:
    """Return how the kernels do a node other than a convolution, which has a form of its own.

    Args:
        node: in float32.
        channels: of its first input.
    """
    raise NotImplementedError(f"the CPU kernels have no {type(node).__name__}")


@operation.register
def _(node: Affine, channels: int) -> Operation:
    return Operation("affine", options={"tensors": _vectors(node, channels)})


@operation.register
def _(node: InstanceNorm, channels: int) -> Operation:
    return _group_norm(node, channels, channels)


@operation.register
def _(node: GroupNorm, channels: int) -> Operation:
    return _group_norm(node, channels, node.groups)


def _group_norm(node: InstanceNorm | GroupNorm, channels: int, groups: int) -> Operation:
    options = {"tensors": _vectors(node, channels), "eps": node.eps, "groups": groups}
    return Operation("group_norm", whole=True, options=options)


@operation.register
def _(node: PixelNorm, channels: int) -> Operation:
    options = {"tensors": _vectors(node, channels), "eps": node.eps, "centred": node.centred}
    return Operation("pixel_norm", options=options)


@operation.register
def _(node: Slice, channels: int) -> Operation:
    return Operation("slice", options={"channels": (node.first, node.count)})


@operation.register
def _(node: Activate, channels: int) -> Operation:
    slopes = [] if node.slope is None else [_expanded(node.slope, channels)]
    return Operation("activate", options={"curve": node.act, "tensors": slopes})


@operation.register
def _(node: Clamp, channels: int) -> Operation:
    return Operation("clamp", options={"clamp": (node.low, node.high)})


@operation.register
def _(node: Add, channels: int) -> Operation:
    return Operation("add")


@operation.register
def _(node: Multiply, channels: int) -> Operation:
    return Operation("multiply")


@operation.register
def _(node: GatedSum, channels: int) -> Operation:
    return Operation("gated_sum", options={"curve": node.act, "shift": node.shift})


@operation.register
def _(node: Concat, channels: int) -> Operation:
    return Operation("concat")


@operation.register
def _(node: Shuffle, channels: int) -> Operation:
    return Operation("shuffle", grow=node.factor, options={"factor": node.factor})


@operation.register
def _(node: Unshuffle, channels: int) -> Operation:
    return Operation("unshuffle", shrink=node.factor, options={"factor": node.factor})


@operation.register
def _(node: MovedShuffle, channels: int) -> Operation:
    # Each square of the result lies across two of the plan's, so a row needs its neighbour.
    options = {"factor": node.factor, "offset": node.offset, "reach": 1, "tensors": [node.beyond]}
    return Operation("shuffle", grow=node.factor, options=options)


@operation.register
def _(node: MovedUnshuffle, channels: int) -> Operation:
    options = {"factor": node.factor, "offset": node.offset, "reach": abs(node.offset)}
    return Operation("unshuffle", shrink=node.factor, options=options)


@operation.register
def _(node: Pool, channels: int) -> Operation:
    return Operation(f"{node.kind}_pool", shrink=node.factor, options={"factor": node.factor})


@operation.register
def _(node: Resize, channels: int) -> Operation:
    assert isinstance(node.factor, int)  # others are not covered
    weights = torch.tensor(resize_weights(node.factor, node.mode), dtype=torch.float32)
    options = {"factor": node.factor, "reach": weights.shape[1] // 2, "tensors": [weights]}
    return Operation("resize", grow=node.factor, options=options)


@operation.register
def _(node: ChannelGate, channels: int) -> Operation:
    slope = _expanded(node.slope, node.squeeze.shape[0])
    tensors = [node.squeeze, node.squeeze_bias, node.expand, node.expand_bias, slope]
    ways = {"contrast": node.moment == "contrast", "hard": node.curve == "hardsigmoid"}
    return Operation("channel_gate", whole=True, options={"tensors": tensors, "inset": node.inset, **ways})


@operation.register
def _(node: Depthwise, channels: int) -> Operation:
    slopes = [] if node.slope is None else [_expanded(node.slope, channels)]
    # [k, k, C]: the kernel takes one tap for many channels at a time, which then lie side by side.
    tensors = [node.weight[:, 0].permute(1, 2, 0), node.bias, *slopes]
    return Operation("depthwise", options={"reach": node.kernel // 2, "curve": node.act, "tensors": tensors})


@operation.register
def _(node: SpatialGate, channels: int) -> Operation:
    return Operation("spatial_gate", options={"reach": node.weight.shape[-1] // 2, "tensors": [node.weight, node.bias]})


def _vectors(node: Affine | InstanceNorm | GroupNorm | PixelNorm, channels: int) -> list[Tensor]:
    return [_expanded(node.scale, channels), _expanded(node.shift, channels)]


def _expanded(values: Tensor, length: int) -> Tensor:
    # One value for all channels as one for each: the kernels know no other form.
    return values.expand(length)
