"""Plans as networks for the compiled CPU kernels, and the executable that runs one."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from srfast._one_thread import converted
from srfast.backends.base import FrameExecutable, TilingTraits, enlarged_residuals
from srfast.backends.cpu.lower import MovedUnshuffle, algorithm_of, lowered, squares_read
from srfast.backends.cpu.operations import operation
from srfast.backends.cpu.schedule import Layer, chains, schedule
from srfast.kernels.cpu import Network, Step, tile_side
from srfast.kernels.int8 import LowPrecision
from srfast.plan import ChannelGate, Conv, Node, Plan

# Channels that are computed together. Wider activations are kept as several images of so many channels: pixels far apart in
# memory would use few of the sets of a cache.
GROUP = 64


class CompiledNetwork:
    """A plan for images of any size; memory and schedule are kept for the last size. Threads that call it take turns.

    Args:
        plan: in float32.
        winograd: whether transformed convolutions may be used (Winograd's transform, or Fourier's for large kernels).
        lowp: convolutions in the low-precision type of ``instruction_set``, by the name of their output.

    Attributes:
        plan: in the operations of the kernels.
        algorithms: how its convolutions are computed, by their outputs; see ``lower.algorithm_of``.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        winograd: bool,
        lowp: Mapping[str, LowPrecision] | None = None,
        instruction_set: str | None = None,
    ) -> None:
        self._lowp = dict(lowp or {})
        self.plan = plan = lowered(plan, winograd=winograd, lowp=self._lowp)
        shapes, small = plan.shapes(), enlarged_residuals(plan)
        self._squares = squares_read(plan, shapes, self._lowp)
        # What convolutions make on the way is nowhere in memory.
        nodes = [node for node in plan.nodes if node.output not in small and node.output not in self._squares]
        names = [plan.input, *(node.output for node in nodes)]
        # Whole numbers: relative to an activation of which each has whole multiples, as small as below a pool or smaller.
        exact = [Fraction(shapes[name].scale) for name in names]
        # Squares are nowhere in memory, but the convolutions that read them run over whole ones.
        parts = math.lcm(*(Fraction(shapes[name].scale).denominator for name in [*names, *self._squares]))
        self.scales = [int(scale * parts) for scale in exact]
        self.channels = [shapes[name].channels for name in names]
        self.network = Network(instruction_set)
        self.output = names.index(plan.output)
        self.layers: list[Layer] = []
        self.algorithms = {
            node.output: algorithm_of(node, shapes) if winograd and node.output not in self._lowp else "direct"
            for node in nodes
            if isinstance(node, Conv)
        }
        # Of every activation, the numbers of its images in the network; of every layer, its first step there and its steps.
        self.images: list[list[int]] = []
        self.convs: list[range] = []
        for name, channels in zip(names, self.channels, strict=True):
            io = {"input": name == plan.input, "output": name == plan.output}
            count = channels // GROUP if self._comes_apart(name, nodes, channels) else 1
            self.images.append([self.network.activation(channels // count, **io) for _ in range(count)])
        for node in nodes:
            first = self.convs[-1].stop if self.convs else 0
            self.convs.append(range(first, first + len(self.images[names.index(node.output)])))
            if isinstance(node, Conv):
                residual, factor = small.get(node.residual or "", (node.residual, 1))
                self._add_conv(node, names, None if residual is None else names.index(residual), factor)
            else:
                self._add_operation(node, names)
        self._insets = [
            (self.scales[names.index(node.input)], sum(node.inset)) for node in nodes if isinstance(node, ChannelGate)
        ]
        self._size: tuple[int, int] = (0, 0)
        self._turn = threading.Lock()  # whose are the memory and the schedule

    def _comes_apart(self, name: str, nodes: list[Node], channels: int) -> bool:
        """Whether an activation becomes several images: only transformed convolutions read them as one."""
        if channels <= GROUP or channels % GROUP or name in (self.plan.input, self.plan.output):
            return False
        writer = self.plan.producers[name]
        readers = [node for node in nodes if name in node.inputs]
        # What shuffles channels, adds images or looks at whole pixels would have to know of the parts.
        return (
            all(
                self.algorithms[node.output] != "direct" and node.residual != name
                for node in readers
                if isinstance(node, Conv)
            )
            and all(isinstance(node, Conv) for node in readers)
            and isinstance(writer, Conv)
            and writer.shuffle == 1
            and writer.residual is None
        )

    def _add_operation(self, node: Node, names: list[str]) -> None:
        inputs, output = [names.index(name) for name in node.inputs], names.index(node.output)
        how = operation(node, self.channels[inputs[0]])
        how.add(self.network, [self.images[i][0] for i in inputs], self.images[output][0])
        self.layers.append(
            Layer(tuple(inputs), output, None, how.reach, 1, how.grow, shrink=how.shrink, whole=how.whole)
        )

    def _add_conv(self, node: Conv, names: list[str], residual: int | None, factor: int) -> None:
        algorithm = self.algorithms[node.output]
        squares = self._squares.get(node.input)
        sources, weight, stride = node.sources, node.weight, 1
        if squares is not None:
            sources, stride = (squares.input,), squares.factor
            weight = weight.reshape(len(node.bias), -1, stride, stride)
        offset = squares.offset if isinstance(squares, MovedUnshuffle) else 0
        inputs, output = tuple(names.index(name) for name in sources), names.index(node.output)
        targets = self.images[output]
        size = len(node.bias) // len(targets)
        for i, target in enumerate(targets):
            part = slice(i * size, (i + 1) * size)
            slope = node.slope if node.act == "prelu" else None
            self.network.conv(
                [image for number in inputs for image in self.images[number]],
                target,
                weight[part],
                node.bias[part],
                act=node.act,
                slope=slope if slope is None or slope.numel() == 1 else slope[part],
                shuffle=node.shuffle,
                stride=stride,
                offset=offset,
                gain=node.gain,
                residual=None if residual is None else self.images[residual][0],
                residual_factor=factor,
                clamp=node.clamp,
                algorithm=algorithm,
                lowp=self._lowp.get(node.output),
            )
        step, reach = tile_side(algorithm, node.kernel), abs(offset) if stride > 1 else node.kernel // 2
        self.layers.append(Layer(inputs, output, residual, reach, step, node.shuffle, factor, shrink=stride))

    def run(self, images: Tensor, dtype: torch.dtype, bgr: bool = False) -> tuple[Tensor, bool]:
        """[N, H, W, C] float32, uint8 or uint16 to [N, s*H, s*W, C'] in ``dtype``, one of these; white of uint16 is the network's
        255.

        The second value is False where an integer or low-precision value stands for NaN or infinity. With ``bgr`` the channels,
        in and out, are in the reverse of the network's order.

        Raises:
            ValueError: the sides are no multiples of the plan's alignment, or have nothing inside a gate's inset.
        """
        count, height, width, _ = images.shape
        unit = self.scales[0]
        if height % unit or width % unit:
            raise ValueError(f"the sides of an image are multiples of {unit} here, not {height} and {width}")
        size = (height // unit, width // unit)
        if any(min(size) * scale <= inset for scale, inset in self._insets):
            raise ValueError(f"an image of {width}x{height} has nothing inside the border that its means leave out")
        scale = self.scales[self.output]
        outputs = torch.empty(
            (count, size[0] * scale, size[1] * scale, self.channels[self.output]), dtype=dtype, device="cpu"
        )
        finite = True
        with self._turn:
            # A video has one size, so the layout is made once; several sizes at a time would each want the whole memory.
            if size != self._size:
                self._lay_out(*size)
            # Image by image: the kernels already use every core on one, and two at once would share the caches.
            for x, y in zip(images, outputs, strict=True):
                finite &= self.network.run([x], [y], torch.get_num_threads(), reverse=bgr)
        return outputs, finite

    def working_bytes(self, height: int, width: int) -> int:
        """Memory for all activations of an image of this size but the output."""
        size = (height // self.scales[0], width // self.scales[0])
        return self.network.working_bytes(*size, scales=self._image_scales(), steps=self._steps(*size))

    def bytes_per_pixel(self) -> int:
        """Memory for each input pixel of a large window: activations, input and output."""
        # A strip has the same rows whatever the height, so that in a low image it would weigh more for each pixel.
        height, width = (side // self.scales[0] * self.scales[0] for side in (1080, 1920))
        tensors = 4 * sum(self.channels[i] * self.scales[i] ** 2 for i in (0, self.output))
        memory = Fraction(self.working_bytes(height, width), height * width)
        return math.ceil(memory + Fraction(tensors, self.scales[0] ** 2))

    def _lay_out(self, height: int, width: int) -> None:
        self.network.layout(height, width, scales=self._image_scales(), steps=self._steps(height, width))
        self._size = (height, width)

    def _steps(self, height: int, width: int) -> list[Step]:
        """The steps of an image whose smallest activation has this size."""
        heights = [height * s for s in self.scales]
        widths = [width * s for s in self.scales]
        sizes = [
            4 * h * sum(self.network.row_floats(i, w) for i in images)
            for images, h, w in zip(self.images, heights, widths, strict=True)
        ]
        order = chains(self.layers, sizes, heights, widths)
        return [
            Step(layer, step.first, step.last)
            for step in schedule(self.layers, heights, [0], order)
            # A convolution whose output is several images is as many steps; negative numbers are loads of the input.
            for layer in (self.convs[step.layer] if step.layer >= 0 else [step.layer])
        ]

    def _image_scales(self) -> list[int]:
        return [scale for scale, images in zip(self.scales, self.images, strict=True) for _ in images]


class CompiledExecutable(FrameExecutable):
    """A plan on the compiled kernels, which also read and write integers."""

    def __init__(self, network: CompiledNetwork) -> None:
        self._network = network
        plan = network.plan

        def tile(node: Conv) -> int:
            return tile_side(network.algorithms[node.output], node.kernel)

        # The tile of a transform is computed at once, so that the rounding of each of its pixels depends on all that it reads:
        # windows start at multiples of every layer's tiles.
        alignment = plan.alignment * math.lcm(*(tile(node) for node in plan.nodes if isinstance(node, Conv)))
        memory = network.bytes_per_pixel()
        super().__init__(TilingTraits(alignment, plan.halo(tile), exact=True, bytes_per_pixel=memory))
        self.path = network.network.instruction_set

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        y, finite = self._network.run(converted(x, torch.float32).permute(0, 2, 3, 1), torch.float32)
        # Integers cannot say so themselves.
        return converted(y if finite else y.fill_(math.nan), x.dtype).permute(0, 3, 1, 2)

    @torch.inference_mode()
    def run_frames(self, frames: Tensor, gain: float, white: float, bgr: bool = False) -> tuple[Tensor, Tensor]:
        """As ``FrameExecutable.run_frames``; the result is not overwritten by the next call."""
        peak = float(torch.iinfo(frames.dtype).max)
        if gain * peak == white == 255.0:
            y, finite = self._network.run(frames, frames.dtype, bgr)
            return y, torch.tensor([not finite], device="cpu")
        # The kernels read and write integers only in the network's own 0..255; other ranges go through float32.
        y, finite = self._network.run(frames.float() * gain, torch.float32, bgr)
        # As in ``engine.pixels.finite``, without the second look: a false alarm costs one tile in float32, never a wrong
        # pixel.
        bad = ~torch.isfinite(y.sum(dtype=torch.float32)) | (not finite)
        return (y * (peak / white)).round_().clamp_(0, peak).to(frames.dtype), bad.view(1)
