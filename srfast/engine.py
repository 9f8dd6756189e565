"""The engine: a plan on one device in one dtype, over images of any size, in exact tiles."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from srfast.backends import Backend, Executable, FrameExecutable, default_device, default_dtype, select_backend
from srfast.batching import Part, batches
from srfast.errors import BackendError, InputError, SrfastError
from srfast.passes import in_units
from srfast.plan import Plan
from srfast.staging import SLOTS, CudaQueues, Queues, Staging
from srfast.tiling import Tiling, bytes_per_pixel, tile_by_memory, tile_by_size
from srfast.units import PEAKS, UNITS, finite, padded, store, to_units

_log = logging.getLogger("srfast")


@dataclass
class Statistics:
    """What happened so far: images run, tiles per image of the last size, images redone in float32."""

    images: int = 0
    tiles: int = 0
    redone: int = 0
    out_of_memory: int = field(default=0)


@dataclass
class _Job:
    """Images on their way: batches of tiles that are not delivered yet, and flags of those that nobody looked at."""

    images: Tensor
    out: Tensor
    bgr: bool = False
    pending: int = 0
    flags: list[tuple[Tensor, list[Part]]] = field(default_factory=list)
    redone: bool = False


class Engine:
    """Runs a plan over batches of images.

    Args:
        plan: an optimised plan for images in 0..1.
        backend: 'auto' or a backend's name.
        device: where to run; by default the first GPU, else the CPU.
        dtype: of weights and activations; by default float16 on GPUs, bfloat16 on CPUs that have it, else float32.
        tile: side of a tile in input pixels; 0 never tiles, None lets the memory decide.
        memory: bytes that activations may take; by default half of the free GPU memory, or 1 GiB on a CPU.

    Raises:
        BackendError: the backend cannot run the plan there, or the network looks at the whole image and cannot be tiled.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        tile: int | None = None,
        memory: int | None = None,
    ) -> None:
        if tile is not None and tile < 0:
            raise ValueError(f"tile must be 0 (never tile) or a size in input pixels, not {tile}")
        self.plan = plan
        self.device = torch.device(device) if device is not None else default_device()
        self.dtype = dtype or default_dtype(self.device)
        self.scale = plan.scale
        self.statistics = Statistics()
        self._tile = tile
        self._memory = memory or _default_memory(self.device)
        # float16 would lose small first-layer weights divided by 255, so there the images are divided instead.
        self._input_peak = 1.0 if self.dtype == torch.float16 else UNITS
        self._framed = in_units(plan, self._input_peak, UNITS)
        self.backend: Backend = select_backend(self._framed, self.device, self.dtype, backend)
        self._run = self.backend.compile(self._framed, self.device, self.dtype)
        self._run_float32: Executable | None = None
        self.alignment: int = getattr(self._run, "alignment", plan.alignment)
        self.halo: int | None = getattr(self._run, "halo", plan.halo())
        self.exact: bool = self.halo is not None and bool(getattr(self._run, "exact", False))
        self._lock = threading.RLock()  # executables own their buffers
        if self.halo is None and tile:
            raise BackendError(
                f"this network looks at the whole image, so tiles of {tile} pixels would change its result; use tile 0"
            )
        self._queues: Queues | None = CudaQueues(self.device) if self.device.type == "cuda" else None
        self._alone = False  # not several tiles in a launch
        self._staging: tuple[object, Staging] | None = None
        element_size = torch.empty(0, dtype=self.dtype).element_size()
        whole = bytes_per_pixel(self._framed, element_size)
        self._bytes_per_pixel: int = max(1, getattr(self._run, "bytes_per_pixel", whole))

    def __call__(self, images: Tensor, *, bgr: bool = False) -> Tensor:
        """Upscales images.

        Args:
            images: [N, H, W, C] uint8 or uint16, or floating in 0..1, channels in the network's order; on any device.
            bgr: the channels, of the images and of the result, are in the reverse of the network's order.

        Returns:
            [N, scale * H, scale * W, C'] of the same dtype and device, rounded to nearest and limited to the range.

        Raises:
            InputError: the images have another shape or type.
        """
        return next(self.stream([images], bgr=bgr))

    def stream(self, images: Iterable[Tensor], *, bgr: bool = False) -> Iterator[Tensor]:
        """Upscales one batch of images after another, as calling does, with the results in order.

        On a GPU the results come a few batches late: while one runs, the next is copied there and the last one back.
        """
        jobs: deque[tuple[_Job, Tensor]] = deque()
        for batch in images:
            self._check(batch)
            whole = padded(batch, self.plan.alignment)
            job = _Job(whole, self._memory_for(whole), bgr)
            with self._lock:
                self._upscale(job)
            _, height, width, _ = batch.shape
            jobs.append((job, job.out[:, : self.scale * height, : self.scale * width]))
            if len(jobs) >= SLOTS:
                yield self._settled(*jobs.popleft())
        while jobs:
            yield self._settled(*jobs.popleft())

    @property
    def takes_bgr(self) -> bool:
        """Whether ``bgr`` costs nothing: the kernels that read and write integer images turn the channels round."""
        return isinstance(self._run, FrameExecutable)

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[3] != self.plan.in_channels or images.dtype not in PEAKS:
            kinds = ", ".join(str(t).removeprefix("torch.") for t in PEAKS)
            raise InputError(
                f"images must be [N, H, W, {self.plan.in_channels}] of {kinds}, "
                f"not {list(images.shape)} of {images.dtype}"
            )
        if 0 in images.shape:
            raise InputError(f"images of {list(images.shape)} have no pixels")

    def _memory_for(self, images: Tensor) -> Tensor:
        """Where the result goes: of images in host memory, where the device can write by itself."""
        count, height, width, _ = images.shape
        shape = (count, self.scale * height, self.scale * width, self.plan.out_channels)
        if self._queues is not None and images.device.type == "cpu":
            return self._queues.host_memory(shape, images.dtype)
        return images.new_empty(shape)

    def close(self) -> None:
        """Gives back weights and buffers, after what runs now; later calls raise."""
        with self._lock:
            self._run, self._run_float32 = _closed, None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def region(self, images: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
        """The part of the result that belongs to a rectangle of the input, at about the rectangle's cost.

        It equals the crop of the whole result: bit for bit where ``exact``, else as far as the backend's sums do not
        depend on the size of its input.

        Args:
            images: as in a call.
            top, left, height, width: the rectangle in input pixels.

        Returns:
            [N, scale * height, scale * width, C'].

        Raises:
            InputError: the rectangle is empty or not inside the images.
        """
        rows, columns = images.shape[1:3]
        if min(top, left) < 0 or min(height, width) < 1 or top + height > rows or left + width > columns:
            raise InputError(
                f"the region {width}x{height} at ({left}, {top}) is not inside the image of {columns}x{rows}"
            )
        first, s = (top, left), self.scale
        whole = padded(images, self.plan.alignment)
        if self.halo is None:
            start, window = (0, 0), whole
        else:
            sides = zip(first, (height, width), whole.shape[1:3], strict=True)
            spans = [_window(a, length, limit, self.halo, self.alignment) for a, length, limit in sides]
            start = (spans[0].start, spans[1].start)
            window = whole[:, spans[0], spans[1]]
        out = self(window)
        y, x = ((a - b) * s for a, b in zip(first, start, strict=True))
        return out[:, y : y + height * s, x : x + width * s]

    def refresh(self, image: Tensor, last: Tensor, out: Tensor) -> int:
        """Computes again the tiles whose window differs from the last image's, by the tiling of a whole image.

        Args:
            image, last: [1, H, W, C] of one type.
            out: [1, scale * H, scale * W, C'], the last image's result, which becomes this image's.

        Returns:
            Input pixels that were computed.
        """
        height, width = image.shape[1:3]
        if height % self.plan.alignment or width % self.plan.alignment:
            out.copy_(self(image))
            return height * width
        with self._lock:
            whole, job = self.tiling(height, width), _Job(image, out)
            computed = 0
            for row, column in whole:
                part = (
                    slice(0, 1),
                    slice(row.start, row.start + row.size),
                    slice(column.start, column.start + column.size),
                )
                if not torch.equal(image[part], last[part]):
                    self._send(job, Tiling((row,), (column,)))
                    computed += row.size * column.size
            self._settled(job, out)
            self.statistics.tiles = len(whole)
        return computed

    def tiling(self, height: int, width: int) -> Tiling:
        """The tiles for images of this size; one tile where tiles cannot be exact."""
        if self.halo is None:
            return tile_by_size(height, width, 0, 0)
        if self._tile is not None:
            return tile_by_size(height, width, self._tile, self.halo, self.alignment)
        pixels = self._memory // self._bytes_per_pixel
        return tile_by_memory(height, width, self.halo, pixels, self.alignment)

    def _upscale(self, job: _Job) -> None:
        """Sends all tiles on their way; out of memory halves the tile and starts the images again."""
        height, width = job.images.shape[1:3]
        while True:
            tiling = self.tiling(height, width)
            try:
                self._send(job, tiling)
                return
            except (torch.OutOfMemoryError, RuntimeError) as error:
                largest = max(tiling.rows[0].last, tiling.columns[0].last)
                together = self._together(tiling)
                if not _is_out_of_memory(error) or (largest <= 16 and together == 1):
                    raise
                if self.halo is None and together == 1:
                    raise SrfastError(
                        f"an image of {width}x{height} does not fit in memory, and this network looks at the whole image, "
                        "so it cannot run in tiles; use smaller images"
                    ) from error
            # Outside the handler, so that the failed attempt's tensors are gone.
            self._drop_staging()
            job.flags.clear()
            self.statistics.out_of_memory += 1
            if together > 1:
                self._alone = True
            else:
                self._tile = max(16, largest // 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            _log.warning("out of memory: one tile at a time, of %d pixels, from now on", self._tile or largest)

    def _send(self, job: _Job, tiling: Tiling) -> None:
        self.statistics.tiles = len(tiling)
        for parts in batches(len(job.images), tiling, self._together(tiling)):
            if not isinstance(self._run, FrameExecutable) or job.images.is_floating_point():
                for part in parts:
                    self._run_float(job, part)
            elif self._queues is not None and job.images.device.type == "cpu":
                self._put(job, parts, self._queues)
            else:
                windows = [part.window(job.images) for part in parts]
                y, flag = self._run_frames(windows[0] if len(windows) == 1 else torch.cat(windows), job.bgr)
                self._store_parts(job, parts, y)
                job.flags.append((flag.clone(), parts))

    def _together(self, tiling: Tiling) -> int:
        """Tiles in one launch: as many as fill the device and the memory holds."""
        fill: int = 1 if self._alone else getattr(self._run, "fill", 1)
        return max(1, min(fill, self._memory // self._bytes_per_pixel) // tiling.window_pixels)

    def _put(self, job: _Job, parts: list[Part], queues: Queues) -> None:
        """Sends windows in host memory through the device's queues; a whole image comes back to its own place."""
        windows, whole = [part.window(job.images) for part in parts], parts[0].covers(job.images)
        shape = (*windows[0].shape[1:], windows[0].dtype, job.bgr)
        if self._staging is None or self._staging[0] != shape or self._staging[1].images < len(windows):
            self._drop_staging()
            run = partial(self._run_frames, bgr=job.bgr)
            self._staging = (shape, Staging(run, queues, len(windows), windows[0], self.device))

        def deliver(y: Tensor, all_finite: bool) -> None:
            job.pending -= 1
            if not all_finite:
                self._redo(job, parts)
            elif not whole:
                self._store_parts(job, parts, y)

        target = job.out[parts[0].image : parts[-1].image + 1] if whole else None
        self._staging[1].put(windows, deliver, target)
        job.pending += 1

    def _drop_staging(self) -> None:
        """Delivers what is on its way and frees the memory."""
        while self._staging is not None and self._staging[1].waiting:
            self._staging[1].deliver_first()
        self._staging = None

    def _settled(self, job: _Job, result: Tensor) -> Tensor:
        """The result, once all tiles are there and those that overflowed are done again."""
        with self._lock:
            while job.pending:
                assert self._staging is not None
                self._staging[1].deliver_first()
            for flag, parts in job.flags:
                if bool(flag):
                    self._redo(job, parts)
            self.statistics.images += len(job.images)
            self.statistics.redone += job.redone
        return result

    def _run_frames(self, frames: Tensor, bgr: bool) -> tuple[Tensor, Tensor]:
        assert isinstance(self._run, FrameExecutable)
        return self._run.run_frames(frames, self._input_peak / PEAKS[frames.dtype], UNITS, bgr)

    def _run_float(self, job: _Job, part: Part) -> None:
        """A tile that the engine converts."""
        x = self._to_units(job, part, self.dtype, self._input_peak)
        y = self._run(x).permute(0, 2, 3, 1)
        if finite(part.crop(y, self.scale)):
            self._store_parts(job, [part], y.flip(3) if job.bgr else y)
        else:
            self._redo(job, [part])

    def _store_parts(self, job: _Job, parts: list[Part], y: Tensor) -> None:
        """[N, s*H, s*W, C'] results of windows, floating or as the images, to their places."""
        for index, part in enumerate(parts):
            target, value = part.place(job.out, self.scale), part.crop(y[index : index + 1], self.scale)
            if y.is_floating_point():
                store(value, target)
            else:
                target.copy_(value)

    def _redo(self, job: _Job, parts: list[Part]) -> None:
        """Tiles again in float32: half precision overflowed in one of them."""
        job.redone = True
        for part in parts:
            y = self._in_float32(part, job)
            self._store_parts(job, [part], y.flip(3) if job.bgr else y)

    def _to_units(self, job: _Job, part: Part, dtype: torch.dtype, peak: float) -> Tensor:
        x = to_units(part.window(job.images).to(self.device, non_blocking=True), dtype, peak)
        return x.flip(1) if job.bgr else x

    def _in_float32(self, part: Part, job: _Job) -> Tensor:
        if self._run_float32 is None:
            plan = in_units(self.plan, UNITS, UNITS)
            backend = select_backend(plan, self.device, torch.float32)
            self._run_float32 = backend.compile(plan, self.device, torch.float32)
        x = self._to_units(job, part, torch.float32, UNITS)
        y = self._run_float32(x).permute(0, 2, 3, 1)
        if not finite(part.crop(y, self.scale)):
            raise SrfastError(
                "the network gives NaN or infinite values for this image even in float32; check its weights"
            )
        return y


def _closed(x: Tensor) -> Tensor:
    raise SrfastError("this engine is closed; make another one")


def _window(first: int, length: int, limit: int, halo: int, alignment: int) -> slice:
    """Input of an exact result for ``first .. first + length``: whole blocks of the alignment, with the halo around them."""
    reach = -(-halo // alignment) * alignment
    start = max(0, first // alignment * alignment - reach)
    return slice(start, min(limit, -(-(first + length) // alignment) * alignment + reach))


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # PyTorch has no type of its own for the CPU allocator's failure.
    return "DefaultCPUAllocator" in str(error)


def _default_memory(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free // 2
    return 1 << 30
