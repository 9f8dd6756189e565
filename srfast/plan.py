"""The plan: a short list of operations over named activations, the form in which srfast optimises and runs a network.

Activations are images [N, channels, H * scale, W * scale]; each node writes one. A plan is immutable; passes make new
ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

Act = Literal["none", "prelu", "tanh", "sigmoid"]
ResizeMode = Literal["nearest", "bilinear", "bicubic"]
Span: TypeAlias = tuple[int, int]

# Input pixels that an output phase of the resize reads beyond its own, on each side.
_RESIZE_REACH: dict[str, int] = {"nearest": 0, "bilinear": 1, "bicubic": 2}


@dataclass(frozen=True, eq=False)
class Conv:
    """``y = clamp(shuffle(act(conv(x) + bias)) * gain + residual)``; stride 1, zero padding k // 2.

    Attributes:
        weight: [O, C, k, k], k odd.
        bias: [O].
        slope: of the PReLU, [1] or [O]; ReLU is slope 0.
        shuffle: pixel-shuffle factor r; the output has O / (r * r) channels.
        residual: activation of the output's shape, added after the gain.
        clamp: lower and upper bound of the output.
    """

    output: str
    input: str
    weight: Tensor
    bias: Tensor
    act: Act = "none"
    slope: Tensor | None = None
    shuffle: int = 1
    gain: float = 1.0
    residual: str | None = None
    clamp: tuple[float, float] | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,) if self.residual is None else (self.input, self.residual)

    @property
    def kernel(self) -> int:
        return self.weight.shape[-1]

    @property
    def bare(self) -> bool:
        """Nothing but convolution and bias."""
        return self.act == "none" and self.shuffle == 1 and self.gain == 1.0 and not self.residual and not self.clamp


@dataclass(frozen=True, eq=False)
class Affine:
    """``y = scale * x + shift`` per channel ([1] or [C]): batch normalisation, value ranges, constant gains."""

    output: str
    input: str
    scale: Tensor
    shift: Tensor

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Activate:
    """An activation that no convolution has absorbed; ``slope`` as in ``Conv``."""

    output: str
    input: str
    act: Act
    slope: Tensor | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Shuffle:
    """Pixel shuffle: [N, C * r * r, H, W] -> [N, C, r * H, r * W]."""

    output: str
    input: str
    factor: int

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Add:
    """Sum of two activations of one shape."""

    output: str
    input: str
    other: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input, self.other)


@dataclass(frozen=True, eq=False)
class Clamp:
    """Limits every value to ``low``..``high``."""

    output: str
    input: str
    low: float
    high: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


@dataclass(frozen=True, eq=False)
class Resize:
    """Enlarges by a whole factor as ``torch.nn.functional.interpolate`` does (align_corners=False)."""

    output: str
    input: str
    factor: int
    mode: ResizeMode

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


Node: TypeAlias = Conv | Affine | Activate | Shuffle | Add | Clamp | Resize


@dataclass(frozen=True)
class Shape:
    """Channels of an activation, and its pixels per input pixel along one side."""

    channels: int
    scale: int


@dataclass(frozen=True, eq=False)
class Plan:
    """Nodes in order of execution, from activation ``input`` to activation ``output``.

    Args:
        nodes: each name is written once and before it is read.
        input: name of the input image.
        output: name of the result.
        in_channels: channels of the input image.

    Raises:
        ValueError: names or shapes do not fit together.
    """

    nodes: tuple[Node, ...]
    input: str
    output: str
    in_channels: int

    def __post_init__(self) -> None:
        if self.output not in self.shapes():
            raise ValueError(f"plan writes no activation called {self.output!r}")

    def shapes(self) -> dict[str, Shape]:
        """Shape of every activation; checks the whole plan on the way."""
        shapes = {self.input: Shape(self.in_channels, 1)}
        for node in self.nodes:
            missing = [name for name in node.inputs if name not in shapes]
            if missing:
                raise ValueError(f"{node.output!r} reads {missing[0]!r}, which is not written before it")
            if node.output in shapes:
                raise ValueError(f"activation {node.output!r} is written twice")
            shapes[node.output] = _shape_of(node, shapes)
        return shapes

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along one side."""
        return self.shapes()[self.output].scale

    @property
    def out_channels(self) -> int:
        return self.shapes()[self.output].channels

    def halo(self, grid: Callable[[Conv], int] = lambda node: 1) -> int:
        """Receptive field: how many input pixels beyond a region, on each side, its output depends on.

        Args:
            grid: rows and columns of the blocks, aligned with the image, that a convolution computes at once; the rounding of
                each of their pixels depends on all pixels that the block reads. The region is then aligned to the largest.
        """
        scale = self.scale
        unit = max((grid(node) for node in self.nodes if isinstance(node, Conv)), default=1)
        spans: dict[str, Span] = {self.output: (0, unit * scale)}
        for node in reversed(self.nodes):
            if node.output in spans:
                block = grid(node) if isinstance(node, Conv) else 1
                for name, span in zip(node.inputs, _reads(node, spans[node.output], block), strict=True):
                    low, high = spans.get(name, span)
                    spans[name] = (min(low, span[0]), max(high, span[1]))
        low, high = spans.get(self.input, (0, unit))
        return max(-low, high - unit)

    def flops(self, height: int, width: int) -> int:
        """Floating-point operations of the convolutions for one [height, width] input (2 per multiply-add)."""
        shapes = self.shapes()
        pixels = height * width
        return sum(
            2 * node.weight.numel() * shapes[node.input].scale ** 2 * pixels
            for node in self.nodes
            if isinstance(node, Conv)
        )

    def traffic(self, height: int, width: int, element_size: int) -> int:
        """Bytes of activations read and written if every node goes through memory, plus the weights once."""
        shapes, total = self.shapes(), 0
        for node in self.nodes:
            total += sum(_elements(shapes[name], height, width) for name in (*node.inputs, node.output))
            total += node.weight.numel() if isinstance(node, Conv) else 0
        return total * element_size

    def peak_elements(self) -> Fraction:
        """Largest number of live activation elements per input pixel, over the run of the plan."""
        shapes = self.shapes()
        last = {name: i for i, node in enumerate(self.nodes) for name in node.inputs}
        live, peak = {self.input}, Fraction(0)
        for i, node in enumerate(self.nodes):
            live.add(node.output)
            peak = max(peak, Fraction(sum(_elements(shapes[name], 1, 1) for name in live)))
            live -= {name for name in live if last.get(name, -1) <= i and name != self.output and name != node.output}
        return peak

    def users(self, name: str) -> list[Node]:
        """Nodes that read the activation."""
        return [node for node in self.nodes if name in node.inputs]

    def with_nodes(self, nodes: list[Node], output: str | None = None) -> Plan:
        """The plan with other nodes, less those that the output does not need."""
        output = output or self.output
        needed, kept = {output}, []
        for node in reversed(nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        return replace(self, nodes=tuple(reversed(kept)), output=output)

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Plan:
        """The plan with every weight, bias, slope, scale and shift replaced by ``function`` of it."""
        return replace(self, nodes=tuple(_map_node(node, function) for node in self.nodes))

    def __str__(self) -> str:
        """A table with one line for each node."""
        shapes = self.shapes()
        rows = [("output", "operation", "reads", "channels", "x", "kFLOP/px")]
        for node in self.nodes:
            work = 2 * node.weight.numel() * shapes[node.input].scale ** 2 / 1e3 if isinstance(node, Conv) else 0
            shape = shapes[node.output]
            reads = ", ".join(node.inputs)
            rows.append((node.output, _describe(node), reads, str(shape.channels), str(shape.scale), f"{work:.1f}"))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        total = self.flops(1, 1) / 1e6
        lines.append(
            f"scale {self.scale}, receptive field {self.halo()} px each side, {total:.3f} MFLOP per input pixel"
        )
        return "\n".join(lines)


def _shape_of(node: Node, shapes: dict[str, Shape]) -> Shape:
    source = shapes[node.input]
    if isinstance(node, Conv):
        return _conv_shape(node, shapes)
    if isinstance(node, Shuffle):
        if source.channels % node.factor**2:
            raise ValueError(f"{node.output!r} shuffles {source.channels} channels by {node.factor}")
        return Shape(source.channels // node.factor**2, source.scale * node.factor)
    if isinstance(node, Resize):
        return Shape(source.channels, source.scale * node.factor)
    if isinstance(node, Add) and shapes[node.other] != source:
        raise ValueError(f"{node.output!r} adds {source} and {shapes[node.other]}")
    for values in _vectors(node):
        if values.ndim != 1 or values.numel() not in (1, source.channels):
            raise ValueError(f"{node.output!r} has {list(values.shape)} values for {source.channels} channels")
    return source


def _conv_shape(node: Conv, shapes: dict[str, Shape]) -> Shape:
    source = shapes[node.input]
    out, channels, kernel, width = node.weight.shape
    if channels != source.channels or kernel != width or kernel % 2 == 0 or node.bias.shape != (out,):
        raise ValueError(
            f"{node.output!r}: weight {list(node.weight.shape)} and bias {list(node.bias.shape)} "
            f"on {source.channels} channels"
        )
    if node.act == "prelu" and (node.slope is None or node.slope.shape not in ((1,), (out,))):
        raise ValueError(f"{node.output!r}: a PReLU of {out} channels needs 1 or {out} slopes")
    if out % node.shuffle**2:
        raise ValueError(f"{node.output!r} shuffles {out} channels by {node.shuffle}")
    shape = Shape(out // node.shuffle**2, source.scale * node.shuffle)
    if node.residual is not None and shapes[node.residual] != shape:
        raise ValueError(f"{node.output!r} of {shape} adds the residual {node.residual!r} of {shapes[node.residual]}")
    return shape


def _reads(node: Node, span: Span, block: int = 1) -> list[Span]:
    """Pixels of each input that the output's pixels ``span`` (first, one past last) depend on, in one direction."""
    low, high = span
    if isinstance(node, Conv):
        half = node.kernel // 2
        step = node.shuffle * block
        source = (low // step * block - half, -(-high // step) * block + half)
        return [source] if node.residual is None else [source, span]
    if isinstance(node, Shuffle):
        return [(low // node.factor, -(-high // node.factor))]
    if isinstance(node, Resize):
        reach = _RESIZE_REACH[node.mode]
        return [(low // node.factor - reach, -(-high // node.factor) + reach)]
    return [span for _ in node.inputs]


def _elements(shape: Shape, height: int, width: int) -> int:
    return shape.channels * shape.scale**2 * height * width


def _vectors(node: Node) -> list[Tensor]:
    if isinstance(node, Affine):
        return [node.scale, node.shift]
    if isinstance(node, Activate) and node.slope is not None:
        return [node.slope]
    return []


def _map_node(node: Node, function: Callable[[Tensor], Tensor]) -> Node:
    tensors: dict[str, Any] = {
        name: function(value) for name, value in vars(node).items() if isinstance(value, torch.Tensor)
    }
    return replace(node, **tensors) if tensors else node


def _describe(node: Node) -> str:
    if not isinstance(node, Conv):
        details = {
            k: v for k, v in vars(node).items() if isinstance(v, (int, float, str)) and k not in ("input", "output")
        }
        return " ".join([type(node).__name__.lower(), *(str(v) for k, v in details.items() if k != "other")])
    parts = [f"conv {node.kernel}x{node.kernel}"]
    if node.act != "none":
        per_channel = node.slope is not None and node.slope.numel() > 1
        parts.append(node.act + ("/channel" if per_channel else ""))
    parts += [f"shuffle {node.shuffle}"] if node.shuffle > 1 else []
    parts += [f"gain {node.gain:g}"] if node.gain != 1 else []
    parts += ["+residual"] if node.residual else []
    parts += [f"clamp {node.clamp[0]:g}..{node.clamp[1]:g}"] if node.clamp else []
    return " ".join(parts)
