"""Passes: pure functions from a plan to an equal, shorter or cheaper one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from srfast.models.subpixel import conv_before_shuffle
from srfast.plan import Activate, Add, Affine, Clamp, Concat, Conv, Node, Plan, Pool, Resize, Shuffle, Unshuffle

Rewrite = Callable[[Plan], Plan | None]


def optimise(plan: Plan) -> Plan:
    """Folds and fuses in float64 until nothing changes, then rewrites the tail where that is cheaper; float32 out."""
    plan = plan.map_tensors(lambda t: t.detach().double())
    plan = rewrite_subpixel_tail(fuse(plan))
    return plan.map_tensors(lambda t: t.float().contiguous())


def fuse(plan: Plan) -> Plan:
    """Applies every folding rule to a fixed point: each one as often as it fits, until a round changes nothing."""
    before = None
    while plan is not before:
        before = plan
        for rule in RULES:
            changed = rule(plan)
            while changed is not None:
                plan, changed = changed, rule(changed)
    return replace(plan)  # checked as a whole; the steps between are not


def in_units(plan: Plan, input_peak: float, output_peak: float) -> Plan:
    """The plan for images whose white is ``input_peak`` in and ``output_peak`` out, instead of 1, folded into the weights.

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
            and not node.more
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
    """f(a x + b) = a f(x) + b for whatever moves or averages pixels: weights that sum to 1."""
    for node in plan.nodes:
        before = _producer(plan, node.input)
        if isinstance(node, (Resize, Unshuffle, Pool)) and isinstance(before, Affine):
            moved = replace(before, output=node.output, input=f"{node.output}_plain")
            if isinstance(node, Pool) and node.kind == "max" and bool((before.scale < 0).any()):
                continue
            if isinstance(node, Unshuffle):
                moved = replace(moved, scale=_repeated(before.scale, node), shift=_repeated(before.shift, node))
            plain = replace(node, output=moved.input, input=before.input)
            return _replaced(plan, {node.output: moved}, first=[plain])
    return None


def _repeated(values: Tensor, node: Unshuffle) -> Tensor:
    return values if values.numel() == 1 else values.repeat_interleave(node.factor**2)


def absorb_concat(plan: Plan) -> Plan | None:
    """A convolution (or another concatenation) reads the parts of a concatenation where they are."""
    for node in plan.nodes:
        if isinstance(node, (Conv, Concat)):
            parts: list[str] = []
            for name in (node.input, *node.more):
                before = _producer(plan, name)
                parts += [before.input, *before.more] if isinstance(before, Concat) else [name]
            if len(parts) > 1 + len(node.more):
                return _replaced(plan, {node.output: replace(node, input=parts[0], more=tuple(parts[1:]))})
    return None


def fold_affine_into_next_conv(plan: Plan) -> Plan | None:
    """conv(a x) = conv'(x). A shift is not folded into a padded convolution: the zeros outside are not shifted."""
    for node in plan.nodes:
        for name in node.sources if isinstance(node, Conv) else ():
            before = _producer(plan, name)
            if (
                isinstance(node, Conv)
                and isinstance(before, Affine)
                and (node.kernel == 1 or not bool(before.shift.any()))
            ):
                return _replaced(plan, {node.output: _with_scaled_source(plan, node, before)})
    return None


def _with_scaled_source(plan: Plan, node: Conv, before: Affine) -> Conv:
    """The convolution that reads ``before``'s input in its place."""
    index = node.sources.index(before.output)
    part = _channels_of(plan, node, index) if node.more else slice(None)
    taps = node.weight[:, part].sum((2, 3))
    bias = node.bias + taps @ before.shift.expand(taps.shape[1])
    weight = node.weight.clone()
    weight[:, part] *= before.scale.view(1, -1, 1, 1)
    sources = [*node.sources[:index], before.input, *node.sources[index + 1 :]]
    return replace(node, input=sources[0], more=tuple(sources[1:]), weight=weight, bias=bias)


def _channels_of(plan: Plan, conv: Conv, index: int) -> slice:
    """The input channels of the weights that belong to source ``index``."""
    shapes = plan.shapes()
    first = sum(shapes[name].channels for name in conv.sources[:index])
    return slice(first, first + shapes[conv.sources[index]].channels)


def merge_pointwise(plan: Plan) -> Plan | None:
    """A 1x1 convolution of a bare convolution is one convolution, where that costs less (separable convolutions)."""
    for node in plan.nodes:
        before = _only_conv_before(plan, node)
        if isinstance(node, Conv) and node.kernel == 1 and not node.more and before is not None and before.bare:
            mix = node.weight[:, :, 0, 0]
            weight = torch.einsum("om,mchw->ochw", mix, before.weight)
            if weight.numel() <= before.weight.numel() + mix.numel() and node.residual != before.output:
                merged = replace(
                    node, input=before.input, more=before.more, weight=weight, bias=node.bias + mix @ before.bias
                )
                return _replaced(plan, {node.output: merged})
    return None


def fold_affine_into_previous_conv(plan: Plan) -> Plan | None:
    """a (conv(x) + b) + c becomes a convolution; through PReLU and residual where the scale allows it."""
    for node in plan.nodes:
        before = _only_conv_before(plan, node)
        if not isinstance(node, Affine) or before is None or before.clamp:
            continue
        before = _with_own_residual(plan, before)
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


def _with_own_residual(plan: Plan, conv: Conv) -> Conv:
    """conv(x) * gain + x as one convolution: x enters at the middle tap. Frees the residual of a dense block for another."""
    if conv.residual not in conv.sources or conv.act != "none" or conv.shuffle != 1:
        return conv
    index = conv.sources.index(conv.residual)
    first = _channels_of(plan, conv, index).start if index else 0
    weight, middle = conv.weight * conv.gain, conv.kernel // 2
    rows = torch.arange(weight.shape[0])
    weight[rows, rows + first, middle, middle] += 1
    return replace(conv, weight=weight, bias=conv.bias * conv.gain, gain=1.0, residual=None)


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
        if not isinstance(node, Activate) or conv is None or node.act == "silu" or node.act == "gelu":
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
    absorb_concat,
    merge_pointwise,
    fold_affine_into_next_conv,
    fold_affine_into_previous_conv,
    absorb_activation,
    absorb_shuffle,
    absorb_residual,
    absorb_clamp,
)


def _producer(plan: Plan, name: str) -> Node | None:
    return plan.producers.get(name)


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
    return plan.with_nodes(nodes, check=False)


def _bypassed(plan: Plan, node: Node) -> Plan:
    """The plan without ``node``, whose readers read its input instead."""
    nodes = [_renamed(n, {node.output: node.input}) for n in plan.nodes if n is not node]
    return plan.with_nodes(nodes, output=node.input if plan.output == node.output else plan.output, check=False)


def _renamed(node: Node, names: dict[str, str]) -> Node:
    fields: dict[str, Any] = {
        k: names[v] for k, v in vars(node).items() if k in ("input", "other", "residual") and v in names
    }
    if isinstance(node, (Conv, Concat)):
        fields["more"] = tuple(names.get(name, name) for name in node.more)
    return replace(node, **fields) if fields else node
