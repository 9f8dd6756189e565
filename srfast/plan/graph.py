"""The plan: a short list of operations over named activations, the form in which srfast optimises and runs a network.

Activations are images [N, channels, H * scale, W * scale]; each node writes one. A plan is immutable; passes make new ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from torch import Tensor

from srfast.plan.base import Node
from srfast.plan.nodes import Concat, Conv, Eager, describe, tensors
from srfast.plan.shapes import Ratio, Shape, Span


@dataclass(frozen=True, eq=False)
class Plan:
    """Nodes in order of execution, from activation ``input`` to activation ``output``.

    Args:
        nodes: each name is written once and before it is read.
        input: name of the input image.
        output: name of the result.
        in_channels: channels of the input image.
        border: mirrored pixels that the input image has on each side, beyond the image that is enlarged. The result has them
            as well, ``scale`` times as many, and they mean nothing there.
        multiple: of what the sides of an image have to be multiples for what PyTorch runs.

    Raises:
        ValueError: names or shapes do not fit together.
    """

    nodes: tuple[Node, ...]
    input: str
    output: str
    in_channels: int
    border: int = 0
    multiple: int = 1

    def __post_init__(self) -> None:
        shapes = self.shapes()
        if self.output not in shapes:
            raise ValueError(f"plan writes no activation called {self.output!r}")
        if Fraction(shapes[self.output].scale).denominator > 1:
            raise ValueError(f"the result has {shapes[self.output].scale} pixels per input pixel, not a whole number")

    def shapes(self) -> dict[str, Shape]:
        """Shape of every activation; checks the whole plan on the way."""
        return self._shapes

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        shapes = {self.input: Shape(self.in_channels, 1)}
        for node in self.nodes:
            missing = [name for name in node.inputs if name not in shapes]
            if missing:
                raise ValueError(f"{node.output!r} reads {missing[0]!r}, which is not written before it")
            if node.output in shapes:
                raise ValueError(f"activation {node.output!r} is written twice")
            shapes[node.output] = node.shape(shapes)
        return shapes

    @property
    def scale(self) -> int:
        """Output pixels per input pixel along one side."""
        return int(self.shapes()[self.output].scale)

    @property
    def alignment(self) -> int:
        """Tiles begin at multiples of this many input pixels, and an image has a multiple of it on each side.

        It is above 1 where an activation has fewer pixels than the input: below pools, strided convolutions and
        pixel-unshuffles, which give other values for a window that begins at another phase.
        """
        return math.lcm(self.multiple, *(Fraction(shape.scale).denominator for shape in self.shapes().values()))

    @property
    def blends(self) -> bool:
        """Whether the plan may run in overlapping tiles that are blended, although they are not exact.

        That is so where PyTorch runs a part of it that may look at any pixel; networks of this kind are run so everywhere.
        """
        return any(isinstance(node, Eager) for node in self.nodes)

    @property
    def out_channels(self) -> int:
        """Return the number of channels of the result."""
        return self.shapes()[self.output].channels

    def halo(self, grid: Callable[[Conv], int] = lambda node: 1) -> int | None:
        """Receptive field: how many input pixels beyond a region, on each side, its output depends on.

        The region begins and ends at multiples of ``alignment``, and so does what it reads. None means the whole image,
        however large: a gate or a normalisation averages over it, so that no tile can give the exact result.

        Args:
            grid: rows and columns of the blocks, aligned with the image, that a convolution computes at once; the rounding
                of each of their pixels depends on all pixels that the block reads. The region is then aligned to their
                common multiple times ``alignment``.
        """
        # Backwards from one aligned block of the result to the input pixels that it takes. A block at the phase of the
        # alignment stands for all others: every operation looks the same from each of them.
        unit = self.alignment * math.lcm(*(grid(node) for node in self.nodes if isinstance(node, Conv)))
        spans: dict[str, Span] = {self.output: (0, self.scale * unit)}
        for node in reversed(self.nodes):
            if node.output in spans:
                if node.sees_whole_image:
                    return None
                block = grid(node) if isinstance(node, Conv) else 1
                for name, span in zip(node.inputs, node.reads(spans[node.output], block), strict=True):
                    # An activation that several nodes read needs the union of what they read.
                    low, high = spans.get(name, span)
                    spans[name] = (min(low, span[0]), max(high, span[1]))
        # Rounded up to the alignment, at whose multiples tiles begin.
        low, high = spans.get(self.input, (0, unit))
        return -(-math.ceil(max(-low, high - unit)) // self.alignment) * self.alignment

    def flops(self, height: int, width: int) -> int:
        """Floating-point operations of the convolutions for one [height, width] input (2 per multiply-add)."""
        shapes = self.shapes()
        pixels = height * width
        return int(sum(2 * node.multiply_adds(shapes) * pixels for node in self.nodes))

    def traffic(self, height: int, width: int, element_size: int) -> int:
        """Bytes of activations read and written if every node goes through memory, plus the weights once."""
        shapes, total = self.shapes(), Fraction(0)
        for node in self.nodes:
            total += sum(_elements(shapes[name], height, width) for name in (*node.inputs, node.output))
            total += sum(tensor.numel() for tensor in tensors(node).values())
        return int(total * element_size)

    def peak_elements(self) -> Fraction:
        """Largest number of live activation elements per input pixel, over the run of the plan."""
        shapes = self.shapes()
        last = {name: i for i, node in enumerate(self.nodes) for name in node.inputs}
        live, peak = {self.input}, Fraction(0)
        for i, node in enumerate(self.nodes):
            live.add(node.output)
            peak = max(peak, Fraction(sum(_elements(shapes[name], 1, 1) for name in live)))
            # A result that nobody reads is live for its own step only: the memory is needed while it is written.
            live -= {name for name in live if last.get(name, -1) <= i and name != self.output and name != node.output}
        return peak

    @cached_property
    def producers(self) -> dict[str, Node]:
        """The node that writes each activation."""
        return {node.output: node for node in self.nodes}

    @cached_property
    def _readers(self) -> dict[str, list[Node]]:
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in set(node.inputs):
                readers.setdefault(name, []).append(node)
        return readers

    def users(self, name: str) -> list[Node]:
        """Nodes that read the activation."""
        return self._readers.get(name, [])

    def with_nodes(self, nodes: list[Node], output: str | None = None, check: bool = True) -> Plan:
        """The plan with other nodes, less those that the output does not need.

        ``check`` False leaves out the checks of the whole plan, for a step of many that ends in a checked one.
        """
        output = output or self.output
        needed, kept = {output}, []
        for node in reversed(nodes):
            if node.output in needed:
                needed.update(node.inputs)
                kept.append(node)
        ordered = tuple(reversed(kept))
        if check:
            return replace(self, nodes=ordered, output=output)
        # Past __post_init__, which computes all shapes again.
        plan = object.__new__(Plan)
        vars(plan).update(nodes=ordered, input=self.input, output=output)
        vars(plan).update(in_channels=self.in_channels, border=self.border)
        vars(plan).update(multiple=self.multiple)
        return plan

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Plan:
        """The plan with every weight, bias, slope, scale and shift replaced by ``function`` of it."""

        def mapped(node: Node) -> Node:
            fields: dict[str, Any] = {name: function(tensor) for name, tensor in tensors(node).items()}
            return replace(node, **fields) if fields else node

        return replace(self, nodes=tuple(mapped(node) for node in self.nodes))

    def __str__(self) -> str:
        """A table with one line for each node."""
        shapes = self.shapes()
        rows = [("output", "operation", "reads", "channels", "x", "kFLOP/px")]
        for node in self.nodes:
            work = float(2 * node.multiply_adds(shapes) / 1e3)
            shape = shapes[node.output]
            reads = ", ".join(node.inputs)
            rows.append((node.output, describe(node), reads, str(shape.channels), str(shape.scale), f"{work:.1f}"))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        total = self.flops(1, 1) / 1e6
        halo = self.halo()
        field = "the whole image" if halo is None else f"{halo} px each side"
        border = f", a border of {self.border} px" if self.border else ""
        lines.append(f"scale {self.scale}, receptive field {field}{border}, {total:.3f} MFLOP per input pixel")
        return "\n".join(lines)


def renamed(node: Node, names: dict[str, str]) -> Node:
    """Return the node as it reads other activations: ``names`` has the new names of those that change."""
    fields: dict[str, Any] = {
        k: names[v] for k, v in vars(node).items() if k in ("input", "other", "residual") and v in names
    }
    # The kinds of nodes with a tuple of names; other fields that hold text are no names.
    if isinstance(node, (Conv, Concat, Eager)):
        fields["more"] = tuple(names.get(name, name) for name in node.more)
    return replace(node, **fields) if fields else node


def _elements(shape: Shape, height: int, width: int) -> Ratio:
    return shape.channels * shape.scale**2 * height * width
