"""A plan at one size as launches of the CUDA kernels over preallocated activations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from srfast.backends.base import enlarged_residuals
from srfast.backends.cuda.convs import config_of, pack_node, single_launch
from srfast.backends.cuda.fused import Fused, fused_pairs
from srfast.backends.cuda.int8 import ByteStep, byte_steps, in_bytes, pack_int8_convs
from srfast.backends.cuda.trunk import Trunk, fused_trunks
from srfast.backends.gpu.buffers import Canvases, read_from
from srfast.backends.gpu.cuda_graph import Launch
from srfast.backends.gpu.layout import row_slots
from srfast.backends.reference import run_node
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.config import CudaConfig
from srfast.kernels.cuda.conv_int8 import ByteCanvas, conv_int8_launch, quantize_launch
from srfast.kernels.cuda.frames import (
    load_planes_launch,
    packed_in_launch,
    packed_out_launch,
    store_planes_launch,
)
from srfast.kernels.cuda.pack import CudaConv
from srfast.kernels.int8 import LowPrecision
from srfast.kernels.planes import Planes
from srfast.kernels.targets import PEAKS, FrameTarget
from srfast.plan import Conv, Node, Plan

_PLAIN = CudaConfig()


@dataclass(frozen=True)
class CudaStep:
    """One launch: ``node``, after others in the same kernel where convolutions are fused.

    Attributes:
        reads: activations; the first ``sources`` of them, channels in a row, are the input.
        fused: both convolutions, where two are one launch.
        trunk: all convolutions, where a run of them is one launch.
        int8: what it does in 8 bits; without a convolution it makes bytes of what was launched before it.
    """

    node: Node
    reads: tuple[str, ...]
    sources: int = 1
    conv: CudaConv | None = None
    config: CudaConfig = _PLAIN
    fused: Fused | None = None
    trunk: Trunk | None = None
    int8: ByteStep | None = None

    @property
    def writes(self) -> tuple[str, ...]:
        """Activations that the launch makes, in 16 bits or in bytes."""
        halves = (self.node.output,) if self.int8 is None or (self.int8.conv is not None and self.int8.halves) else ()
        return (*halves, *(() if self.int8 is None or self.int8.rounding is None else (in_bytes(self.node.output),)))

    @property
    def writes_frames(self) -> bool:
        """Whether the kernel can store integer frames."""
        pair = self.fused is not None and self.fused.tail is None
        return self.conv is not None and not pair and not self.config.kernel.startswith("wgmma")


def pack_plan(
    plan: Plan,
    names: tuple[str, ...],
    dtype: torch.dtype,
    device: torch.device,
    *,
    measured_trunks: bool = True,
    roundings: Mapping[str, LowPrecision] | None = None,
) -> list[CudaStep]:
    """The launches of a plan in order, weights packed.

    Args:
        plan: what runs.
        names: select the configurations.
        dtype, device: of the weights.
        measured_trunks: a trunk is one launch only where that was measured to be faster.
        roundings: of the inputs of convolutions that run in 8 bits, by the names of their outputs.
    """
    enlarged = {name: small for name, (small, _) in enlarged_residuals(plan).items()}
    packed = {
        node.output: pack_node(node, config_of(node, names), dtype, device)
        for node in plan.nodes
        if isinstance(node, Conv)
    }

    def pack(node: Conv) -> CudaConv:
        return packed[node.output]

    int8 = pack_int8_convs(plan, roundings or {}, dtype, device)
    trunks = {
        trunk.nodes[-1].output: trunk
        for trunk in fused_trunks(plan, names, dtype, device, pack, measured=measured_trunks)
        if not {node.output for node in trunk.nodes} & set(int8)
    }
    in_trunks = {node.output for trunk in trunks.values() for node in trunk.nodes}
    pairs = fused_pairs(plan, names, dtype, device, pack, without=in_trunks | set(int8))
    # Neither residuals that are enlarged on the way nor convolutions before the last of a launch are launches of their own.
    skipped = {*enlarged, *(pair.before.output for pair in pairs.values()), *(in_trunks - set(trunks))}
    other = plan.map_tensors(lambda t: t.to(device, dtype))
    steps = []
    for node, moved in zip(plan.nodes, other.nodes, strict=True):
        if node.output in skipped:
            continue
        if not isinstance(node, Conv):
            steps.append(CudaStep(moved, node.inputs))
            continue
        if node.output in trunks:
            trunk = trunks[node.output]
            steps.append(CudaStep(node, trunk.reads, trunk=trunk))
            continue
        residual = () if node.residual is None else (enlarged.get(node.residual, node.residual),)
        sources, conv = node.sources, packed[node.output]
        if node.output in int8:
            steps.append(CudaStep(node, (in_bytes(node.input), *residual)))
        elif node.output in pairs:
            pair = pairs[node.output]
            steps.append(CudaStep(node, (*pair.before.sources, *residual), 1, conv, pair.config, pair))
        else:
            steps.append(CudaStep(node, (*sources, *residual), len(sources), conv, config_of(node, names)))
    return _with_bytes(plan, steps, byte_steps(plan, [step.node for step in steps], int8))


def _with_bytes(plan: Plan, steps: list[CudaStep], in_8_bits: Mapping[str, ByteStep]) -> list[CudaStep]:
    found = []
    for step in steps:
        name = step.node.output
        int8 = in_8_bits.get(name)
        found.append(step if int8 is None or int8.conv is None else replace(step, int8=int8))
        if int8 is not None and int8.conv is None:
            found.append(CudaStep(step.node, (name,), int8=int8))
    return found


class Program:
    """Activations and launches for (images, height, width).

    Attributes:
        source: where the input goes.
    """

    def __init__(
        self, plan: Plan, steps: list[CudaStep], size: tuple[int, int, int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._shapes = plan.shapes()
        self._slots = row_slots([step.reads[: step.sources] for step in steps if step.conv], self._shapes)
        self._canvases = Canvases(self._shapes, self._slots, size, dtype, device)
        byte_shapes = {in_bytes(name): shape for name, shape in self._shapes.items()}
        self._bytes = Canvases(byte_shapes, {}, size, torch.uint8, device)
        self._byte_names = set(byte_shapes)
        self.source = self._canvases.allocate(plan.input)
        self._body: list[Launch] = []
        # The step after which nobody reads an activation, so that a later one may have its memory.
        last = {name: i for i, step in enumerate(steps) for name in step.reads}
        for i, step in enumerate(steps):
            for name in step.writes:
                self._home(name).allocate(name)
            # The last step's target is the caller's: an activation, or frames.
            if i + 1 < len(steps):
                self._body += self._byte_launches(step) or self._launches(step, self._canvases[step.node.output])
                # The input keeps its canvas: the next image is copied into it, and a graph knows it by its address.
                for name in {n for n in step.reads if last[n] == i and n not in (plan.output, plan.input)}:
                    self._home(name).release(name)
        self._last = steps[-1] if steps else None
        self._result = self._canvases[plan.output]

    def tensor_launches(self) -> tuple[list[Launch], Tensor]:
        """As ``backends.gpu.executable.Program.tensor_launches``."""
        return [*self._body, *self._finish()], self._result.nchw()

    def frame_launches(
        self, frames: Tensor, out: Tensor, flag: Tensor, gain: float, white: float, bgr: bool
    ) -> list[Launch]:
        """As ``tensor_launches``, from frames to frames; a last convolution writes those whose channels are in its order."""
        start = [packed_in_launch(frames, self.source, gain, swap=bgr), *self._body]
        if self._last is not None and self._last.writes_frames and not bgr:
            return [*start, *self._launches(self._last, FrameTarget(out, white, flag))]
        return [*start, *self._finish(), packed_out_launch(self._result, out, PEAKS[out.dtype] / white, flag, swap=bgr)]

    def plane_launches(self, planes: Planes, out: Planes, flag: Tensor, peak: float, white: float) -> list[Launch]:
        """As ``backends.gpu.executable.Program.plane_launches``."""
        start = [load_planes_launch(planes, self.source, peak), *self._body]
        return [*start, *self._finish(), store_planes_launch(self._result, out, white, flag)]

    def _finish(self) -> list[Launch]:
        """The last launches, into the canvas of the result."""
        return [] if self._last is None else self._launches(self._last, self._result)

    def _home(self, name: str) -> Canvases:
        return self._bytes if name in self._byte_names else self._canvases

    def _byte_launches(self, step: CudaStep) -> list[Launch]:
        """The launch of a step in 8 bits; none of another."""
        if step.int8 is None:
            return []
        name, int8 = step.node.output, step.int8
        target = None if int8.rounding is None else ByteCanvas(self._bytes[in_bytes(name)], int8.rounding)
        if int8.conv is None:
            assert target is not None, "what is no convolution makes bytes"
            return [quantize_launch(self._canvases[name], target)]
        halves = self._canvases[name] if int8.halves else None
        residual = self._canvases[step.reads[1]] if len(step.reads) > 1 else None
        return [conv_int8_launch(self._bytes[step.reads[0]], int8.conv, halves, residual, out_bytes=target)]

    def _launches(self, step: CudaStep, out: Canvas | FrameTarget) -> list[Launch]:
        if step.trunk is not None:
            assert isinstance(out, Canvas), "frames are written by steps that say so"
            return step.trunk.launches(self._canvases, self._shapes[step.node.output], out)
        if step.conv is None:
            assert isinstance(out, Canvas)
            return [self._torch_launch(step, out)]
        x, copies = self._input(step)
        residual = self._canvases[step.reads[step.sources]] if len(step.reads) > step.sources else None
        # A kernel may start early only behind one of this module, which says when its results are written; PyTorch's
        # copies never say so.
        programmatic = step.config.programmatic and not copies
        if step.fused is not None:
            fused = step.fused.launch(x, out, residual, programmatic)
            assert fused is not None, "frames are written by steps that say so"
            return [*copies, fused]
        return [*copies, single_launch(x, step.conv, step.config, out, residual, programmatic)]

    def _torch_launch(self, step: CudaStep, out: Canvas) -> Launch:
        values = {name: self._canvases[name].nchw() for name in step.reads}
        target, node = out.nchw(), step.node

        # Views of fixed memory, taken once: a captured graph replays addresses, not Python.
        def launch() -> None:
            target.copy_(run_node(node, values))

        return launch

    def _input(self, step: CudaStep) -> tuple[Canvas, list[Launch]]:
        """The input of a convolution: one activation, several side by side, or copies where they lie apart."""
        row = step.reads[: step.sources]
        found = self._canvases.concatenated(row)
        if found is not None:
            return found, []
        together = self._canvases.new(read_from(row, self._slots, self._shapes))
        views = [self._canvases[name].nchw() for name in row]
        return together, [lambda: _copy(together.nchw(), torch.cat(views, 1))]


def _copy(target: Tensor, values: Tensor) -> None:
    target.copy_(values)
