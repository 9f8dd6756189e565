"""Passes: pure functions from a plan to an equal, shorter or cheaper one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from srfast.devices import on_cpu
from srfast.models.subpixel import conv_before_shuffle
from srfast.plan import Activate, Add, Affine, Clamp, Conv, Node, Plan
from srfast.plan.graph import renamed
from srfast.plan.rules import RULES, Rewriting, Rule


@on_cpu
def optimise(plan: Plan) -> Plan:
    """Folds and fuses in float64 until nothing changes, then rewrites the tail where that is cheaper; float32 out.

    Examples:
        >>> from torch import nn
        >>> from srfast.capture import capture
        >>> plan = capture(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()))
        >>> len(plan.nodes), len(optimise(plan).nodes)  # the normalisation and the activation are in the convolution
        (3, 1)
    """
    # Folding multiplies weights by each other many times over; in float64 only the last rounding, to float32, is
    # left.
    plan = plan.map_tensors(lambda t: t.detach().double())
    plan = rewrite_subpixel_tail(fuse(plan))
    return plan.map_tensors(lambda t: t.float().contiguous())


def fuse(plan: Plan) -> Plan:
    """Applies every folding rule to a fixed point: each one as often as it fits, until a round changes nothing."""
    graph = Rewriting(plan)
    changed = True
    while changed:
        changed = False
        for rule in RULES:
            while _sweep(graph, rule):
                changed = True
    return graph.plan()


def _sweep(graph: Rewriting, rule: Rule) -> bool:
    """Applies a rule at every node, as often as it fits; whether it did at all."""
    changed = False
    for before in graph.nodes():
        node = graph.get(before.output)
        # The node may have become another one under the same name, to which the rule may apply again.
        while node is not None and rule(graph, node):
            changed = True
            node = graph.get(before.output)
    return changed


@on_cpu
def in_units(plan: Plan, input_peak: float, output_peak: float) -> Plan:
    """The plan for images whose white is ``input_peak`` in and ``output_peak`` out, instead of 1, folded into the weights.

    A clamp of the result is dropped: whoever converts to the final type limits to 0..1, or to ``output_limits``, and sees
    infinities before.
    """
    plan = plan.map_tensors(lambda t: t.double())
    plan, _ = split_output_clamp(plan)
    # The change of units is written as two operations like any other; the folding rules then move it into the weights.
    first = Affine("in_units", plan.input, _one(1 / input_peak), _one(0))
    nodes: list[Node] = [renamed(node, {plan.input: "in_units"}) for node in plan.nodes]
    last = Affine("out_units", plan.output, _one(output_peak), _one(0))
    scaled = plan.with_nodes([first, *nodes, last], output="out_units")
    return fuse(scaled).map_tensors(lambda t: t.float().contiguous())


@on_cpu
def with_curves_apart(plan: Plan, kept: Collection[str]) -> Plan:
    """The plan with activations other than those ``kept`` outside of their convolutions, and with them what comes after.

    For kernels that have few activations in a convolution.
    """
    nodes: list[Node] = []
    for node in plan.nodes:
        nodes += _split(node) if isinstance(node, Conv) and node.act not in kept else [node]
    return replace(plan, nodes=tuple(nodes))


def _split(node: Conv) -> list[Node]:
    """A convolution and what follows it as nodes of their own; the activation has no slopes for channels before a shuffle."""
    sums, curve = f"{node.output}_sums", f"{node.output}_curve"
    steps: list[Node] = [
        replace(node, output=sums, act="none", slope=None, gain=1.0, residual=None, clamp=None),
        Activate(curve, sums, node.act, node.slope),
    ]
    if node.gain != 1:
        steps.append(Affine(f"{node.output}_gain", curve, torch.tensor([node.gain]), torch.zeros(1)))
    return with_ending_apart(node, steps)


def with_ending_apart(node: Conv, steps: Sequence[Node]) -> list[Node]:
    """Put nodes in a convolution's place, with its residual sum and its clamp behind them.

    Args:
        node: the convolution.
        steps: what computes it up to its gain; the last gives the result.

    Returns:
        ``steps``, then an ``Add`` and a ``Clamp`` where the convolution has them; the last has the convolution's output.
    """
    steps = list(steps)
    if node.residual is not None:
        steps.append(Add(f"{node.output}_sum", steps[-1].output, node.residual))
    if node.clamp is not None:
        steps.append(Clamp(f"{node.output}_clamp", steps[-1].output, *node.clamp))
    return [*steps[:-1], replace(steps[-1], output=node.output)]


def _one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def output_limits(plan: Plan) -> tuple[float, float] | None:
    """The range within 0..1 that a clamp of the result leaves; None where it leaves all of that."""
    _, clamp = split_output_clamp(plan)
    if clamp is None or (clamp[0] <= 0 and clamp[1] >= 1):
        return None
    low, high = (min(max(bound, 0.0), 1.0) for bound in clamp)
    return low, high


def split_output_clamp(plan: Plan) -> tuple[Plan, tuple[float, float] | None]:
    """The plan without the clamp of its result, and that clamp's bounds; None where there is none."""
    last = plan.nodes[-1] if plan.nodes else None
    if isinstance(last, Clamp):
        return plan.with_nodes(list(plan.nodes[:-1]), output=last.input), (last.low, last.high)
    if isinstance(last, Conv) and last.clamp:
        return plan.with_nodes([*plan.nodes[:-1], replace(last, clamp=None)]), last.clamp
    return plan, None


def rewrite_subpixel_tail(plan: Plan) -> Plan:
    """Moves a bare convolution after a pixel shuffle in front of it where that costs less (``models.subpixel``)."""
    graph = Rewriting(plan)
    for node in plan.nodes:
        before = graph.only_conv_before(node)
        if not isinstance(node, Conv) or before is None or not _tail_may_move(before, node):
            continue
        moved = replace(
            node,
            weight=conv_before_shuffle(node.weight, before.shuffle),
            bias=node.bias.repeat_interleave(before.shuffle**2),
            shuffle=before.shuffle,
        )
        # The convolution after the shuffle runs on shuffle^2 times as many pixels.
        if _conv_cost(moved) < before.shuffle**2 * _conv_cost(node):
            graph.put(replace(before, shuffle=1))
            graph.put(moved)
            return graph.plan()
    return plan


def _tail_may_move(before: Conv, node: Conv) -> bool:
    """Two shuffles in a row are one only if the channels are ordered for it."""
    shared = node.act != "prelu" or node.slope is None or node.slope.numel() == 1
    plain = before.shuffle > 1 and not before.residual and not before.clamp
    return plain and shared and not node.more and node.shuffle == 1


def _conv_cost(node: Conv) -> int:
    """Multiplications per pixel of the input as matrix units spend them: output channels in groups of 16."""
    out, channels, kernel, _ = node.weight.shape
    # Three output channels cost as much as sixteen, so that a 9x9 to RGB may gain by becoming a 5x5 to twelve.
    return math.ceil(out / 16) * 16 * channels * kernel**2
