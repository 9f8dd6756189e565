"""Folding: a plan that is rewritten in place, and the rules that fold nodes into the convolutions before and after them.

Each rule gives an equal, shorter plan; ``RULES`` has them in the order in which ``passes.fuse`` applies them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from srfast.plan import (
    Activate,
    Add,
    Affine,
    Clamp,
    Concat,
    Conv,
    Depthwise,
    Node,
    Plan,
    Pool,
    Resize,
    Shape,
    Shuffle,
    Unshuffle,
)
from srfast.plan.graph import renamed


class Rewriting:
    """The nodes of a plan by the name of what they write.

    Attributes:
        shapes: of every activation.
        output: name of the result.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.output = plan.output
        self.shapes: dict[str, Shape] = dict(plan.shapes())
        self._nodes = {node.output: node for node in plan.nodes}
        self._order = [node.output for node in plan.nodes]
        self._readers: dict[str, set[str]] = {name: set() for name in self.shapes}
        for node in plan.nodes:
            self._read(node)

    def plan(self) -> Plan:
        """The plan as it is now, checked."""
        return self._plan.with_nodes(self.nodes(), output=self.output)

    def nodes(self) -> list[Node]:
        """Those that are left, in order of execution."""
        return [self._nodes[name] for name in self._order if name in self._nodes]

    def get(self, name: str) -> Node | None:
        """The node that writes ``name``; None for the input image and for what nothing reads any more."""
        return self._nodes.get(name)

    def position(self, name: str) -> int:
        """Where in the order of execution the activation is written; -1 for the input image."""
        return self._order.index(name) if name in self._nodes else -1

    def is_read_once(self, name: str) -> bool:
        """Whether one node reads the activation, and it is not the result."""
        return len(self._readers[name]) == 1 and name != self.output

    def only_conv_before(self, node: Node) -> Conv | None:
        """The convolution that ``node`` reads first, if nothing else reads it."""
        conv = self.get(node.input)
        return conv if isinstance(conv, Conv) and self.is_read_once(conv.output) else None

    def put(self, node: Node, first: Sequence[Node] = ()) -> None:
        """Replaces the node that writes the same activation; those of ``first`` are new and go in front of it."""
        before = self._nodes[node.output]
        if first:
            place = self._order.index(node.output)
            self._order[place:place] = [new.output for new in first]
        for new in (*first, node):
            self._nodes[new.output] = new
            # Shapes are kept up to date so that rules can count channels without a new plan.
            self.shapes[new.output] = new.shape(self.shapes)
            self._readers.setdefault(new.output, set())
            self._read(new)
        self._forget(before, node)

    def bypass(self, node: Node) -> None:
        """Takes ``node`` out: its readers read its input instead."""
        # A copy: ``put`` changes the set while it is walked.
        for name in list(self._readers[node.output]):
            self.put(renamed(self._nodes[name], {node.output: node.input}))
        if self.output == node.output:
            self.output = node.input
            self._drop(node.output)

    def _read(self, node: Node) -> None:
        for name in node.inputs:
            self._readers[name].add(node.output)

    def _forget(self, before: Node, after: Node | None) -> None:
        """``before`` is gone, and with it whatever only it needed."""
        kept = () if after is None else after.inputs
        for name in before.inputs:
            if name not in kept:
                self._readers[name].discard(before.output)
                self._drop(name)

    def _drop(self, name: str) -> None:
        if name in self._nodes and not self._readers[name] and name != self.output:
            self._forget(self._nodes.pop(name), None)


# Changes what is before the node or the node itself, and says whether it did.
Rule: TypeAlias = Callable[[Rewriting, Node], bool]


def merge_affines(graph: Rewriting, node: Node) -> bool:
    """Two affine maps in a row become one; an identity goes."""
    if not isinstance(node, Affine):
        return False
    if bool((node.scale == 1).all()) and bool((node.shift == 0).all()):
        graph.bypass(node)
        return True
    before = graph.get(node.input)
    if not isinstance(before, Affine):
        return False
    shift = node.scale * before.shift + node.shift
    graph.put(replace(node, input=before.input, scale=node.scale * before.scale, shift=shift))
    return True


def affine_after_resize(graph: Rewriting, node: Node) -> bool:
    """f(a x + b) = a f(x) + b for whatever moves or averages pixels: weights that sum to 1."""
    before = graph.get(node.input)
    if not isinstance(node, (Resize, Unshuffle, Pool)) or not isinstance(before, Affine):
        return False
    # The largest of a x + b is a times the largest of x only where a is not negative.
    if isinstance(node, Pool) and node.kind == "max" and bool((before.scale < 0).any()):
        return False
    moved = replace(before, output=node.output, input=f"{node.output}_plain")
    if isinstance(node, Unshuffle):
        moved = replace(moved, scale=_repeated(before.scale, node), shift=_repeated(before.shift, node))
    graph.put(moved, first=[replace(node, output=moved.input, input=before.input)])
    return True


