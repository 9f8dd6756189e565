"""A plan at one size as a list of launches over preallocated canvases."""

from __future__ import annotations

import torch
from torch import Tensor

from srfast.backends.triton_small import IN_PLACE, joined_launches, small_launches
from srfast.backends.triton_steps import Step, row_slots, side_by_side
from srfast.kernels.canvas import Canvas
from srfast.kernels.planes import Planes
from srfast.kernels.triton_conv_launch import FrameTarget, Launch, conv_launch
from srfast.kernels.triton_frames import load_launch, store_launch
from srfast.kernels.triton_pair_launch import pair_launch
from srfast.kernels.triton_planes import load_planes_launch, store_planes_launch
from srfast.kernels.triton_pointwise import pointwise_launch
from srfast.plan import Conv, Plan, Shape

Needs = dict[Shape, tuple[int, tuple[int, int]]]


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
        self._slots = row_slots([step.reads[: step.sources] for step in steps], self._shapes)
        self._needs = self._border_needs(steps)
        self._free: dict[Shape, list[Canvas]] = {}
        self._rows: dict[tuple[str, ...], Canvas] = {}
        self._canvases: dict[str, Canvas] = {}
        self.source = self._canvases[plan.input] = self._allocate(plan.input)
        # The last node writes to whatever target is asked for.
        self._last = steps[-1] if steps and steps[-1].node.output == plan.output else None
        self.body: list[Launch] = []
        self._fill_body(steps[:-1] if self._last else steps)

    def finish(self, target: Canvas) -> list[Launch]:
        """The last launches, into a canvas of the result's shape."""
        if self._last is None:
            return [pointwise_launch(self._canvases[self._plan.output], target)]
        return self._launches(self._last, target)

    def finish_frames(self, target: FrameTarget) -> list[Launch]:
        """The last launches, into frames."""
        if self._last is not None and self._last.conv is not None:
            return self._launches(self._last, target)
        result = self._new(self._shapes[self._plan.output])
        peak = 255 if target.frame.dtype == torch.uint8 else 65535
        pixels = result.nchw().permute(0, 2, 3, 1)
        store = store_launch(pixels, target.frame, peak / target.units, target.flag, target.reverse)
        return [*self.finish(result), store]

    def finish_planes(self, planes: Planes, units: float, flag: Tensor) -> list[Launch]:
        """The last launches, into planes; a colour difference is made of several pixels, so there is one more."""
        result = self._new(self._shapes[self._plan.output])
        return [*self.finish(result), store_planes_launch(result, planes, units, flag)]

    def load(self, frames: Tensor, gain: float, reverse: bool) -> Launch:
        """The launch that fills ``source`` from [N, H, W, C] frames times ``gain``."""
        return load_launch(frames, self.source, gain, reverse)

    def load_planes(self, planes: Planes, gain: float) -> Launch:
        """The launch that fills ``source`` from planes, white as ``gain``."""
        return load_planes_launch(planes, self.source, gain)

    def _fill_body(self, steps: list[Step]) -> None:
        last = {name: i for i, step in enumerate(steps) for name in step.reads}
        if self._last:
            last.update(dict.fromkeys(self._last.reads, len(steps)))
        for i, step in enumerate(steps):
            dead = {name for name in step.reads if last[name] == i and name != self._plan.output}
            # Point by point a result may replace what it is made of; a convolution reads its input's neighbours.
            reusable = {name for name in dead if self._reusable(step, name)}
            for name in sorted(reusable):
                self._free.setdefault(self._shapes[name], []).append(self._canvases[name])
            target = self._allocate(step.node.output)
            self.body += self._launches(step, target)
            self._canvases[step.node.output] = target
            for name in sorted(dead):
                self._release(name, free=name not in reusable)

    def _reusable(self, step: Step, name: str) -> bool:
        if name in self._slots:
            return False
        if isinstance(step.node, Conv):
            same_size = self._shapes[name].scale == self._shapes[step.node.output].scale
            return name not in step.reads[: step.sources] and same_size
        return isinstance(step.node, IN_PLACE)

    def _release(self, name: str, free: bool) -> None:
        """Forgets an activation; its canvas is free, or, of a row, when all of the row are forgotten."""
        canvas = self._canvases.pop(name)
        slot = self._slots.get(name)
        if slot is None:
            if free:
                self._free.setdefault(self._shapes[name], []).append(canvas)
        elif not any(other in self._canvases for other in slot.row):
            row = self._rows.pop(slot.row)
            self._free.setdefault(self._home(name), []).append(row)

    def _allocate(self, name: str) -> Canvas:
        """A free canvas of the activation's shape, or a new one; each shape has its own zeros around the image."""
        slot, home = self._slots.get(name), self._home(name)
        if slot is None:
            return self._take(home)
        if slot.row not in self._rows:
            self._rows[slot.row] = self._take(home)
        return self._rows[slot.row].channel_slice(slot.first, self._shapes[name].channels)

    def _home(self, name: str) -> Shape:
        """Shape of the canvas that an activation lies in."""
        shape, slot = self._shapes[name], self._slots.get(name)
        return shape if slot is None else Shape(slot.width, shape.scale)

    def _take(self, shape: Shape) -> Canvas:
        free = self._free.get(shape)
        return free.pop() if free else self._new(shape)

    def _new(self, shape: Shape) -> Canvas:
        images, height, width = self._size
        border, tile = self._needs.get(shape, (0, (1, 1)))
        size = (int(height * shape.scale), int(width * shape.scale))
        return Canvas.allocate(
            images, shape.channels, *size, border=border, tile=tile, dtype=self._dtype, device=self._device
        )

    def _launches(self, step: Step, out: Canvas | FrameTarget) -> list[Launch]:
        if step.conv is None:
            assert isinstance(out, Canvas)
            return small_launches(step.node, [self._canvases[name] for name in step.reads], out)
        x, copies = self._input(step)
        residual = self._canvases[step.reads[step.sources]] if len(step.reads) > step.sources else None
        if step.first is not None and step.pair is not None:
            programs = _programs(self._device)
            return [*copies, pair_launch(x, step.first, step.conv, out, step.pair, residual, programs)]
        assert step.config is not None
        return [*copies, conv_launch(x, step.conv, out, step.config, residual)]

    def _input(self, step: Step) -> tuple[Canvas, list[Launch]]:
        """The input of a convolution: one activation, several side by side, or copies where they lie apart."""
        row = step.reads[: step.sources]
        parts = [self._canvases[name] for name in row]
        if len(row) == 1:
            return parts[0], []
        channels = sum(part.channels for part in parts)
        if side_by_side(row, self._slots, self._shapes):
            slot = self._slots[row[0]]
            return self._rows[slot.row].channel_slice(slot.first, channels), []
        shape = Shape(channels, self._shapes[row[0]].scale)
        together = self._take(shape)
        # The convolution's own result is allocated already: the next one may have it.
        self._free.setdefault(shape, []).append(together)
        return together, joined_launches(parts, together)

    def _border_needs(self, steps: list[Step]) -> Needs:
        """For each shape of canvas the border and tile that its readers need."""
        needs: Needs = {}
        for step in steps:
            if step.conv is not None:
                row, scale = step.reads[: step.sources], self._shapes[step.reads[0]].scale
                apart = not side_by_side(row, self._slots, self._shapes)
                together = Shape(sum(self._shapes[name].channels for name in row), scale)
                shape = together if apart else self._home(row[0])
                border, (tile_h, tile_w) = needs.get(shape, (0, (1, 1)))
                tile = (max(tile_h, step.tile[0]), max(tile_w, step.tile[1]))
                needs[shape] = (max(border, step.reach), tile)
        return needs


def _programs(device: torch.device) -> int:
    """Programs that run at once: two for each multiprocessor."""
    return 2 * torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
