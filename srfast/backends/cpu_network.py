"""Plans as networks for the compiled CPU kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from srfast.backends.cpu_nodes import folded, lowered, operation, uses_winograd
from srfast.backends.cpu_schedule import Layer, chains, place, schedule
from srfast.kernels.cpu import Narrow, Network
from srfast.plan import Conv, Plan

# Rows and columns of the outputs that one Winograd tile gives.
TILE = 4


class CompiledNetwork:
    """A plan for images of any size; memory and schedule are kept for the last size.

    Args:
        plan: in float32.
        winograd: whether transformed convolutions may be used.
        narrow: convolutions in the narrow type of ``instruction_set``, by the name of their output.

    Attributes:
        plan: in the operations of the kernels.
        transformed: its convolutions that go through the Winograd transform.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        winograd: bool,
        narrow: Mapping[str, Narrow] | None = None,
        instruction_set: str | None = None,
    ) -> None:
        self._narrow = dict(narrow or {})
        self.plan = plan = lowered(plan, winograd=winograd, narrow=self._narrow)
        shapes, small = plan.shapes(), folded(plan)
        nodes = [node for node in plan.nodes if node.output not in small]
        names = [plan.input, *(node.output for node in nodes)]
        # Relative to the smallest activation, which below a pool has fewer pixels than the input image.
        self.base = Fraction(min(shapes[name].scale for name in names))
        self.scales = [int(shapes[name].scale / self.base) for name in names]
        self.channels = [shapes[name].channels for name in names]
        self.network = Network(instruction_set)
        number = {
            name: self.network.activation(shapes[name].channels, input=name == plan.input, output=name == plan.output)
            for name in names
        }
        self.output = number[plan.output]
        self.layers: list[Layer] = []
        self.transformed = [
            node
            for node in nodes
            if isinstance(node, Conv) and node.output not in self._narrow and uses_winograd(node, shapes, winograd)
        ]
        for node in nodes:
            if isinstance(node, Conv):
                residual, factor = small.get(node.residual or "", (node.residual, 1))
                self._add_conv(node, number, None if residual is None else number[residual], factor)
            else:
                how = operation(node, shapes[node.input].channels)
                inputs = [number[name] for name in node.inputs]
                how.add(self.network, inputs, number[node.output])
                self.layers.append(
                    Layer(
                        tuple(inputs),
                        number[node.output],
                        None,
                        how.reach,
                        1,
                        how.grow,
                        shrink=how.shrink,
                        whole=how.whole,
                    )
                )
        self._size: tuple[int, int] = (0, 0)
        self.memory = 0

    def _add_conv(self, node: Conv, number: dict[str, int], residual: int | None, factor: int) -> None:
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

    def run(self, images: Tensor, dtype: torch.dtype) -> tuple[Tensor, bool]:
        """[N, H, W, C] float32 or uint8 to [N, s*H, s*W, C'] in ``dtype``, float32 or uint8.

        The second value is False where an uint8 or narrow value stands for NaN or infinity.

        Raises:
            ValueError: the sides are no multiples of the plan's alignment.
        """
        images = images.contiguous()
        count, height, width, _ = images.shape
        unit = self.scales[0]
        if height % unit or width % unit:
            raise ValueError(f"the sides of an image are multiples of {unit} here, not {height} and {width}")
        size = (height // unit, width // unit)
        if size != self._size:
            self._lay_out(*size)
        scale = self.scales[self.output]
        outputs = torch.empty((count, size[0] * scale, size[1] * scale, self.channels[self.output]), dtype=dtype)
        finite = True
        for x, y in zip(images, outputs, strict=True):
            finite &= self.network.run([x], [y], torch.get_num_threads())
        return outputs, finite

    def bytes_per_pixel(self) -> int:
        """Memory for each input pixel of a large window: rings, input and output."""
        height, width = (side // self.scales[0] for side in (1080, 1920))
        self._lay_out(height, width, apply=False)
        tensors = 4 * sum(self.channels[i] * self.scales[i] ** 2 for i in (0, self.output))
        return math.ceil((Fraction(self.memory, height * width) + tensors) / self.scales[0] ** 2)

    def _lay_out(self, height: int, width: int, apply: bool = True) -> None:
        heights = [height * s for s in self.scales]
        widths = [width * s for s in self.scales]
        rows = [self.network.row_floats(i, w) for i, w in enumerate(widths)]
        order = chains(self.layers, [4 * r * h for r, h in zip(rows, heights, strict=True)], heights, widths)
        plan = schedule(self.layers, heights, [0], order)
        # The output goes straight to its tensor: nothing reads it.
        sizes = [0 if i == self.output else r * k for i, (r, k) in enumerate(zip(rows, plan.rings, strict=True))]
        offsets, arena = place(sizes, plan.spans)
        self.memory = 4 * arena
        if not apply:
            return
        steps = [(step.layer, step.first, step.last) for step in plan.steps]
        rings = list(plan.rings)
        self.network.layout(height, width, scales=self.scales, rings=rings, offsets=offsets, arena=arena, steps=steps)
        self._size = (height, width)
