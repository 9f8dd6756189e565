"""Plans in the operations of the compiled CPU kernels: convolutions and ``csrc/cpu/node.h``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor

from srfast.backends.cpu.squares import MovedShuffle, MovedUnshuffle, with_moved_squares
from srfast.backends.reference import resize_weights
from srfast.kernels.cpu import Network, winograd_fits
from srfast.models.subpixel import conv_after_shuffle
from srfast.plan import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Clamp,
    Concat,
    Conv,
    Depthwise,
    GroupNorm,
    InstanceNorm,
    Multiply,
    Node,
    PixelNorm,
    Plan,
    Pool,
    Resize,
    Shape,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
)
from srfast.plan.passes import with_curves_apart


def uses_winograd(node: Conv, shapes: Mapping[str, Shape], winograd: bool) -> bool:
    """Whether a convolution goes through the Winograd transform."""
    return winograd and all(
        winograd_fits(node.kernel, shapes[name].channels, node.weight.shape[0]) for name in node.sources
    )


def lowered(plan: Plan, *, winograd: bool, lowp: Collection[str] = ()) -> Plan:
    """An equal plan of what the kernels have.

    Activations other than PReLU leave their convolution; direct convolutions read one
    activation.

    Args:
        plan: in float32.
        winograd: whether convolutions may be transformed.
        lowp: outputs of those in a low-precision type, which may read several activations.
    """
    plan = with_moved_squares(with_curves_apart(plan, ("none", "prelu")), lowp)
    if winograd:
        plan = tail_after_shuffle(plan, lowp)
    shapes = plan.shapes()
    nodes: list[Node] = []
    for node in plan.nodes:
        if isinstance(node, Conv) and node.more and not (node.output in lowp or uses_winograd(node, shapes, winograd)):
            joined = f"{node.output}_sources"
            nodes.append(Concat(joined, node.input, node.more))
            node = replace(node, input=joined, more=())
        nodes.append(node)
    return replace(plan, nodes=tuple(nodes))


def tail_after_shuffle(plan: Plan, lowp: Collection[str] = ()) -> Plan:
    """A last convolution that was moved in front of its shuffle goes back where it is 9x9: the kernels have that faster."""
    node = plan.nodes[-1] if plan.nodes else None
    before = plan.nodes[-2] if len(plan.nodes) > 1 else None
    if not isinstance(node, Conv) or not isinstance(before, Conv) or node.shuffle == 1 or before.shuffle != 1:
        return plan
    alone = node.sources == (before.output,) and before.output != node.residual
    plain = before.residual is None and before.clamp is None and _shared(before) and _shared(node)
    weight = conv_after_shuffle(node.weight, node.shuffle)
    if not alone or not plain or weight is None or {node.output, before.output} & set(lowp):
        return plan
    if weight.shape[2] != 9 or not winograd_fits(9, weight.shape[1], weight.shape[0]):
        return plan
    # The move in front of the shuffle repeated each bias; others, of a network that was made so, cannot be undone.
    bias = node.bias[:: node.shuffle**2]
    if not torch.equal(bias.repeat_interleave(node.shuffle**2), node.bias):
        return plan
    last = replace(node, weight=weight, bias=bias, shuffle=1)
    return replace(plan, nodes=(*plan.nodes[:-2], replace(before, shuffle=node.shuffle), last))


def _shared(node: Conv) -> bool:
    """Whether what follows the sums is the same for every channel."""
    return node.slope is None or node.slope.numel() == 1


@dataclass(frozen=True)
class Operation:
    """A node as ``kernels.cpu.Network.node`` takes it; rows as in ``backends.cpu.schedule.Layer``."""

    name: str
    shrink: int = 1
    grow: int = 1
    whole: bool = False
    options: Mapping[str, Any] | None = None

    def add(self, network: Network, sources: list[int], target: int) -> None:
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
    weights = torch.tensor(resize_weights(node.factor, node.mode))
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
    tensors = [node.weight[:, 0].permute(1, 2, 0), node.bias, *slopes]
    return Operation("depthwise", options={"reach": node.kernel // 2, "curve": node.act, "tensors": tensors})


@operation.register
def _(node: SpatialGate, channels: int) -> Operation:
    return Operation("spatial_gate", options={"reach": node.weight.shape[-1] // 2, "tensors": [node.weight, node.bias]})


def _vectors(node: Affine | InstanceNorm | GroupNorm | PixelNorm, channels: int) -> list[Tensor]:
    return [_expanded(node.scale, channels), _expanded(node.shift, channels)]


def _expanded(values: Tensor, length: int) -> Tensor:
    return values.expand(length)
