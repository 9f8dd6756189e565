"""Passes: pure functions from a plan to an equal, shorter or cheaper one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from srfast.models.subpixel import conv_before_shuffle
from srfast.plan import Activate, Add, Affine, Clamp, Conv, Node, Plan, Resize, Shuffle

Rewrite = Callable[[Plan], Plan | None]


def optimise(plan: Plan) -> Plan:
    """Folds and fuses in float64 until nothing changes, then rewrites the tail where that is cheaper; float32 out."""
    plan = plan.map_tensors(lambda t: t.detach().double())
    plan = rewrite_subpixel_tail(fuse(plan))
    return plan.map_tensors(lambda t: t.float().contiguous())


def fuse(plan: Plan) -> Plan:
    """Applies every folding rule to a fixed point."""
    while True:
        for rule in RULES:
            changed = rule(plan)
            if changed is not None:
                plan = changed
                break
        else:
            return plan


def in_units(plan: Plan, input_peak: float, output_peak: float) -> Plan:
    """The plan for images whose white is ``input_peak`` in and ``output_peak`` out instead of 1, by its weights.

    A clamp of the result is dropped: whoever converts to the final type saturates, and sees infinities before that.
    """
    plan = plan.map_tensors(lambda t: t.double())
    plan = drop_output_clamp(plan)
    first = Affine("in_units", plan.input, _one(1 / input_peak), _one(0))
    nodes: list[Node] = [_renamed(node, {plan.input: "in_units"}) for node in plan.nodes]
    last = Affine("out_units", plan.output, _one(output_peak), _one(0))
    scaled = plan.with_nodes([first, *nodes, last], output="out_units")
    return fuse(scaled).map_tensors(lambda t: t.float().contiguous())


def _one(value: float) -> torch.Tensor:
    return torch.tensor([value], dtype=torch.float64)


def drop_output_clamp(plan: Plan) -> Plan:
    """The plan without the clamp of its result."""
    last = plan.nodes[-1] if plan.nodes else None
    if isinstance(last, Clamp):
        return plan.with_nodes(list(plan.nodes[:-1]), output=last.input)
    if isinstance(last, Conv) and last.clamp:
        return plan.with_nodes([*plan.nodes[:-1], replace(last, clamp=None)])
    return plan


def rewrite_subpixel_tail(plan: Plan) -> Plan:
    """Moves a bare convolution after a pixel shuffle in front of it where that costs less (``models.subpixel``)."""
    for node in plan.nodes:
        before = _producer(plan, node.input) if isinstance(node, Conv) else None
        if (
            isinstance(node, Conv)
            and isinstance(before, Conv)
            and before.shuffle > 1
            and not (before.residual or before.clamp)
            and (node.act != "prelu" or node.slope is None or node.slope.numel() == 1)
            and len(plan.users(before.output)) == 1
            and before.output != plan.output
        ):
            moved = replace(
                node,
                weight=conv_before_shuffle(node.weight, before.shuffle),
                bias=node.bias.repeat_interleave(before.shuffle**2),
                shuffle=node.shuffle * before.shuffle,
            )
            # Two shuffles in a row are one only if the channels are ordered for it.
            if node.shuffle == 1 and _conv_cost(moved) < before.shuffle**2 * _conv_cost(node):
                return _replaced(plan, {before.output: replace(before, shuffle=1), node.output: moved})
    return plan


def _conv_cost(node: Conv) -> int:
    """Multiplications per pixel of the input as matrix units spend them: output channels in groups of 16."""
    out, channels, kernel, _ = node.weight.shape
    return math.ceil(out / 16) * 16 * channels * kernel**2


def merge_affines(plan: Plan) -> Plan | None:
    """Two affine maps in a row become one; an identity goes."""
    for node in plan.nodes:
        if isinstance(node, Affine):
            if bool((node.scale == 1).all()) and bool((node.shift == 0).all()):
                return _bypassed(plan, node)
            before = _producer(plan, node.input)
            if isinstance(before, Affine):
                merged = replace(
                    node,
                    input=before.input,
                    scale=node.scale * before.scale,
                    shift=node.scale * before.shift + node.shift,
                )
                return _replaced(plan, {node.output: merged})
    return None


def affine_after_resize(plan: Plan) -> Plan | None:
    """resize(a x + b) = a resize(x) + b, since interpolation weights sum to 1."""
    for node in plan.nodes:
        before = _producer(plan, node.input)
        if isinstance(node, Resize) and isinstance(before, Affine):
            resized = replace(node, output=f"{node.output}_plain", input=before.input)
            return _replaced(
                plan, {node.output: replace(before, output=node.output, input=resized.output)}, first=[resized]
            )
    return None


def fold_affine_into_next_conv(plan: Plan) -> Plan | None:
    """conv(a x) = conv'(x). A shift is not folded into a padded convolution: the zeros outside are not shifted."""
    for node in plan.nodes:
        before = _producer(plan, node.input)
        if isinstance(node, Conv) and isinstance(before, Affine):
            if bool((before.shift != 0).any()) and node.kernel > 1:
                continue
            channels = node.weight.shape[1]
            shift = before.shift.expand(channels) if before.shift.numel() == 1 else before.shift
            bias = node.bias + node.weight.sum((2, 3)) @ shift
            folded = replace(node, input=before.input, weight=node.weight * before.scale.view(1, -1, 1, 1), bias=bias)
            return _replaced(plan, {node.output: folded})
    return None