def _repeated(values: Tensor, node: Unshuffle) -> Tensor:
    return values if values.numel() == 1 else values.repeat_interleave(node.factor**2)


def absorb_concat(graph: Rewriting, node: Node) -> bool:
    """A convolution (or another concatenation) reads the parts of a concatenation where they are."""
    if not isinstance(node, (Conv, Concat)):
        return False
    parts: list[str] = []
    for name in (node.input, *node.more):
        before = graph.get(name)
        parts += [before.input, *before.more] if isinstance(before, Concat) else [name]
    # Nothing was taken apart: a rule that says True without a change would be asked for ever.
    if len(parts) == 1 + len(node.more):
        return False
    graph.put(replace(node, input=parts[0], more=tuple(parts[1:])))
    return True


def fold_affine_into_next_conv(graph: Rewriting, node: Node) -> bool:
    """conv(a x) = conv'(x). A shift is not folded into a padded convolution: the zeros outside are not shifted."""
    if isinstance(node, Depthwise):
        before = graph.get(node.input)
        if not isinstance(before, Affine) or bool(before.shift.any()):
            return False
        graph.put(replace(node, input=before.input, weight=node.weight * before.scale.view(-1, 1, 1, 1)))
        return True
    if not isinstance(node, Conv):
        return False
    for name in node.sources:
        before = graph.get(name)
        if isinstance(before, Affine) and (node.kernel == 1 or not bool(before.shift.any())):
            graph.put(_with_scaled_source(graph, node, before))
            return True
    return False


def _with_scaled_source(graph: Rewriting, node: Conv, before: Affine) -> Conv:
    """The convolution that reads ``before``'s input in its place."""
    index = node.sources.index(before.output)
    part = _channels_of(graph, node, index) if node.more else slice(None)
    # A constant input b gives every output pixel the sum of the taps times b; without padding at the border,
    # everywhere.
    taps = node.weight[:, part].sum((2, 3))
    bias = node.bias + taps @ before.shift.expand(taps.shape[1])
    weight = node.weight.clone()
    weight[:, part] *= before.scale.view(1, -1, 1, 1)
    sources = [*node.sources[:index], before.input, *node.sources[index + 1 :]]
    return replace(node, input=sources[0], more=tuple(sources[1:]), weight=weight, bias=bias)


def _channels_of(graph: Rewriting, conv: Conv, index: int) -> slice:
    """The input channels of the weights that belong to source ``index``."""
    first = sum(graph.shapes[name].channels for name in conv.sources[:index])
    return slice(first, first + graph.shapes[conv.sources[index]].channels)


def merge_pointwise(graph: Rewriting, node: Node) -> bool:
    """A 1x1 convolution of a bare convolution is one convolution, where that costs less (separable convolutions)."""
    if not isinstance(node, Conv) or node.kernel != 1 or node.more:
        return False
    before = graph.only_conv_before(node) or _separable(graph, node)
    if before is None or not before.bare or node.residual == before.output:
        return False
    mix = node.weight[:, :, 0, 0]
    # The 1x1 mixes channels pixel by pixel, so it acts on the weights of the convolution before it as on its
    # results.
    weight = torch.einsum("om,mchw->ochw", mix, before.weight)
    # A narrow layer in the middle is worth keeping: two thin products cost less than the one they make.
    if weight.numel() > before.weight.numel() + mix.numel():
        return False
    bias = node.bias + mix @ before.bias
    graph.put(replace(node, input=before.input, more=before.more, weight=weight, bias=bias))
    return True


def _separable(graph: Rewriting, node: Conv) -> Conv | None:
    """A depthwise convolution that only this 1x1 convolution reads, as a dense one, where the two are better one.

    That is where the kernel is small, for which dense convolutions have their fastest forms, or one of the two has so few
    channels that it would fill no vector. The multiplications of larger kernels grow by more than those forms save.
    """
    before = graph.get(node.input)
    if not isinstance(before, Depthwise) or before.act != "none" or not graph.is_read_once(before.output):
        return None
    return before.dense() if before.kernel <= 3 or min(node.weight.shape[:2]) < 16 else None


def fold_affine_into_previous_conv(graph: Rewriting, node: Node) -> bool:
    """a (conv(x) + b) + c becomes a convolution; through PReLU and residual where the scale allows it."""
    depthwise = graph.get(node.input) if isinstance(node, Affine) else None
    if isinstance(node, Affine) and isinstance(depthwise, Depthwise):
        if depthwise.act != "none" or not graph.is_read_once(depthwise.output):
            return False
        weight, bias = depthwise.weight * node.scale.view(-1, 1, 1, 1), depthwise.bias * node.scale + node.shift
        graph.put(replace(depthwise, output=node.output, weight=weight, bias=bias))
        return True
    before = graph.only_conv_before(node) if isinstance(node, Affine) else None
    if not isinstance(node, Affine) or before is None or before.clamp:
        return False
    before = _with_own_residual(graph, before)
    if before.bare:
        channels = before.weight.shape[0]
        scale, shift = node.scale.expand(channels), node.shift.expand(channels)
        weight = before.weight * scale.view(-1, 1, 1, 1)
        graph.put(replace(before, output=node.output, weight=weight, bias=before.bias * scale + shift))
        return True
    # Past an activation and a residual only one positive factor for all channels commutes.
    if node.scale.numel() == 1 and not bool(node.shift.any()):
        graph.put(*_scaled(before, node))
        return True
    return False


