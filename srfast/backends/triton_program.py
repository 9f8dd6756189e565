"""A plan at one size as a list of launches over preallocated canvases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from srfast.kernels.canvas import Canvas
from srfast.kernels.packed_conv import PackedConv, pack_conv
from srfast.kernels.triton_config import Config, PairConfig, conv_key, find_config, find_pair_config, pair_key
from srfast.kernels.triton_conv_launch import FrameTarget, Launch, conv_launch
from srfast.kernels.triton_frames import load_launch, store_launch
from srfast.kernels.triton_pair_launch import pair_launch
from srfast.kernels.triton_pointwise import pointwise_launch
from srfast.kernels.triton_resize import resize_launch
from srfast.kernels.triton_shuffle import shuffle_launch
from srfast.plan import Activate, Add, Affine, Clamp, Conv, Node, Plan, Resize, Shape, Shuffle


@dataclass(frozen=True)
class Step:
    """One launch.

    Attributes:
        node: the plan's node; the second one where two convolutions are one launch.
        reads: activations; a residual may be read before its enlargement.
        conv, config: packed weights of a convolution and how it is cut up.
        first, pair: the convolution in front, where two are one launch.
    """

    node: Node
    reads: tuple[str, ...]
    conv: PackedConv | None = None
    config: Config | None = None
    first: PackedConv | None = None
    pair: PairConfig | None = None

    @property
    def reach(self) -> int:
        """Pixels that the launch reads beyond its own, on each side."""
        return sum(conv.half for conv in (self.first, self.conv) if conv is not None)

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns that a program reads at a time, without ``reach``."""
        if self.pair is not None:
            return self.pair.region_h, self.pair.region_w
        return (1, 1) if self.config is None else self.config.tile


def pack_plan(plan: Plan, names: tuple[str, ...], dtype: torch.dtype, device: torch.device) -> list[Step]:
    """The launches of a plan in order, weights packed; ``names`` select the launch configurations."""
    folded = _folded_residuals(plan)
    pairs = _pairs(plan, names)
    skipped = set(folded) | {first.output for first, _ in pairs.values()}
    steps = []
    for node in plan.nodes:
        if isinstance(node, Conv):
            if node.output in skipped:
                continue
            residual = () if node.residual is None else (folded.get(node.residual, node.residual),)
            if node.output in pairs:
                before, pair = pairs[node.output]
                first, second = (_pack(conv, pair.block_o, dtype, device) for conv in (before, node))
                steps.append(Step(node, (before.input, *residual), second, first=first, pair=pair))
            else:
                config = find_config(names, conv_key(node.weight.shape[1], node.weight.shape[0], node.kernel))
                packed = _pack(node, config.block_o, dtype, device)
                steps.append(Step(node, (node.input, *residual), packed, config))
        elif node.output not in skipped:
            steps.append(Step(node, node.inputs))
    return steps


def _pack(node: Conv, block_o: int, dtype: torch.dtype, device: torch.device) -> PackedConv:
    return pack_conv(
        node.weight,
        node.bias,
        act=node.act,
        slope=node.slope,
        shuffle=node.shuffle,
        gain=node.gain,
        clamp=node.clamp,
        block_o=block_o,
        dtype=dtype,
        device=device,
    )


def _pairs(plan: Plan, names: tuple[str, ...]) -> dict[str, tuple[Conv, PairConfig]]:
    """For the output of a second convolution the first one, where a configuration says that one launch is faster."""
    convs = {node.output: node for node in plan.nodes if isinstance(node, Conv)}
    pairs: dict[str, tuple[Conv, PairConfig]] = {}
    taken: set[str] = set()
    for node in convs.values():
        first = convs.get(node.input)
        if first is None or first.output == plan.output or plan.users(first.output) != [node]:
            continue
        simple = first.shuffle == 1 and first.gain == 1.0 and first.residual is None and first.clamp is None
        if not simple or node.residual == first.output or first.weight.shape[0] <= 8 or first.output in taken:
            continue
        middle, channels, kernel, _ = first.weight.shape
        config = find_pair_config(names, pair_key(channels, kernel, middle, node.kernel, node.weight.shape[0]))
        if config is not None:
            pairs[node.output] = (first, config)
            taken.add(node.output)
    return pairs


def _folded_residuals(plan: Plan) -> dict[str, str]:
    """Nearest enlargements that only residuals read: the convolutions enlarge on the way."""
    folded = {}
    for node in plan.nodes:
        if isinstance(node, Resize) and node.mode == "nearest" and node.output != plan.output:
            users = plan.users(node.output)
            if users and all(isinstance(u, Conv) and u.input != node.output for u in users):
                folded[node.output] = node.input
    return folded