def fold_affine_into_previous_conv(plan: Plan) -> Plan | None:
    """a (conv(x) + b) + c becomes a convolution; through PReLU and residual where the scale allows it."""
    for node in plan.nodes:
        before = _only_conv_before(plan, node)
        if not isinstance(node, Affine) or before is None or before.clamp:
            continue
        if before.bare:
            channels = before.weight.shape[0]
            scale, shift = node.scale.expand(channels), node.shift.expand(channels)
            folded = replace(
                before,
                output=node.output,
                weight=before.weight * scale.view(-1, 1, 1, 1),
                bias=before.bias * scale + shift,
            )
            return _replaced(plan, {node.output: folded})
        if node.scale.numel() == 1 and not bool(node.shift.any()):
            return _replaced(plan, *_scaled(before, node))
    return None


def _scaled(conv: Conv, node: Affine) -> tuple[dict[str, Node], list[Node]]:
    """``conv`` with its whole result multiplied by the one scale of ``node``."""
    factor = float(node.scale)
    first: list[Node] = []
    residual = conv.residual
    if residual is not None:
        residual = f"{node.output}_residual"
        first.append(Affine(residual, conv.residual or "", node.scale, node.shift))
    homogeneous = conv.act == "none" or (conv.act == "prelu" and factor > 0)
    if homogeneous and conv.gain == 1:
        scaled = replace(conv, weight=conv.weight * factor, bias=conv.bias * factor)
    else:
        scaled = replace(conv, gain=conv.gain * factor)
    return {node.output: replace(scaled, output=node.output, residual=residual)}, first


def absorb_activation(plan: Plan) -> Plan | None:
    """act(conv(x)); a PReLU after a shuffle moves in front of it, its slopes repeated for the channels it came from."""
    for node in plan.nodes:
        conv = _only_conv_before(plan, node)
        if not isinstance(node, Activate) or conv is None:
            continue
        if conv.act == "none" and conv.gain == 1 and not conv.residual and not conv.clamp:
            slope = node.slope
            if slope is not None and slope.numel() > 1:
                slope = slope.repeat_interleave(conv.shuffle**2)
            return _replaced(plan, {node.output: replace(conv, output=node.output, act=node.act, slope=slope)})
    return None


def absorb_shuffle(plan: Plan) -> Plan | None:
    """shuffle(act(conv(x)))."""
    for node in plan.nodes:
        conv = _only_conv_before(plan, node)
        plain = conv is not None and conv.shuffle == 1 and not conv.residual and not conv.clamp
        if isinstance(node, Shuffle) and conv is not None and plain:
            return _replaced(plan, {node.output: replace(conv, output=node.output, shuffle=node.factor)})
    return None


def absorb_residual(plan: Plan) -> Plan | None:
    """conv(x) + y, for the operand that is written last and read nowhere else."""
    for node in plan.nodes:
        if not isinstance(node, Add):
            continue
        order = {n.output: i for i, n in enumerate(plan.nodes)}
        for name in sorted(node.inputs, key=lambda n: order.get(n, -1), reverse=True):
            conv = _producer(plan, name)
            other = node.other if name == node.input else node.input
            if not isinstance(conv, Conv) or conv.residual or conv.clamp or name == other:
                continue
            if len(plan.users(name)) == 1 and name != plan.output:
                # Placed where the sum was: the other operand is written by then.
                return _replaced(plan, {node.output: replace(conv, output=node.output, residual=other)})
    return None


def absorb_clamp(plan: Plan) -> Plan | None:
    """clamp(conv(x))."""
    for node in plan.nodes:
        conv = _only_conv_before(plan, node)
        if isinstance(node, Clamp) and conv is not None and not conv.clamp:
            return _replaced(plan, {node.output: replace(conv, output=node.output, clamp=(node.low, node.high))})
    return None


RULES: tuple[Rewrite, ...] = (
    merge_affines,
    affine_after_resize,
    fold_affine_into_next_conv,
    fold_affine_into_previous_conv,
    absorb_activation,
    absorb_shuffle,
    absorb_residual,
    absorb_clamp,
)


def _producer(plan: Plan, name: str) -> Node | None:
    return next((node for node in plan.nodes if node.output == name), None)


def _only_conv_before(plan: Plan, node: Node) -> Conv | None:
    """The convolution that ``node`` reads first, if nothing else reads it."""
    conv = _producer(plan, node.input)
    if isinstance(conv, Conv) and len(plan.users(conv.output)) == 1 and conv.output != plan.output:
        return conv
    return None


def _replaced(plan: Plan, new: dict[str, Node], first: list[Node] | None = None) -> Plan:
    """The plan with nodes replaced by output name; ``first`` go in front of the first replaced one."""
    nodes: list[Node] = []
    for node in plan.nodes:
        if node.output in new:
            nodes += first or []
            first = None
        nodes.append(new.get(node.output, node))
    return plan.with_nodes(nodes)


def _bypassed(plan: Plan, node: Node) -> Plan:
    """The plan without ``node``, whose readers read its input instead."""
    nodes = [_renamed(n, {node.output: node.input}) for n in plan.nodes if n is not node]
    return plan.with_nodes(nodes, output=node.input if plan.output == node.output else plan.output)


def _renamed(node: Node, names: dict[str, str]) -> Node:
    fields: dict[str, Any] = {
        k: names[v] for k, v in vars(node).items() if k in ("input", "other", "residual") and v in names
    }
    return replace(node, **fields) if fields else node
