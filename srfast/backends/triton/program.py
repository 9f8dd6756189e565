"""A plan in Triton: its launches, with weights packed and pairs of convolutions folded together, these at one size over
preallocated canvases, and the executable that keeps them for the last sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor

from srfast.backends.base import enlarged_residuals
from srfast.backends.gpu.buffers import Canvases, Needs, read_from
from srfast.backends.gpu.executable import GpuExecutable
from srfast.backends.gpu.layout import epilogue_of, row_slots
from srfast.backends.triton.ops import IN_PLACE, joined_launches, small_launches
from srfast.kernels.buffers import Canvas
from srfast.kernels.configs import conv_key, device_names, pair_key
from srfast.kernels.launch import compile_all
from srfast.kernels.packing import PackedConv, pack_conv
from srfast.kernels.planes import Planes
from srfast.kernels.targets import PEAKS, FrameTarget, Launch
from srfast.kernels.triton.config import Config, PairConfig, find_config, find_pair_config
from srfast.kernels.triton.conv import conv_launch
from srfast.kernels.triton.frames import load_launch, store_launch
from srfast.kernels.triton.pair import pair_launch
from srfast.kernels.triton.planes import load_planes_launch, store_planes_launch
from srfast.kernels.triton.pointwise import pointwise_launch
from srfast.plan import Conv, Node, Plan, Shape

# Input pixels for each multiprocessor that leave little of it idle: four programs of 128 pixels, one after another.
_FILL = 512
# A convolution by another backend's kernel: its launch, or None where the kernel cannot write that target.
OtherLaunch = Callable[[Canvas, Canvas | FrameTarget, Canvas | None], Launch | None]
# For the output of a second convolution: the first one, and another backend's kernel for both. None as above: then the result
# goes to a canvas first.
OtherPairs = Mapping[str, tuple[Conv, OtherLaunch]]
# For a convolution, its dtype and device: the kernel of another backend that shall run it; None for Triton's own.
OtherKernel = Callable[[Conv, torch.dtype, torch.device], OtherLaunch | None]


class OtherRun(Protocol):
    """Convolutions, each of which reads the one before, that another backend makes together."""

    @property
    def nodes(self) -> tuple[Conv, ...]:
        """Return them in order."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """Return the activations from outside, the input first."""
        ...

    def launches(self, canvases: Canvases, shape: Shape, out: Canvas) -> Sequence[Launch]:
        """Return the launches; ``canvases`` give those of ``reads``, and others of ``shape`` for what lies between."""
        ...


@dataclass(frozen=True)
class Step:
    """One launch.

    Attributes:
        node: the plan's node; the second one where two convolutions are one launch.
        reads: activations; a residual may be read before its enlargement.
        sources: how many of them are, their channels in a row, the input.
        conv, config: packed weights of a convolution and how it is cut up.
        first, pair: the convolution in front, where two are one launch.
        other: the kernel of another backend that runs it instead.
        fused: the same for two convolutions in one launch; then there is nothing packed here.
        run: the same for a run of convolutions, of which ``node`` is the last.
    """

    node: Node
    reads: tuple[str, ...]
    sources: int = 1
    conv: PackedConv | None = None
    config: Config | None = None
    first: PackedConv | None = None
    pair: PairConfig | None = None
    other: OtherLaunch | None = None
    fused: OtherLaunch | None = None
    run: OtherRun | None = None

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


def pack_plan(
    plan: Plan,
    names: tuple[str, ...],
    dtype: torch.dtype,
    device: torch.device,
    other: OtherKernel = lambda node, dtype, device: None,
    gluon: bool = False,
    fused: OtherPairs = MappingProxyType({}),
    runs: Sequence[OtherRun] = (),
) -> list[Step]:
    """The launches of a plan in order, weights packed.

    Args:
        names: select the launch configurations.
        other: tells the kernel of another backend that shall run a convolution.
        gluon: convolutions of 64 channels run in Gluon, where its kernel fits.
        fused: pairs of convolutions that kernels of another backend run.
        runs: of convolutions that another backend makes; none of them is in ``fused``.
    """
    folded = {name: small for name, (small, _) in enlarged_residuals(plan).items()}
    ends = {run.nodes[-1].output: run for run in runs}
    in_runs = {node.output for run in runs for node in run.nodes}
    taken = {*fused, *(first.output for first, _ in fused.values()), *in_runs}
    pairs = {output: pair for output, pair in _pairs(plan, names).items() if not taken & {output, pair[0].output}}
    skipped = {*folded, *(first.output for first, _ in (*pairs.values(), *fused.values())), *(in_runs - set(ends))}
    slots = row_slots([node.sources for node in plan.nodes if isinstance(node, Conv)], plan.shapes())
    steps = []
    for node in plan.nodes:
        if node.output in skipped:
            continue
        if not isinstance(node, Conv):
            steps.append(Step(node, node.inputs))
            continue
        residual = () if node.residual is None else (folded.get(node.residual, node.residual),)
        if node.output in ends:
            run = ends[node.output]
            steps.append(Step(node, run.reads, run=run))
        elif node.output in fused:
            before, launch = fused[node.output]
            steps.append(Step(node, (*before.sources, *residual), len(before.sources), fused=launch))
        elif node.output in pairs:
            before, pair = pairs[node.output]
            first = _pack(before, pair.block_o, before.input in slots, dtype, device)
            second = _pack(node, pair.block_o, False, dtype, device)
            steps.append(Step(node, (before.input, *residual), 1, second, first=first, pair=pair))
        else:
            sources = node.sources
            config = find_config(names, conv_key(node.weight.shape[1], node.weight.shape[0], node.kernel))
            if gluon and tuple(node.weight.shape) == (64, 64, 3, 3):
                config = replace(config, gluon=True, block_o=64)  # in blocks as its kernel reads the weights
            packed = _pack(node, config.block_o, sources[0] in slots, dtype, device)
            reads = (*sources, *residual)
            steps.append(Step(node, reads, len(sources), packed, config, other=other(node, dtype, device)))
    return steps


def _pack(node: Conv, block_o: int, exact: bool, dtype: torch.dtype, device: torch.device) -> PackedConv:
    fields = epilogue_of(node)
    return pack_conv(node.weight, node.bias, **fields, block_o=block_o, exact=exact, dtype=dtype, device=device)


def _pairs(plan: Plan, names: tuple[str, ...]) -> dict[str, tuple[Conv, PairConfig]]:
    """For the output of a second convolution the first one, where a configuration says that one launch is faster.

    From the end on: of a chain, the widest activation is the one before the last convolution.
    """
    convs = {node.output: node for node in plan.nodes if isinstance(node, Conv) and len(node.sources) == 1}
    pairs: dict[str, tuple[Conv, PairConfig]] = {}
    taken: set[str] = set()
    for node in reversed(convs.values()):
        first = convs.get(node.input)
        if first is None or node.output in taken or first.output == plan.output or plan.users(first.output) != [node]:
            continue
        simple = first.shuffle == 1 and first.gain == 1.0 and first.residual is None and first.clamp is None
        # The pair kernel knows none of these between the two; weights for up to 8 channels are packed in another order.
        if not simple or node.residual == first.output or first.weight.shape[0] <= 8:
            continue
        middle, channels, kernel, _ = first.weight.shape
        config = find_pair_config(names, pair_key(channels, kernel, middle, node.kernel, node.weight.shape[0]))
        if config is not None:
            pairs[node.output] = (first, config)
            taken.add(first.output)
    return pairs


class Program:
    """Canvases and launches for images, height and width.

    Attributes:
        source: where the input goes.
    """

    def __init__(
        self, plan: Plan, steps: list[Step], size: tuple[int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._plan = plan
        self._shapes = plan.shapes()
        self._device = device
        self._slots = row_slots([step.reads[: step.sources] for step in steps], self._shapes)
        self._canvases = Canvases(self._shapes, self._slots, size, dtype, device, self._border_needs(steps))
        self.source = self._canvases.allocate(plan.input)
        # The last node writes to whatever target is asked for: a tensor, frames, or a canvas for planes.
        self._last = steps[-1] if steps and steps[-1].node.output == plan.output else None
        self._body: list[Launch] = []
        self._fill_body(steps[:-1] if self._last else steps)

    def tensor_launches(self) -> tuple[list[Launch], Tensor]:
        """As ``gpu_executable.Program.tensor_launches``."""
        source, plan = self.source, self._plan
        shape = (source.images, source.height * plan.scale, source.width * plan.scale, plan.out_channels)
        out = torch.empty(shape, dtype=source.data.dtype, device=self._device)
        target = Canvas(out, shape[1], shape[2], shape[3], 0)
        return [*self._body, *self._finish(target)], out.permute(0, 3, 1, 2)

    def frame_launches(
        self, frames: Tensor, out: Tensor, flag: Tensor, gain: float, white: float, bgr: bool
    ) -> list[Launch]:
        """As ``gpu_executable.Program.frame_launches``; a last convolution writes the frames."""
        start: list[Launch] = [load_launch(frames, self.source, gain, bgr), *self._body]
        direct = self._into_frames(FrameTarget(out, white, flag, bgr))
        if direct is not None:
            return [*start, *direct]
        result = self._canvases.new(self._shapes[self._plan.output])
        store = store_launch(result.nchw().permute(0, 2, 3, 1), out, PEAKS[out.dtype] / white, flag, bgr)
        return [*start, *self._finish(result), store]

    def plane_launches(self, planes: Planes, out: Planes, flag: Tensor, peak: float, white: float) -> list[Launch]:
        """As ``gpu_executable.Program.plane_launches``; a colour difference is made of several pixels, so at the end there
        is one launch more."""
        result = self._canvases.new(self._shapes[self._plan.output])
        end: list[Launch] = [*self._finish(result), store_planes_launch(result, out, white, flag)]
        return [load_planes_launch(planes, self.source, peak), *self._body, *end]

    def _finish(self, target: Canvas) -> list[Launch]:
        """The last launches, into a canvas of the result's shape."""
        if self._last is None:
            return [pointwise_launch(self._canvases[self._plan.output], target)]
        return self._launches(self._last, target)

    def _into_frames(self, target: FrameTarget) -> list[Launch] | None:
        """The last launches, into frames; None where what is last cannot write them."""
        step = self._last
        if step is None or not isinstance(step.node, Conv) or step.run is not None:
            return None
        if step.fused is None:
            return self._launches(step, target)
        x, copies = self._input(step)
        launch = step.fused(x, target, self._residual(step))
        return None if launch is None else [*copies, launch]

    def _residual(self, step: Step) -> Canvas | None:
        return self._canvases[step.reads[step.sources]] if len(step.reads) > step.sources else None

    def _fill_body(self, steps: list[Step]) -> None:
        last = {name: i for i, step in enumerate(steps) for name in step.reads}
        if self._last:
            last.update(dict.fromkeys(self._last.reads, len(steps)))
        for i, step in enumerate(steps):
            dead = {name for name in step.reads if last[name] == i and name != self._plan.output}
            # Point by point a result may replace what it is made of; a convolution reads its input's neighbours.
            reusable = {name for name in dead if self._reusable(step, name)}
            # Sorted, so that the same plan gets the same memory in every process; sets of strings have an order of the day.
            for name in sorted(reusable):
                self._canvases.offer(name)
            self._body += self._launches(step, self._canvases.allocate(step.node.output))
            for name in sorted(dead):
                self._canvases.release(name, free=name not in reusable)

    def _reusable(self, step: Step, name: str) -> bool:
        # Of several convolutions in one kernel nobody has said that a residual may be written over while others read it.
        if name in self._slots or step.fused is not None or step.run is not None:
            return False
        if isinstance(step.node, Conv):
            same_size = self._shapes[name].scale == self._shapes[step.node.output].scale
            # A residual is read by the program that writes over it, pixel by pixel, unless it is enlarged on the way.
            return name not in step.reads[: step.sources] and same_size
        return isinstance(step.node, IN_PLACE)

    def _launches(self, step: Step, out: Canvas | FrameTarget) -> list[Launch]:
        if step.run is not None:
            assert isinstance(out, Canvas), "frames are written by steps that say so"
            return list(step.run.launches(self._canvases, self._shapes[step.node.output], out))
        if step.fused is not None:
            x, copies = self._input(step)
            fused = step.fused(x, out, self._residual(step))
            assert fused is not None, "every kernel writes canvases"
            return [*copies, fused]
        if step.conv is None:
            assert isinstance(out, Canvas)
            return small_launches(step.node, [self._canvases[name] for name in step.reads], out)
        x, copies = self._input(step)
        residual = self._residual(step)
        if step.first is not None and step.pair is not None:
            programs = _programs(self._device)
            return [*copies, pair_launch(x, step.first, step.conv, out, step.pair, residual, programs)]
        other = None if step.other is None else step.other(x, out, residual)
        if other is not None:
            return [*copies, other]
        assert step.config is not None
        return [*copies, conv_launch(x, step.conv, out, step.config, residual)]

    def _input(self, step: Step) -> tuple[Canvas, list[Launch]]:
        """The input of a convolution: one activation, several side by side, or copies where they lie apart."""
        row = step.reads[: step.sources]
        found = self._canvases.concatenated(row)
        if found is not None:
            return found, []
        shape = read_from(row, self._slots, self._shapes)
        together = self._canvases.take(shape)
        # The convolution's own result is allocated already: the next one may have it.
        self._canvases.give(shape, together)
        return together, joined_launches([self._canvases[name] for name in row], together)

    def _border_needs(self, steps: list[Step]) -> Needs:
        """For each shape of canvas the border and tile that its readers need."""
        needs: Needs = {}
        for step in steps:
            if step.conv is not None:
                shape = read_from(step.reads[: step.sources], self._slots, self._shapes)
                border, (tile_h, tile_w) = needs.get(shape, (0, (1, 1)))
                tile = (max(tile_h, step.tile[0]), max(tile_w, step.tile[1]))
                needs[shape] = (max(border, step.reach), tile)
        return needs


class TritonExecutable(GpuExecutable):
    """A plan with packed weights; keeps the canvases and graphs of the last sizes.

    Args:
        other: tells the kernel of another backend that shall run a convolution; None for Triton's own.
        gluon, fused, runs: as of ``pack_plan``.
    """

    def __init__(
        self,
        plan: Plan,
        device: torch.device,
        dtype: torch.dtype,
        graphs: bool,
        other: OtherKernel = lambda node, dtype, device: None,
        gluon: bool = False,
        fused: OtherPairs = MappingProxyType({}),
        runs: Sequence[OtherRun] = (),
    ) -> None:
        steps = pack_plan(plan, device_names(device), dtype, device, other, gluon, fused, runs)
        min_pixels = _FILL * _multiprocessors(device)
        super().__init__(
            plan, device, lambda size: Program(plan, steps, size, dtype, device), graphs, min_pixels, compile_all
        )


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def _programs(device: torch.device) -> int:
    """Programs that run at once: two for each multiprocessor."""
    return 2 * _multiprocessors(device) if device.type == "cuda" else 4
