"""Tiles through a device: what a tile reads of an image and where its result belongs, a compiled plan, the device's
queues, and float32 where half precision overflowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from srfast.backends import Backend, Executable, FrameExecutable, select_backend
from srfast.backends.base import FunctionExecutable, PlaneExecutable, TilingTraits
from srfast.engine.pixels import PEAKS, UNITS, finite, limit_, store, to_units
from srfast.engine.tiling import Blend, Part
from srfast.engine.transfer import CudaQueues, Queues, Staging
from srfast.errors import SrfastError
from srfast.kernels.planes import PlaneColour, Planes, load_planes_reference, store_planes_reference
from srfast.plan import Plan
from srfast.plan.passes import in_units, output_limits


@dataclass
class Job:
    """One batch of images, tile by tile.

    Attributes:
        images: [N, H, W, C]; with ``colour`` pictures of video planes, [N, 3 * H / 2, W, 1].
        out: where the results go, as ``images`` and ``scale`` times larger.
        bgr: the channels, of the images and of the result, are in the reverse of the network's order.
        pending: batches of tiles that are not delivered yet.
        flags: not 0 where a value was not finite, of tiles that nobody looked at yet.
        redone: a tile was computed again in float32.
        blend: where tiles go that are not exact.
        own: nobody else has ``out`` yet: other memory may take its place.
    """

    images: Tensor
    out: Tensor
    scale: int
    bgr: bool = False
    colour: PlaneColour | None = None
    pending: int = 0
    flags: list[tuple[Tensor, list[Part]]] = field(default_factory=list)
    redone: bool = False
    blend: Blend | None = None
    own: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        rows, width = self.images.shape[1:3]
        return (rows if self.colour is None else rows // 3 * 2), width

    def window(self, part: Part) -> Tensor:
        """What a tile reads: [1, h, w, C], or a picture of planes."""
        if self.colour is None:
            return part.window(self.images)
        if self.whole(part):
            return self.images[part.image : part.image + 1]
        planes = Planes.of(self.images, self.colour)
        return Planes(part.window(planes.luma), part.halved().window(planes.chroma), self.colour).picture

    def whole(self, part: Part) -> bool:
        """Whether a tile's result is an image's."""
        return part.covers(*self.size)

    def store(self, parts: list[Part], y: Tensor) -> None:
        """Results of windows, of the images' type, one after another along the first dimension, to their places."""
        for index, part in enumerate(parts):
            self._store(part, y[index : index + 1])

    def _store(self, part: Part, y: Tensor) -> None:
        if self.colour is None:
            part.place(self.out, self.scale).copy_(part.crop(y, self.scale))
            return
        given, target, half = Planes.of(y, self.colour), Planes.of(self.out, self.colour), part.halved()
        part.place(target.luma, self.scale).copy_(part.crop(given.luma, self.scale))
        half.place(target.chroma, self.scale).copy_(half.crop(given.chroma, self.scale))

    def load_float(self, part: Part, device: torch.device, dtype: torch.dtype, peak: float) -> Tensor:
        """A tile's window as the network reads it: [1, C, h, w], white as ``peak``."""
        window = self.window(part).to(device, non_blocking=True)
        if self.colour is not None:
            return load_planes_reference(Planes.of(window, self.colour), peak).to(dtype)
        x = to_units(window, dtype, peak)
        return x.flip(1) if self.bgr else x

    def used(self, part: Part, y: Tensor) -> Tensor:
        """What of a window's result goes into the image."""
        return y if self.blend is not None else part.crop(y.permute(0, 2, 3, 1), self.scale)

    def store_float(self, part: Part, y: Tensor) -> None:
        """A window's result as the network gives it, [1, C', h', w'] whose white is 255, to its place."""
        if self.colour is not None:
            self._store(part, store_planes_reference(y, UNITS, self.colour).picture)
            return
        y = y.permute(0, 2, 3, 1)
        if self.blend is not None:
            self.blend.add(part, y.flip(3) if self.bgr else y)
            return
        store(part.crop(y.flip(3) if self.bgr else y, self.scale), part.place(self.out, self.scale))


