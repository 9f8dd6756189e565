"""The engine: a plan on one device in one dtype, over images of any size, in exact tiles."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

import torch
from torch import Tensor

from srfast.backends import Backend, Executable, FrameExecutable, default_device, default_dtype, select_backend
from srfast.errors import BackendError, InputError, SrfastError
from srfast.passes import in_units
from srfast.plan import Plan
from srfast.tiling import Tiling, bytes_per_pixel, tile_by_memory, tile_by_size

_log = logging.getLogger("srfast")

# White of each image type, and the dtype that reads and writes it.
PEAKS = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0, torch.float16: 1.0, torch.bfloat16: 1.0}
# The network sees and gives 0..255: integers that bfloat16 holds exactly, and float16 without subnormal weights.
UNITS = 255.0


@dataclass
class Statistics:
    """What happened so far: images run, tiles per image of the last size, images redone in float32."""

    images: int = 0
    tiles: int = 0
    redone: int = 0
    out_of_memory: int = field(default=0)


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
        element_size = torch.empty(0, dtype=self.dtype).element_size()
        whole = bytes_per_pixel(self._framed, element_size)
        self._bytes_per_pixel: int = max(1, getattr(self._run, "bytes_per_pixel", whole))

    def __call__(self, images: Tensor) -> Tensor:
        """Upscales images.

        Args:
            images: [N, H, W, C] uint8 or uint16, or floating in 0..1, channels in the network's order; on any device.

        Returns:
            [N, scale * H, scale * W, C'] of the same dtype and device, rounded to nearest and limited to the range.

        Raises:
            InputError: the images have another shape or type.
        """
        if images.ndim != 4 or images.shape[3] != self.plan.in_channels or images.dtype not in PEAKS:
            kinds = ", ".join(str(t).removeprefix("torch.") for t in PEAKS)
            raise InputError(
                f"images must be [N, H, W, {self.plan.in_channels}] of {kinds}, "
                f"not {list(images.shape)} of {images.dtype}"
            )
        count, height, width, _ = images.shape
        if 0 in images.shape:
            raise InputError(f"images of {list(images.shape)} have no pixels")
        images = _padded(images, self.plan.alignment)
        rows, columns = images.shape[1:3]
        out = images.new_empty((count, self.scale * rows, self.scale * columns, self.plan.out_channels))
        with self._lock:
            for index in range(count):
                self._upscale(images[index : index + 1], out[index : index + 1])
            self.statistics.images += count
        return out[:, : self.scale * height, : self.scale * width]

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
        padded = _padded(images, self.plan.alignment)
        if self.halo is None:
            start, window = (0, 0), padded
        else:
            sides = zip(first, (height, width), padded.shape[1:3], strict=True)
            spans = [_window(a, length, limit, self.halo, self.alignment) for a, length, limit in sides]
            start = (spans[0].start, spans[1].start)
            window = padded[:, spans[0], spans[1]]
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
            whole = self.tiling(height, width)
            computed = 0
            for row, column in whole:
                part = (
                    slice(0, 1),
                    slice(row.start, row.start + row.size),
                    slice(column.start, column.start + column.size),
                )
                if not torch.equal(image[part], last[part]):
                    self._upscale_tiles(image, out, Tiling((row,), (column,)))
                    computed += row.size * column.size
            self.statistics.images += 1
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

    def _upscale(self, image: Tensor, out: Tensor) -> None:
        """Fills ``out``; out of memory halves the tile and starts the image again."""
        height, width = image.shape[1:3]
        while True:
            tiling = self.tiling(height, width)
            try:
                self._upscale_tiles(image, out, tiling)
                return
            except (torch.OutOfMemoryError, RuntimeError) as error:
                largest = max(tiling.rows[0].last, tiling.columns[0].last)
                if not _is_out_of_memory(error) or largest <= 16:
                    raise
                if self.halo is None:
                    raise SrfastError(
                        f"an image of {width}x{height} does not fit in memory, and this network looks at the whole image, "
                        "so it cannot run in tiles; use smaller images"
                    ) from error
            # Outside the handler, so that the failed attempt's tensors are gone.
            self.statistics.out_of_memory += 1
            self._tile = max(16, largest // 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            _log.warning("out of memory: tiles of %d pixels from now on", self._tile)

    def _upscale_tiles(self, image: Tensor, out: Tensor, tiling: Tiling) -> None:
        self.statistics.tiles = len(tiling)
        redo = False
        for row, column in tiling:
            window = image[:, row.start : row.start + row.size, column.start : column.start + column.size]
            s = self.scale
            y, finite = self._run_window(window)
            y = y[:, (row.first - row.start) * s : (row.last - row.start) * s]
            y = y[:, :, (column.first - column.start) * s : (column.last - column.start) * s]
            if not (self._finite(y) if finite is None else finite):
                redo = True
                y = self._in_float32(window, row.first - row.start, column.first - column.start, y.shape)
            part = out[:, row.first * s : row.last * s, column.first * s : column.last * s]
            if y.is_floating_point():
                _store(y, part)
            else:
                part.copy_(y)
        self.statistics.redone += redo

    def _run_window(self, window: Tensor) -> tuple[Tensor, bool | None]:
        """[N, H, W, C] of the network's units, or of an integer window's own type if the backend converts it.

        The second value says whether all is finite, where the backend knows.
        """
        if isinstance(self._run, FrameExecutable) and not window.is_floating_point():
            y, bad = self._run.run_frames(window, self._input_peak / PEAKS[window.dtype], UNITS)
            return y, not bool(bad)
        return self._run(self._to_units(window, self.dtype, self._input_peak)).permute(0, 2, 3, 1), None

    def _to_units(self, window: Tensor, dtype: torch.dtype, peak: float) -> Tensor:
        """[N, H, W, C] image -> [N, C, H, W] of the network's dtype and units, channels last in memory."""
        x = window.to(self.device, non_blocking=True)
        factor = peak / PEAKS[window.dtype]
        # uint8 values are exact in every dtype; others are scaled in float32 first.
        x = x.to(dtype) if factor == 1 else (x.float() * factor).to(dtype)
        return x.permute(0, 3, 1, 2)

    @staticmethod
    def _finite(y: Tensor) -> bool:
        """One reduction: NaN and infinities survive a sum, and finite pixels cannot overflow float32."""
        return bool(torch.isfinite(y.sum(dtype=torch.float32)))

    def _in_float32(self, window: Tensor, top: int, left: int, shape: torch.Size) -> Tensor:
        """The tile again in float32: half precision overflowed."""
        if self._run_float32 is None:
            plan = in_units(self.plan, UNITS, UNITS)
            backend = select_backend(plan, self.device, torch.float32)
            self._run_float32 = backend.compile(plan, self.device, torch.float32)
        y = self._run_float32(self._to_units(window, torch.float32, UNITS)).permute(0, 2, 3, 1)
        s = self.scale
        y = y[:, top * s : top * s + shape[1], left * s : left * s + shape[2]]
        if not self._finite(y):
            raise SrfastError(
                "the network gives NaN or infinite values for this image even in float32; check its weights"
            )
        return y


def _window(first: int, length: int, limit: int, halo: int, alignment: int) -> slice:
    """Input of an exact result for ``first .. first + length``: the halo around it, on multiples of the alignment."""
    start = max(0, first - halo) // alignment * alignment
    return slice(start, min(limit, -(-(first + length + halo) // alignment) * alignment))


def _padded(images: Tensor, alignment: int) -> Tensor:
    """[N, H, W, C] continued to multiples of ``alignment`` at the bottom and right, mirrored as Real-ESRGAN does."""
    for dim in (1, 2):
        length = images.shape[dim]
        missing = -length % alignment
        if missing:
            # The last row is not repeated, unless there is no other.
            mirrored = [max(length - 2 - i, 0) for i in range(missing)]
            images = torch.cat([images, images.index_select(dim, torch.tensor(mirrored, device=images.device))], dim)
    return images


def _store(y: Tensor, out: Tensor) -> None:
    """Converts from the network's units, rounding to nearest and saturating."""
    peak = PEAKS[out.dtype]
    if out.dtype == torch.uint8:
        out.copy_(y.round().clamp_(0, UNITS))
    elif out.dtype == torch.uint16:
        out.copy_((y.float() * (peak / UNITS)).round_().clamp_(0, peak))
    else:
        out.copy_((y.float() * (peak / UNITS)).clamp_(0, peak))


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
