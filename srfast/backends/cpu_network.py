"""Parts of a plan as networks for the compiled CPU kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from srfast.backends.cpu_schedule import Layer, chains, overwritten, place, schedule
from srfast.kernels.cpu import Narrow, Network, winograd_fits
from srfast.plan import Conv, Node, Plan, Resize, Shape

# Rows and columns of the outputs that one Winograd tile gives.
TILE = 4
# Channels that are computed together. Wider activations are kept as several images of so many channels: pixels far apart in
# memory would use few of the sets of a cache.
GROUP = 64


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
        self.wanted = [names.index(name) for name in self.outputs]
        self.layers: list[Layer] = []
        self.transformed = [
            node for node in convs if node.output not in self._narrow and uses_winograd(node, shapes, winograd)
        ]
        apart = {name for name in names if self._comes_apart(name, convs, shapes[name].channels)}
        # Of every activation, the numbers of its images in the network; of every layer, how many convolutions it is there.
        self.images: list[list[int]] = []
        self.convs: list[int] = []
        for name, channels in zip(names, self.channels, strict=True):
            io = {"input": name in self.inputs, "output": name in self.outputs}
            count = channels // GROUP if name in apart else 1
            self.images.append([self.network.activation(channels // count, **io) for _ in range(count)])
        for node in convs:
            residual, factor = small.get(node.residual or "", (node.residual, 1))
            self._add(node, names, None if residual is None else names.index(residual), factor)
        self._size: tuple[int, int] = (0, 0)
        self.memory = 0

    def _comes_apart(self, name: str, convs: list[Conv], channels: int) -> bool:
        """Whether an activation becomes several images: only transformed convolutions read them as one."""
        if channels <= GROUP or channels % GROUP or name in (*self.inputs, *self.outputs):
            return False
        writer = next(node for node in convs if node.output == name)
        readers = [node for node in convs if name in node.inputs]
        return (
            all(node in self.transformed and node.residual != name for node in readers)
            and writer.shuffle == 1
            and writer.residual is None
        )

    def _add(self, node: Conv, names: list[str], residual: int | None, factor: int) -> None:
        transformed = node in self.transformed
        inputs, output = tuple(names.index(name) for name in node.sources), names.index(node.output)
        targets = self.images[output]
        size = len(node.bias) // len(targets)
        for i, target in enumerate(targets):
            part = slice(i * size, (i + 1) * size)
            slope = node.slope if node.act == "prelu" else None
            self.network.conv(
                [image for number in inputs for image in self.images[number]],
                target,
                node.weight[part],
                node.bias[part],
                slope=slope if slope is None or slope.numel() == 1 else slope[part],
                shuffle=node.shuffle,
                gain=node.gain,
                residual=None if residual is None else self.images[residual][0],
                residual_factor=factor,
                clamp=node.clamp,
                winograd=transformed,
                narrow=self._narrow.get(node.output),
            )
        self.convs.append(len(targets))
        step = TILE if transformed else 1
        self.layers.append(Layer(inputs, output, residual, node.kernel // 2, step, node.shuffle, factor))

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
        rows = [
            sum(self.network.row_floats(i, w) for i in images) for images, w in zip(self.images, widths, strict=True)
        ]
        order = chains(self.layers, [4 * r * h for r, h in zip(rows, heights, strict=True)], heights, widths)
        plan = schedule(self.layers, heights, list(range(len(self.inputs))), order)
        read = {i for layer in self.layers for i in (*layer.inputs, layer.residual)}
        rings, spans = list(plan.rings), list(plan.spans)
        for i in set(self.wanted) & read:
            # Copied out at the end, so kept whole until then.
            rings[i], spans[i] = heights[i], (spans[i][0], len(plan.steps))
        owners = overwritten(self.layers, plan, heights, self._like(rows), rings, spans)
        sizes = [
            0 if i in self.wanted and i not in read else r * k for i, (r, k) in enumerate(zip(rows, rings, strict=True))
        ]
        offsets, arena = place([0 if owners[i] != i else size for i, size in enumerate(sizes)], tuple(spans))
        self.memory = 4 * arena
        if not apply:
            return
        first_conv = [sum(self.convs[:i]) for i in range(len(self.convs))]
        steps = [
            (layer, step.first, step.last)
            for step in plan.steps
            for layer in (
                range(first_conv[step.layer], first_conv[step.layer] + self.convs[step.layer])
                if step.layer >= 0
                else (step.layer,)
            )
        ]
        places = [
            (self.scales[i], rings[i], offsets[owners[i]] + n * (sizes[i] // len(images)))
            for i, images in enumerate(self.images)
            for n in range(len(images))
        ]
        scales, image_rings, starts = (list(column) for column in zip(*places, strict=True))
        self.network.layout(height, width, scales=scales, rings=image_rings, offsets=starts, arena=arena, steps=steps)
        self._size = (height, width)

    def _like(self, rows: list[int]) -> list[tuple[int, ...]]:
        """What must be equal for two activations to lie in the same memory, pixel upon pixel."""
        before = [max((n.half for n in self.layers if i in n.inputs), default=0) for i in range(len(rows))]
        kept = [i in self.wanted or i < len(self.inputs) for i in range(len(rows))]
        return [
            (i if kept[i] else -1, rows[i], before[i], self.scales[i], len(self.images[i])) for i in range(len(rows))
        ]