class Runner:
    """Runs tiles of jobs.

    Args:
        plan: for images in 0..1.
        device, dtype: where and in what to run.
        backend: 'auto', a backend's name, or a backend.
        pixels: of the windows, where they are known.

    Attributes:
        framed: the plan as it runs, for images in the network's units.
        run: the compiled plan.
        queues: of the device; None where there is nothing to overlap.

    Raises:
        BackendError: the backend cannot run the plan there.
    """

    def __init__(
        self, plan: Plan, device: torch.device, dtype: torch.dtype, backend: str | Backend, pixels: int | None = None
    ) -> None:
        self._plan, self._device, self._dtype = plan, device, dtype
        # float16 would lose small first-layer weights divided by 255, so there the images are divided instead.
        self._input_peak = 1.0 if dtype == torch.float16 else UNITS
        self.framed = in_units(plan, self._input_peak, UNITS)
        self._limits = output_limits(plan)
        self.backend: Backend = select_backend(self.framed, device, dtype, backend, pixels)
        self.run: Executable = self.backend.compile(self.framed, device, dtype)
        self.queues: Queues | None = CudaQueues(device) if device.type == "cuda" else None
        self._run_float32: Executable | None = None
        self._staging: tuple[object, Staging] | None = None

    @property
    def takes_frames(self) -> bool:
        """Whether the kernels convert integer frames by themselves."""
        return isinstance(self.run, FrameExecutable)

    @property
    def takes_planes(self) -> bool:
        """Whether the kernels convert video planes by themselves."""
        return isinstance(self.run, PlaneExecutable) and self._limits is None  # which are those of RGB

    def close(self) -> None:
        """Delivers what is on its way and gives back weights and buffers; later calls raise."""
        # Also after a failure in what is delivered: the memory is given back whatever came of it.
        try:
            self.drop_staging()
        finally:
            self.run = FunctionExecutable(_closed, TilingTraits.of(self._plan))
            self._run_float32, self._staging = None, None

    def memory(self, shape: tuple[int, ...], images: Tensor) -> Tensor:
        """Memory for results of images: of those in host memory, where the device can write by itself."""
        # Page-locked, so that the device writes the result where the caller reads it, without a copy in between.
        if self.queues is not None and images.device.type == "cpu":
            return self.queues.host_memory(shape, images.dtype)
        return images.new_empty(shape)

    def send(self, job: Job, parts: list[Part]) -> None:
        """Sends tiles of one size on their way, in one launch where the kernels convert the images."""
        if job.images.is_floating_point() or not (self.takes_frames if job.colour is None else self.takes_planes):
            for part in parts:
                self._run_float(job, part)
        elif self.queues is not None and job.images.device.type == "cpu":
            self._put(job, parts, self.queues)
        else:
            windows = [job.window(part) for part in parts]
            y, flag = self._convert(windows[0] if len(windows) == 1 else torch.cat(windows), job.bgr, job.colour)
            if job.own and job.images.device.type == "cpu" and y.shape == job.out.shape and all(map(job.whole, parts)):
                # New memory, as only a GPU's kernels write into the same again. A copy would cost more than its time: PyTorch's
                # threads spin for milliseconds after it, on the cores that the next image needs.
                job.out = torch.from_numpy(y.numpy())  # what was made in inference mode could not be changed
            else:
                job.store(parts, y)
            # Not looked at now: reading it would wait for the device. The next launch writes the same flag, hence the copy.
            job.flags.append((flag.clone(), parts))

    def settle(self, job: Job) -> None:
        """Waits until all tiles are there, those that overflowed done again."""
        while job.pending:
            assert self._staging is not None
            self._staging[1].deliver_first()
        for flag, parts in job.flags:
            if bool(flag):
                self._redo(job, parts)
        if job.blend is not None:
            store(job.blend.result(), job.out)
            job.blend = None
        if self._limits is not None:
            limit_(job.out, *self._limits)

    def drop_staging(self) -> None:
        """Delivers what is on its way and frees the memory."""
        while self._staging is not None and self._staging[1].waiting:
            self._staging[1].deliver_first()
        self._staging = None

    def _put(self, job: Job, parts: list[Part], queues: Queues) -> None:
        """Sends windows in host memory through the device's queues; a whole image comes back to its own place."""
        # Tiles of one batch have one size, so either all of them are whole images or none is.
        windows, whole = [job.window(part) for part in parts], job.whole(parts[0])
        # Staging memory is kept as long as windows of one kind come; the last batch of an image may be smaller than the
        # memory.
        shape = (*windows[0].shape[1:], windows[0].dtype, job.bgr, job.colour)
        if self._staging is None or self._staging[0] != shape or self._staging[1].images < len(windows):
            self.drop_staging()
            run = partial(self._convert, bgr=job.bgr, colour=job.colour)
            self._staging = (shape, Staging(run, queues, len(windows), windows[0], self._device))

        def deliver(y: Tensor, all_finite: bool) -> None:
            job.pending -= 1
            if not all_finite:
                self._redo(job, parts)
            elif not whole:
                job.store(parts, y)

        target = job.out[parts[0].image : parts[-1].image + 1] if whole else None
        self._staging[1].put(windows, deliver, target)
        job.pending += 1

    def _convert(self, frames: Tensor, bgr: bool, colour: PlaneColour | None) -> tuple[Tensor, Tensor]:
        """Frames or pictures of planes through the kernels, which convert them; as ``FrameExecutable.run_frames``."""
        if colour is not None:
            assert isinstance(self.run, PlaneExecutable)
            planes, flag = self.run.run_planes(Planes.of(frames, colour), self._input_peak, UNITS)
            return planes.picture, flag
        assert isinstance(self.run, FrameExecutable)
        return self.run.run_frames(frames, self._input_peak / PEAKS[frames.dtype], UNITS, bgr)

    def _run_float(self, job: Job, part: Part) -> None:
        """A tile that is converted here."""
        y = self.run(job.load_float(part, self._device, self._dtype, self._input_peak))
        if finite(job.used(part, y)):
            job.store_float(part, y)
        else:
            self._redo(job, [part])

    def _redo(self, job: Job, parts: list[Part]) -> None:
        """Tiles again in float32: half precision overflowed in one of them."""
        job.redone = True
        # Compiled when the first tile overflows: most networks never do, and its weights would take memory for nothing.
        if self._run_float32 is None:
            plan = in_units(self._plan, UNITS, UNITS)
            backend = select_backend(plan, self._device, torch.float32)
            self._run_float32 = backend.compile(plan, self._device, torch.float32)
        for part in parts:
            y = self._run_float32(job.load_float(part, self._device, torch.float32, UNITS))
            if not finite(job.used(part, y)):
                raise SrfastError(
                    "the network gives NaN or infinite values for this image even in float32; check its weights"
                )
            job.store_float(part, y)


def _closed(x: Tensor) -> Tensor:
    raise SrfastError("this engine is closed; make another one")
