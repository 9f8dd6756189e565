"""Plans in the form of the compiled CPU kernels: convolutions as these have them, and the operations of ``operations``.

Convolutions beside a pixel shuffle whose outputs read one square of pixels each become 1x1 ones, on squares that begin elsewhere.
A 2x2 convolution of stride 2 that begins at an odd pixel, and a transposed one whose squares end at one, are 3x3 on the plan's
squares, which begin at the image's first pixel; most of their taps are zero. U-Nets of unpadded convolutions have them (waifu2x,
Real-CUGAN). The CPU kernels can begin their squares at any pixel.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from srfast.backends.cpu.gates import with_gated_sums
from srfast.kernels.cpu import fourier_fits, lowp_fits, winograd_fits
from srfast.models.subpixel import conv_after_shuffle
from srfast.plan import Conv, Node, Plan, Shape, Shuffle, Unshuffle
from srfast.plan.passes import with_ending_apart
from srfast.plan.shapes import Span


def algorithm_of(node: Conv, shapes: Mapping[str, Shape]) -> str:
    """How a convolution is computed fastest: 'direct', or by the transform of 'winograd' or 'fourier'."""
    channels, outputs = [shapes[name].channels for name in node.sources], node.weight.shape[0]
    if all(winograd_fits(node.kernel, count, outputs) for count in channels):
        return "winograd"
    # What the transform gains depends on all channels together.
    whole = all(count % 16 == 0 for count in channels)
    return "fourier" if whole and fourier_fits(node.kernel, sum(channels), outputs) else "direct"


def lowered(plan: Plan, *, winograd: bool, lowp: Collection[str] = ()) -> Plan:
    """An equal plan of what the kernels have.

    Args:
        plan: in float32.
        winograd: whether convolutions may be transformed.
        lowp: outputs of those in a low-precision type.
    """
    plan = with_gated_sums(with_moved_squares(plan, lowp))
    return tail_after_shuffle(plan, lowp) if winograd else plan


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


@dataclass(frozen=True, eq=False)
class MovedUnshuffle(Unshuffle):
    """Pixel unshuffle whose first square begins at row and column ``offset``; pixels beyond the image are 0."""

    offset: int

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        return [(span[0] * self.factor + self.offset, span[1] * self.factor + self.offset)]


@dataclass(frozen=True, eq=False)
class MovedShuffle(Shuffle):
    """Pixel shuffle whose first square begins at row and column ``offset``; pixels beyond the image are ``beyond``, [C]."""

    offset: int
    beyond: Tensor

    def reads(self, span: Span, block: int = 1) -> list[Span]:
        return [((span[0] - self.offset) // self.factor, (span[1] - 1 - self.offset) // self.factor + 1)]


def squares_read(plan: Plan, shapes: Mapping[str, Shape], lowp: Collection[str] = ()) -> dict[str, Unshuffle]:
    """Pixel unshuffles that only 1x1 convolutions read, by their outputs: these read the squares where they are.

    Args:
        plan: in the operations of the kernels.
        shapes: of its activations.
        lowp: outputs of convolutions in a low-precision type, whose kernels do not read every square.
    """
    found = {}
    for node in plan.nodes:
        if isinstance(node, Unshuffle) and node.output != plan.output:
            readers, side = plan.users(node.output), node.factor
            fits = lowp_fits(side, shapes[node.input].channels, side)
            if readers and all(
                isinstance(n, Conv)
                and n.sources == (node.output,)
                and n.kernel == 1
                and n.residual != node.output
                and algorithm_of(n, shapes) == "direct"
                and (fits or n.output not in lowp)
                for n in readers
            ):
                found[node.output] = node
    return found


def with_moved_squares(plan: Plan, apart: Collection[str] = ()) -> Plan:
    """The plan with such 3x3 convolutions as 1x1 ones.

    Args:
        plan: in float32.
        apart: outputs of convolutions that stay as they are.
    """
    shapes = plan.shapes()
    nodes: list[Node] = []
    moved: dict[str, Node] = {}  # unshuffles that are replaced, which only their convolution reads
    for node in plan.nodes:
        if isinstance(node, Conv) and node.kernel == 3 and not node.more and node.output not in apart:
            before = plan.producers.get(node.input)
            if type(before) is Unshuffle and plan.users(before.output) == [node] and node.residual != before.output:
                found = _below(node, before, shapes)
                if found is not None:
                    moved[before.output] = found[0]
                    nodes.append(found[1])
                    continue
            if node.shuffle > 1 and node.act in ("none", "prelu") and (above := _above(node)):
                nodes += above
                continue
        nodes.append(node)
    return replace(plan, nodes=tuple(moved.get(node.output, node) for node in nodes))


def _below(node: Conv, squares: Unshuffle, shapes: Mapping[str, Shape]) -> tuple[MovedUnshuffle, Conv] | None:
    """The convolution after a pixel unshuffle, where its taps are those of one square that begins elsewhere."""
    r, channels = squares.factor, shapes[squares.input].channels
    weight = node.weight.reshape(-1, channels, r, r, 3, 3)
    for offset in range(1 - r, r):
        # Offset 0 would be a square of the plan itself, which needs no move; the kernels have that convolution.
        # Row `offset + k` of the image is phase `phase[k]` of the plan's square `tap[k] - 1`.
        rows = torch.arange(offset, offset + r)
        phase, tap = rows % r, rows // r + 1
        picked = weight[:, :, phase[:, None], phase[None], tap[:, None], tap[None]]
        # All that is left out is zero, so that the smaller convolution gives the same sums.
        if offset and picked.count_nonzero() == weight.count_nonzero():
            conv = replace(node, weight=picked.reshape(len(node.bias), -1, 1, 1))
            return MovedUnshuffle(squares.output, squares.input, r, offset), conv
    return None


def _above(node: Conv) -> list[Node] | None:
    """The convolution before its pixel shuffle, where each output reads one pixel; with what follows as nodes of their own."""
    r = node.shuffle
    weight = node.weight.reshape(-1, r, r, node.weight.shape[1], 3, 3)
    for offset in range(1 - r, r):
        # Row `k` of a square that begins at `offset` is phase `phase[k]` of the plan's, which reads the square by `tap[k]`.
        rows = torch.arange(offset, offset + r)
        phase, tap = rows % r, 1 - rows // r
        picked = weight.permute(3, 0, 1, 2, 4, 5)[:, :, phase[:, None], phase[None], tap[:, None], tap[None]]
        if offset and picked.count_nonzero() == weight.count_nonzero():
            order = torch.arange(len(node.bias)).reshape(-1, r, r)[:, phase[:, None], phase[None]].flatten()
            return _moved(node, picked.flatten(1).T.contiguous()[:, :, None, None], order, offset)
    return None


def _moved(node: Conv, weight: Tensor, order: Tensor, offset: int) -> list[Node]:
    bias, slope = node.bias[order], node.slope
    if slope is not None and slope.numel() > 1:
        slope = slope[order]
    squares = f"{node.output}_squares"
    conv = Conv(squares, node.input, weight, bias, node.act, slope, gain=node.gain)
    # What a convolution gives where its image is zero.
    beyond = bias if slope is None else torch.where(bias < 0, bias * slope, bias)
    whole = MovedShuffle(f"{node.output}_moved", squares, node.shuffle, offset, beyond * node.gain)
    return with_ending_apart(node, [conv, whole])