class Program:
    """Canvases and launches for ``images`` images of ``height`` x ``width`` pixels.

    Attributes:
        source: where the input goes.
        body: launches up to the last one, which ``finish`` makes for a target.
    """

    def __init__(
        self,
        plan: Plan,
        steps: list[Step],
        images: int,
        height: int,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._plan = plan
        self._shapes = plan.shapes()
        self._size = (images, height, width)
        self._dtype, self._device = dtype, device
        self._borders = _borders(steps, self._shapes)
        self._free: dict[Shape, list[Canvas]] = {}
        self._canvases = {plan.input: self._allocate(plan.input)}
        self.source = self._canvases[plan.input]
        # The last node writes to whatever target is asked for, unless something else reads it too.
        self._last = steps[-1] if steps and steps[-1].node.output == plan.output else None
        self.body = self._launches(steps[:-1] if self._last else steps)

    def finish(self, target: Canvas) -> Launch:
        """The last launch, into a canvas of the result's shape."""
        if self._last is None:
            result = self._canvases[self._plan.output]
            return pointwise_launch(result, target)
        return self._launch(self._last, target)

    def finish_frames(self, target: FrameTarget) -> list[Launch]:
        """The last launches, into frames."""
        if self._last is not None and self._last.conv is not None:
            return [self._launch(self._last, target)]
        shape, (images, height, width) = self._shapes[self._plan.output], self._size
        scale = shape.scale
        result = Canvas.allocate(
            images, shape.channels, height * scale, width * scale, dtype=self._dtype, device=self._device
        )
        peak = 255 if target.frame.dtype == torch.uint8 else 65535
        pixels = result.nchw().permute(0, 2, 3, 1)
        return [self.finish(result), store_launch(pixels, target.frame, peak / target.units, target.flag)]

    def load(self, frames: Tensor, gain: float) -> Launch:
        """The launch that fills ``source`` from [N, H, W, C] frames times ``gain``."""
        return load_launch(frames, self.source, gain)

    def _launches(self, steps: list[Step]) -> list[Launch]:
        last = {name: i for i, step in enumerate(steps) for name in step.reads}
        if self._last:
            last.update(dict.fromkeys(self._last.reads, len(steps)))
        launches = []
        for i, step in enumerate(steps):
            dead = {name for name in step.reads if last[name] == i and name != self._plan.output}
            inputs = {name: self._canvases[name] for name in step.reads}
            # Point by point a result may replace what it is made of; a convolution reads its input's neighbours.
            reusable = {name for name in dead if _pointwise(step, name, inputs)}
            self._release(reusable)
            target = self._allocate(step.node.output)
            launches.append(self._launch(step, target, inputs))
            self._canvases[step.node.output] = target
            self._release(dead - reusable)
        return launches

    def _release(self, names: set[str]) -> None:
        for name in sorted(names):
            self._free.setdefault(self._shapes[name], []).append(self._canvases.pop(name))

    def _allocate(self, name: str) -> Canvas:
        """A free canvas of the activation's shape, or a new one; each shape has its own zeros around the image."""
        shape, (images, height, width) = self._shapes[name], self._size
        free = self._free.get(shape)
        if free:
            return free.pop()
        border, tile = self._borders.get(shape, (0, (1, 1)))
        size = (height * shape.scale, width * shape.scale)
        return Canvas.allocate(
            images, shape.channels, *size, border=border, tile=tile, dtype=self._dtype, device=self._device
        )

    def _launch(self, step: Step, out: Canvas | FrameTarget, inputs: dict[str, Canvas] | None = None) -> Launch:
        inputs = inputs or self._canvases
        x, node = inputs[step.reads[0]], step.node
        if step.conv is not None:
            residual = inputs[step.reads[1]] if len(step.reads) > 1 else None
            if step.first is not None and step.pair is not None:
                return pair_launch(x, step.first, step.conv, out, step.pair, residual, _programs(self._device))
            assert step.config is not None
            return conv_launch(x, step.conv, out, step.config, residual)
        assert isinstance(out, Canvas)
        return _small_launch(node, x, inputs[step.reads[-1]], out)


def _small_launch(node: Node, x: Canvas, other: Canvas, out: Canvas) -> Launch:
    if isinstance(node, Affine):
        return pointwise_launch(x, out, scale=node.scale, shift=node.shift)
    if isinstance(node, Activate):
        return pointwise_launch(x, out, act=node.act, slope=node.slope)
    if isinstance(node, Clamp):
        return pointwise_launch(x, out, clamp=(node.low, node.high))
    if isinstance(node, Add):
        return pointwise_launch(x, out, other=other)
    if isinstance(node, Shuffle):
        return shuffle_launch(x, out, node.factor)
    assert isinstance(node, Resize)
    return resize_launch(x, out, node.factor, node.mode)


def _pointwise(step: Step, name: str, inputs: dict[str, Canvas]) -> bool:
    """Whether each value of the result depends on the activation's value at the same place only."""
    if isinstance(step.node, Conv):
        same_size = inputs[name].height == inputs[step.reads[0]].height * step.node.shuffle
        return name != step.reads[0] and same_size
    return isinstance(step.node, (Affine, Activate, Clamp, Add))


def _borders(steps: list[Step], shapes: dict[str, Shape]) -> dict[Shape, tuple[int, tuple[int, int]]]:
    """For each shape of activation the border and tile that its readers need."""
    needs: dict[Shape, tuple[int, tuple[int, int]]] = {}
    for step in steps:
        if step.conv is not None:
            shape = shapes[step.reads[0]]
            border, (tile_h, tile_w) = needs.get(shape, (0, (1, 1)))
            tile = (max(tile_h, step.tile[0]), max(tile_w, step.tile[1]))
            needs[shape] = (max(border, step.reach), tile)
    return needs


def _programs(device: torch.device) -> int:
    """Programs that run at once: two for each multiprocessor."""
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
