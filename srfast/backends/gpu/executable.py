"""A plan on a GPU: the launches of the last sizes kept ready, each replayed as a CUDA graph."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from srfast.backends.base import FrameExecutable, PlaneExecutable, TilingTraits
from srfast.backends.gpu.cuda_graph import Launch, Prepare, Sequence
from srfast.kernels.buffers import Canvas
from srfast.kernels.planes import PlaneColour, Planes
from srfast.plan import Plan

# Images, height, width.
Size: TypeAlias = tuple[int, int, int]
# Compute capability of the oldest GPUs that the kernels are written for (Ampere).
OLDEST = (8, 0)
# Sizes kept ready: an image's tiles have one size, and a stream may change its own.
_SIZES = 2


class Program(Protocol):
    """A plan's launches for one size, over memory of its own."""

    @property
    def source(self) -> Canvas:
        """Where the input goes."""
        ...

    def tensor_launches(self) -> tuple[list[Launch], Tensor]:
        """From ``source`` to [N, C', H', W'] that is returned."""
        ...

    def frame_launches(
        self, frames: Tensor, out: Tensor, flag: Tensor, gain: float, white: float, bgr: bool
    ) -> list[Launch]:
        """From frames to frames, as ``FrameExecutable.run_frames``; the flag is 0 before."""
        ...

    def plane_launches(self, planes: Planes, out: Planes, flag: Tensor, peak: float, white: float) -> list[Launch]:
        """From planes to planes, as ``PlaneExecutable.run_planes``; the flag is 0 before."""
        ...


class GpuExecutable(FrameExecutable, PlaneExecutable):
    """A compiled plan.

    Args:
        plan: what runs.
        device: where.
        make: gives the launches for a size.
        graphs: replays CUDA graphs instead of launching kernel by kernel.
        min_pixels: input pixels of one launch that keep the device busy.
        prepare: sees to a size's launches before the first of them runs.
    """

    def __init__(
        self,
        plan: Plan,
        device: torch.device,
        make: Callable[[Size], Program],
        graphs: bool,
        min_pixels: int = 1,
        prepare: Prepare = lambda launches: None,
    ) -> None:
        super().__init__(TilingTraits.of(plan, min_pixels))
        self._plan, self._device, self._make, self._graphs = plan, device, make, graphs
        self._prepare = prepare
        self._sizes: OrderedDict[Size, _Ready] = OrderedDict()
        self._last: Any = None  # the stream of the last call

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', s * H, s * W], a new tensor, channels last."""
        with self._on_device():
            return self._ready((x.shape[0], x.shape[2], x.shape[3])).run_tensor(x)

    @torch.inference_mode()
    def run_frames(self, frames: Tensor, gain: float, white: float, bgr: bool = False) -> tuple[Tensor, Tensor]:
        """Integer frames in and out, converted by the kernels; see ``base.FrameExecutable``."""
        images, height, width, _ = frames.shape
        with self._on_device():
            return self._ready((images, height, width)).run_frames(frames, gain, white, bgr)

    @torch.inference_mode()
    def run_planes(self, planes: Planes, peak: float, white: float) -> tuple[Planes, Tensor]:
        """Video planes in and out, converted by the kernels; see ``base.PlaneExecutable``."""
        images, height, width, _ = planes.luma.shape
        with self._on_device():
            return self._ready((images, height, width)).run_planes(planes, peak, white)

    def _ready(self, size: Size) -> _Ready:
        if size not in self._sizes:
            while len(self._sizes) >= _SIZES:
                # The one that was not used for longest.
                self._sizes.popitem(last=False)
            try:
                self._sizes[size] = _Ready(self._make(size), self._plan, self._graphs, self._prepare)
            except torch.OutOfMemoryError:
                # The caller goes on with smaller images: leave it the memory.
                self._sizes.clear()
                raise
        self._sizes.move_to_end(size)
        return self._sizes[size]

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        """The device is current, and the caller's stream comes after the one that used the same memory before."""
        if self._device.type != "cuda":
            yield
            return
        with torch.cuda.device(self._device):
            current: Any = torch.cuda.current_stream(self._device)
            if self._last is not None:
                self._wait_for(self._last, current)
            self._last = current
            try:
                yield
            finally:
                self._wait_for(current)

    def _wait_for(self, last: Any, *streams: Any) -> None:
        """Streams, and those that freed memory goes back to, go on after what ``last`` has been given so far."""
        for stream in {*streams, *(ready.home for ready in self._sizes.values())} - {last}:
            stream.wait_stream(last)


class _Ready:
    """The launches for one size, for tensors and for each kind of frames."""

    def __init__(self, program: Program, plan: Plan, graphs: bool, prepare: Prepare) -> None:
        self._program, self._graphs, self._prepare = program, graphs, prepare
        source = program.source
        self._device = source.data.device
        # The allocator gives memory that is freed to this stream again, whatever other streams still do with it.
        self.home: Any = torch.cuda.current_stream(self._device) if self._device.type == "cuda" else None
        self._out_shape = (source.images, source.height * plan.scale, source.width * plan.scale, plan.out_channels)
        self._tensor: tuple[Sequence, Tensor] | None = None
        self._frames: dict[tuple[torch.dtype, float, float, bool], tuple[Sequence, Tensor, Tensor, Tensor]] = {}
        self._planes: dict[tuple[PlaneColour, float, float], tuple[Sequence, Planes, Planes, Tensor]] = {}

    def run_tensor(self, x: Tensor) -> Tensor:
        """Fills the source, runs, and copies the result out of its fixed place."""
        if self._tensor is None:
            launches, result = self._program.tensor_launches()
            self._tensor = Sequence(launches, self._graphs, self._prepare), result
        sequence, result = self._tensor
        self._program.source.nchw().copy_(x)
        sequence.run()
        # The fixed place is overwritten by the next call, and callers of a tensor may keep theirs.
        return result.clone(memory_format=torch.channels_last)

    def run_frames(self, frames: Tensor, gain: float, white: float, bgr: bool) -> tuple[Tensor, Tensor]:
        """As ``GpuExecutable.run_frames``."""
        key = (frames.dtype, gain, white, bgr)
        if key not in self._frames:
            place = torch.empty(frames.shape, dtype=frames.dtype, device=self._device)
            out = torch.empty(self._out_shape, dtype=frames.dtype, device=self._device)
            flag = self._flag()
            launches = self._program.frame_launches(place, out, flag, gain, white, bgr)
            self._frames[key] = self._sequence(launches, flag), place, out, flag
        sequence, place, out, flag = self._frames[key]
        place.copy_(frames, non_blocking=True)
        sequence.run()
        return out, flag

    def run_planes(self, planes: Planes, peak: float, white: float) -> tuple[Planes, Tensor]:
        """As ``GpuExecutable.run_planes``."""
        key = (planes.colour, peak, white)
        if key not in self._planes:
            images, height, width, _ = planes.luma.shape
            place = Planes.empty(images, height, width, planes.colour, self._device)
            out = Planes.empty(*self._out_shape[:3], planes.colour, self._device)
            flag = self._flag()
            launches = self._program.plane_launches(place, out, flag, peak, white)
            self._planes[key] = self._sequence(launches, flag), place, out, flag
        sequence, place, out, flag = self._planes[key]
        place.copy_(planes, non_blocking=True)
        sequence.run()
        return out, flag

    def _flag(self) -> Tensor:
        return torch.zeros(1, dtype=torch.int32, device=self._device)

    def _sequence(self, launches: list[Launch], flag: Tensor) -> Sequence:
        def clear() -> None:
            flag.zero_()

        return Sequence([clear, *launches], self._graphs, self._prepare)