def _with_own_residual(graph: Rewriting, conv: Conv) -> Conv:
    """conv(x) * gain + x as one convolution: x enters at the middle tap. Frees the residual of a dense block for another."""
    if conv.residual not in conv.sources or conv.act != "none" or conv.shuffle != 1:
        return conv
    index = conv.sources.index(conv.residual)
    first = _channels_of(graph, conv, index).start if index else 0
    weight, middle = conv.weight * conv.gain, conv.kernel // 2
    rows = torch.arange(weight.shape[0])
    # The identity as a convolution: a one in the middle of the kernel, from each channel to itself.
    weight[rows, rows + first, middle, middle] += 1
    return replace(conv, weight=weight, bias=conv.bias * conv.gain, gain=1.0, residual=None)


def _scaled(conv: Conv, node: Affine) -> tuple[Node, list[Node]]:
    """``conv`` with its whole result multiplied by the one scale of ``node``, and what has to come before it."""
    factor = float(node.scale)
    first: list[Node] = []
    residual = conv.residual
    if residual is not None:
        residual = f"{node.output}_residual"
        first.append(Affine(residual, conv.residual or "", node.scale, node.shift))
    # act(f x) = f act(x) for a positive f: the factor goes into the weights instead of a multiplication per pixel.
    homogeneous = conv.act == "none" or (conv.act == "prelu" and factor > 0)
    if homogeneous and conv.gain == 1:
        scaled = replace(conv, weight=conv.weight * factor, bias=conv.bias * factor)
    else:
        scaled = replace(conv, gain=conv.gain * factor)
    return replace(scaled, output=node.output, residual=residual), first


def absorb_activation(graph: Rewriting, node: Node) -> bool:
    """act(conv(x)); a PReLU after a shuffle moves in front of it, its slopes repeated for the channels it came from."""
    if not isinstance(node, Activate):
        return False
    depthwise = graph.get(node.input)
    if isinstance(depthwise, Depthwise) and depthwise.act == "none" and graph.is_read_once(depthwise.output):
        graph.put(replace(depthwise, output=node.output, act=node.act, slope=node.slope))
        return True
    conv = graph.only_conv_before(node)
    if conv is None or conv.act != "none" or conv.gain != 1 or conv.residual or conv.clamp:
        return False
    slope = node.slope
    if slope is not None and slope.numel() > 1:
        # The shuffle makes r x r pixels of channels c r^2 to c r^2 + r^2 - 1, which all get channel c's slope.
        slope = slope.repeat_interleave(conv.shuffle**2)
    graph.put(replace(conv, output=node.output, act=node.act, slope=slope))
    return True


def absorb_shuffle(graph: Rewriting, node: Node) -> bool:
    """shuffle(act(conv(x)))."""
    conv = graph.only_conv_before(node) if isinstance(node, Shuffle) else None
    if not isinstance(node, Shuffle) or conv is None or conv.shuffle != 1 or conv.residual or conv.clamp:
        return False
    graph.put(replace(conv, output=node.output, shuffle=node.factor))
    return True


def absorb_residual(graph: Rewriting, node: Node) -> bool:
    """conv(x) + y, for the operand that is written last and read nowhere else."""
    if not isinstance(node, Add) or node.input == node.other:
        return False
    # The later operand first: the earlier one is then in memory when the convolution adds it.
    for name in sorted(node.inputs, key=graph.position, reverse=True):
        conv = graph.get(name)
        if isinstance(conv, Conv) and not conv.residual and not conv.clamp and graph.is_read_once(name):
            # Placed where the sum was: the other operand is written by then.
            other = node.other if name == node.input else node.input
            graph.put(replace(conv, output=node.output, residual=other))
            return True
    return False


def absorb_clamp(graph: Rewriting, node: Node) -> bool:
    """clamp(conv(x))."""
    conv = graph.only_conv_before(node) if isinstance(node, Clamp) else None
    if not isinstance(node, Clamp) or conv is None or conv.clamp:
        return False
    graph.put(replace(conv, output=node.output, clamp=(node.low, node.high)))
    return True


# In this order: what moves an affine map towards a convolution comes before what folds it in, and activations come
# before the shuffles and residuals that close a convolution to them.
RULES: tuple[Rule, ...] = (
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
