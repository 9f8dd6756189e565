"""Parts of a plan as networks for the compiled CPU kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from srfast.backends.cpu_schedule import Layer, chains, place, schedule
from srfast.kernels.cpu import Narrow, Network, winograd_fits
from srfast.plan import Conv, Node, Plan, Resize, Shape

# Rows and columns of the outputs that one Winograd tile gives.
TILE = 4


def is_compiled(plan: Plan, node: Node, winograd: bool) -> bool:
    """Whether the compiled kernels cover the node: direct convolutions do not read several activations."""
    return (
        isinstance(node, Conv)
        and node.act in ("none", "prelu")
        and (not node.more or uses_winograd(node, plan.shapes(), winograd))
    )


def is_folded(plan: Plan, index: int, winograd: bool) -> bool:
    """Whether the node only enlarges the residuals of covered convolutions, which read the small image instead.

    All of them must come before the next node that is not covered, so that they are in the same part.
    """
    node = plan.nodes[index]
    if not isinstance(node, Resize) or node.mode != "nearest" or node.output == plan.output:
        return False
    readers = [i for i, later in enumerate(plan.nodes) if node.output in later.inputs]
    return all(
        is_compiled(plan, later, winograd) or (i not in readers and is_folded(plan, i, winograd))
        for i, later in enumerate(plan.nodes[: readers[-1] + 1])
        if i > index
    ) and all(node.output not in sources(plan.nodes[i]) for i in readers)


def sources(node: Node) -> tuple[str, ...]:
    """What a convolution reads, without its residual."""
    return node.sources if isinstance(node, Conv) else ()


def uses_winograd(node: Conv, shapes: Mapping[str, Shape], winograd: bool) -> bool:
    """Whether a convolution goes through the Winograd transform."""
    return winograd and all(winograd_fits(node.kernel, shapes[name].channels) for name in node.sources)


class CompiledPart:
    """A run of covered nodes, for images of any size; memory and schedule are kept for the last size.

    Args:
        plan: in float32.
        nodes: indices of the part's nodes.
        winograd: whether transformed convolutions may be used.
        narrow: convolutions in the narrow type of ``instruction_set``, by the name of their output.
    """

    def __init__(
        self,
        plan: Plan,
        nodes: range,
        *,
        winograd: bool,
        narrow: Mapping[str, Narrow] | None = None,
        instruction_set: str | None = None,
    ) -> None:
        inside = [plan.nodes[i] for i in nodes]
        written = {node.output for node in inside}
        after = {name for node in plan.nodes[nodes.stop :] for name in node.inputs} | {plan.output}
        shapes = plan.shapes()
        small = {node.output: (node.input, node.factor) for node in inside if isinstance(node, Resize)}
        convs = [node for node in inside if isinstance(node, Conv)]
        read = [small.get(name, (name, 1))[0] for node in convs for name in node.inputs]
        self.inputs = list(dict.fromkeys(name for name in read if name not in written))
        self.outputs = [node.output for node in convs if node.output in after]
        names = [*self.inputs, *(node.output for node in convs)]
        # Relative to the part's smallest activation, which below a pool has fewer pixels than the input image.
        self.base = Fraction(min(shapes[name].scale for name in names))
        self.scales = [int(shapes[name].scale / self.base) for name in names]
        self.channels = [shapes[name].channels for name in names]
        self.network = Network(instruction_set)
        self._narrow = dict(narrow or {})
        number = {
            name: self.network.activation(shapes[name].channels, input=name in self.inputs, output=name in self.outputs)
            for name in names
        }
        self.wanted = [number[name] for name in self.outputs]
        self.layers: list[Layer] = []
        self.transformed = [
            node for node in convs if node.output not in self._narrow and uses_winograd(node, shapes, winograd)
        ]
        for node in convs:
            residual, factor = small.get(node.residual or "", (node.residual, 1))
            self._add(node, number, None if residual is None else number[residual], factor)
        self._size: tuple[int, int] = (0, 0)
        self.memory = 0

    def _add(self, node: Conv, number: dict[str, int], residual: int | None, factor: int) -> None:
        transformed = node in self.transformed
        source, target = tuple(number[name] for name in node.sources), number[node.output]
        self.network.conv(
            source,
            target,
            node.weight,
            node.bias,
            slope=node.slope if node.act == "prelu" else None,
            shuffle=node.shuffle,
            gain=node.gain,
            residual=residual,
            residual_factor=factor,
            clamp=node.clamp,
            winograd=transformed,
            narrow=self._narrow.get(node.output),
        )
        step = TILE if transformed else 1
        self.layers.append(Layer(source, target, residual, node.kernel // 2, step, node.shuffle, factor))

    def __call__(self, values: dict[str, Tensor]) -> None:
        """Reads the part's inputs from ``values`` and adds its outputs."""
        outputs, finite = self.run([values[name].permute(0, 2, 3, 1) for name in self.inputs], torch.float32)
        if not finite:  # narrow integers cannot say so themselves
            outputs = [y.fill_(math.nan) for y in outputs]
        for name, y in zip(self.outputs, outputs, strict=True):
            values[name] = y.permute(0, 3, 1, 2)

    def run(self, images: list[Tensor], dtype: torch.dtype) -> tuple[list[Tensor], bool]:
        """The part's inputs [N, H, W, C], float32 or uint8, to its outputs in ``dtype``, float32 or uint8.

        The second value is False where an uint8 or narrow value stands for NaN or infinity.
        """
        inputs = [image.contiguous() for image in images]
        count, height, width, _ = inputs[0].shape
        size = (height // self.scales[0], width // self.scales[0])
        if size != self._size:
            self._lay_out(*size)
        outputs = [
            torch.empty((count, size[0] * self.scales[i], size[1] * self.scales[i], self.channels[i]), dtype=dtype)
            for i in self.wanted
        ]
        finite = True
        for n in range(count):
            finite &= self.network.run([x[n] for x in inputs], [y[n] for y in outputs], torch.get_num_threads())
        return outputs, finite

    def bytes_per_pixel(self) -> int:
        """Memory for each input pixel of a large window: rings, inputs and outputs."""
        height, width = 1080, 1920
        self._lay_out(height, width, apply=False)
        tensors = 4 * sum(self.channels[i] * self.scales[i] ** 2 for i in [*range(len(self.inputs)), *self.wanted])
        return math.ceil(Fraction(self.memory // (height * width) + tensors) * self.base**2)

    def _lay_out(self, height: int, width: int, apply: bool = True) -> None:
        heights = [height * s for s in self.scales]
        widths = [width * s for s in self.scales]
        rows = [self.network.row_floats(i, w) for i, w in enumerate(widths)]
        order = chains(self.layers, [4 * r * h for r, h in zip(rows, heights, strict=True)], heights, widths)
        plan = schedule(self.layers, heights, list(range(len(self.inputs))), order)
        read = {i for layer in self.layers for i in (*layer.inputs, layer.residual)}
        rings, spans = list(plan.rings), list(plan.spans)
        for i in set(self.wanted) & read:
            # Copied out at the end, so kept whole until then.
            rings[i], spans[i] = heights[i], (spans[i][0], len(plan.steps))
        sizes = [
            0 if i in self.wanted and i not in read else r * k for i, (r, k) in enumerate(zip(rows, rings, strict=True))
        ]
        offsets, arena = place(sizes, tuple(spans))
        self.memory = 4 * arena
        if not apply:
            return
        steps = [(step.layer, step.first, step.last) for step in plan.steps]
        self.network.layout(height, width, scales=self.scales, rings=rings, offsets=offsets, arena=arena, steps=steps)
        self._size = (height, width)
