"""The engine: a plan on one device in one dtype, over images of any size, in exact tiles."""

from __future__ import annotations

import functools
import logging
import math
import numbers
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from srfast._one_thread import take
from srfast.backends import FLOATING_BITS, KEPT_BITS, SAMPLE_BITS, Backend, backend_for_size, default_dtype
from srfast.devices import usable_device
from srfast.engine.pixels import check_images
from srfast.engine.runner import Job, Runner
from srfast.engine.tiling import Blend, Budget, Tiling, batches, bytes_per_pixel, default_memory, is_out_of_memory
from srfast.engine.transfer import SLOTS
from srfast.errors import BackendError, InputError, SrfastError
from srfast.kernels.configs.networks import size_class
from srfast.kernels.planes import PlaneColour
from srfast.models.bordered import with_border
from srfast.plan import Plan

_log = logging.getLogger("srfast")
_OVERLAP = 32  # input pixels of tiles that are blended, as programs that run such networks have it


@dataclass
class Statistics:
    """What happened so far: images run, tiles per image of the last size, images redone in float32."""

    images: int = 0
    tiles: int = 0
    redone: int = 0
    out_of_memory: int = 0


class Engine:
    """Run a plan over batches of images.

    Args:
        plan: an optimised plan for images in 0..1.
        backend: 'auto', a backend's name, or a backend, as ``CpuBackend(winograd=False)``.
        device: where to run; by default the first GPU, else the CPU.
        dtype: of weights and activations. By default the fastest for 8-bit images (``backends.default_dtype``); images of
            more bits than it keeps then go through float32.
        tile: side of a tile in input pixels; 0 never tiles, None lets the memory decide. Of networks that PyTorch runs a part
            of (``Plan.blends``) tiles overlap, are blended and give about the whole image's result; others are exact.
        memory: bytes that activations may take; by default half of the free GPU memory, or 1 GiB on a CPU.
        pixels: width times height of the images, by which 'auto' chooses a backend on a GPU. By default each image's own, or
            those of ``tile``; images of a size for which another backend is faster then go through that one.

    Raises:
        ValueError: ``tile``, ``memory`` or ``dtype`` is none.
        BackendError: the backend cannot run the plan there, or the network looks at the whole image and cannot be tiled.

    Examples:
        >>> from srfast.capture import capture
        >>> from srfast.models import SRVGGNetCompact
        >>> from srfast.plan.passes import optimise
        >>> plan = optimise(capture(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2).eval()))
        >>> engine = Engine(plan, device="cpu", dtype=torch.float32)
        >>> engine(torch.zeros(1, 24, 32, 3, dtype=torch.uint8)).shape
        torch.Size([1, 48, 64, 3])
    """

    def __init__(
        self,
        plan: Plan,
        *,
        backend: str | Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        tile: int | None = None,
        memory: int | None = None,
        pixels: int | None = None,
    ) -> None:
        if tile is not None and not (isinstance(tile, numbers.Integral) and not isinstance(tile, bool) and tile >= 0):
            raise ValueError(f"tile must be 0 (never tile) or a size in input pixels, not {tile!r}")
        if memory is not None and not (isinstance(memory, numbers.Real) and 1 <= memory < math.inf):
            raise ValueError(f"memory must be a number of bytes from 1 on, not {memory!r}")
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ValueError(f"dtype must be a floating type of torch, such as torch.float32, not {dtype!r}")
        self.plan = plan
        self.device = usable_device(device)
        self.dtype = dtype or default_dtype(self.device, plan)
        self.scale = plan.scale
        self.statistics = Statistics()
        settings: dict[str, Any] = {"device": self.device, "tile": tile, "memory": memory}
        # What a pickle holds: the arguments, from which another process compiles its own engine.
        self._again = functools.partial(Engine, backend=backend, dtype=dtype, pixels=pixels, **settings)
        # A dtype or a backend that was asked for by name is obeyed; only what was chosen here is chosen again for images that
        # it does not suit.
        self._chose_dtype = dtype is None and self.dtype != torch.float32
        pixels = tile * tile if tile else pixels
        self._chose_size = backend == "auto" and pixels is None
        self._others: _Others | None = _Others()
        self._runner = Runner(plan, self.device, self.dtype, backend, pixels)
        traits = self._runner.run.traits
        self.alignment, self.halo = traits.alignment, traits.halo
        self.exact = traits.halo is not None and traits.exact
        self._told = False  # that tiles are blended
        # Reentrant: ``refresh`` holds it over several tiles, each of which takes it as well.
        self._lock = threading.RLock()  # executables own their buffers
        if self.halo is None and tile and not plan.blends:
            raise BackendError(
                f"this network looks at the whole image, so tiles of {tile} pixels would change its result; use tile 0"
            )
        element_size = self.dtype.itemsize
        memory_per_pixel = traits.bytes_per_pixel or bytes_per_pixel(self._runner.framed, element_size)
        # Beside what no kernel covers, a network may look anywhere: tiles overlap and are blended.
        self._overlap = -(-_OVERLAP // self.alignment) * self.alignment if plan.blends else self.halo
        self._budget = Budget(
            self._overlap,
            self.alignment,
            tile,
            memory or default_memory(self.device),
            memory_per_pixel,
        )

    @property
    def backend(self) -> Backend:
        """What runs the plan."""
        return self._runner.backend

    @property
    def path(self) -> str:
        """What the bits of the results depend on besides plan, dtype and backend: instruction set, GPU, or versions."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        own = f"PyTorch {torch.__version__} with {torch.backends.cpu.get_cpu_capability()}"
        return self._runner.run.path or own

    def for_frames(self, bits: int, height: int, width: int) -> Engine:
        """Returns the engine for frames of at most ``bits`` bits a sample, whatever type holds them, and of this size.

        That is this one, or one of its own: in float32 where this one's dtype was not asked for by name and would lose levels;
        by another backend where neither a backend nor ``tile`` was asked for and that one was measured to be faster at this
        size. ``statistics`` count for all. ``engine.for_frames(10, 1080, 1920)`` is for uint16 images of a 10-bit video.
        """
        if self._others is None:
            return self
        # A copy that shares everything, memory and lock included: __init__ would compile the plan again.
        same = object.__new__(Engine)
        same.__dict__.update(self._suited(bits, height * width).__dict__, _others=None)
        return same

    def for_images(self, images: Tensor, colour: PlaneColour | None = None) -> Engine:
        """Returns the engine that runs these images, as ``begin`` has them: this one, or as ``for_frames``."""
        pixels = math.prod(images.shape[1:3])  # of any shape: what is wrong with it is said where they are run
        if colour is None:
            return self._suited(SAMPLE_BITS.get(images.dtype, FLOATING_BITS), pixels)
        # Samples of planes have 8 bits, or 10 in the upper ones of 16; a picture has half as many rows of chroma as of luma.
        return self._suited(8 if images.dtype == torch.uint8 else 10, pixels // 3 * 2)

    def _suited(self, bits: int, pixels: int) -> Engine:
        if self._others is None:
            return self
        if self._chose_dtype and bits > KEPT_BITS[self.dtype]:
            return self._others.get("float32", self._in_float32) or self
        if self._chose_size:
            return self._others.get(size_class(pixels), lambda: self._of_size(pixels)) or self
        return self

    def _in_float32(self) -> Engine:
        """The same in float32; by another backend where the one that was asked for has no float32."""
        try:
            engine = self._beside(dtype=torch.float32)
        except BackendError as error:
            if self._again.keywords["backend"] == "auto":
                raise
            _log.warning("%s, which these images need: they take another backend, or give a dtype by name", error)
            engine = self._beside(dtype=torch.float32, backend="auto")
        _log.info("samples of more bits go through float32 on %s", engine.backend.name)
        return engine

    def _of_size(self, pixels: int) -> Engine | None:
        """The same by the backend for frames of so many pixels; None where that is this one's."""
        name = backend_for_size(self._runner.framed, self.device, self.dtype, pixels)
        if name is None or name == self.backend.name:
            return None
        return self._beside(pixels=pixels)

    def _beside(self, **changed: Any) -> Engine:
        """An engine with the same arguments but for those that are given; its work is counted with this one's."""
        engine = Engine(self.plan, **{**self._again.keywords, **changed})
        engine.statistics = self.statistics
        return engine

    def __call__(self, images: Tensor, *, bgr: bool = False) -> Tensor:
        """Upscale images.

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
        """Upscale one batch of images after another, as calling does, with the results in order.

        On a GPU the results come a few batches late: while one runs, the next is copied there and the last one back.
        """
        waiting: deque[Callable[[], Tensor]] = deque()
        for batch in images:
            waiting.append(self.begin(batch, bgr=bgr))
            # A result is asked for only once every slot is taken, so that copies in, the network and copies out overlap.
            if len(waiting) >= SLOTS:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()

    def begin(self, images: Tensor, *, bgr: bool = False, colour: PlaneColour | None = None) -> Callable[[], Tensor]:
        """Send a batch on its way; the returned function waits for the result.

        Results must be asked for in the order of the batches, of which ``transfer.SLOTS`` run at a time on a GPU.

        Args:
            images: as in a call. With ``colour`` pictures of video planes, [N, 3 * H / 2, W, 1] as ``Planes.of`` reads them,
                H and W multiples of the network's alignment: they come back as larger pictures of the same colour.
            bgr: as in a call.
            colour: how the planes encode colour.

        Raises:
            InputError: the images have another shape or type.
        """
        suited = self.for_images(images, colour)
        if suited is not self:
            return suited.begin(images, bgr=bgr, colour=colour)
        if colour is None:
            check_images(images, self.plan.in_channels)
            # Planes are padded by their reader, in luma and chroma alike; here only images are.
            whole, border = self._padded(images), self.scale * self.plan.border
        else:
            self._check_planes(images, colour)
            whole, border = images, 0
        job = self._sent(whole, bgr, colour)
        rows, columns = (self.scale * length for length in images.shape[1:3])

        def result() -> Tensor:
            self._settle(job)
            return job.out[:, border : border + rows, border : border + columns]

        return result

    def _sent(self, whole: Tensor, bgr: bool = False, colour: PlaneColour | None = None) -> Job:
        """Images as the plan takes them, with its border, or pictures of planes, on their way."""
        count, height, width, _ = whole.shape
        channels = self.plan.out_channels if colour is None else 1
        shape = (count, self.scale * height, self.scale * width, channels)
        job = Job(whole, self._runner.memory(shape, whole), self.scale, bgr, colour)
        with self._lock:
            self._upscale(job)
        return job

    @property
    def takes_bgr(self) -> bool:
        """Whether ``bgr`` costs nothing: the kernels that read and write integer images turn the channels round."""
        return self._runner.takes_frames

    @property
    def plane_unit(self) -> int | None:
        """Of what the height and width of video planes must be multiples; None where the kernels do not take planes."""
        rgb = (self.plan.in_channels, self.plan.out_channels) == (3, 3)
        takes = rgb and self._runner.takes_planes and not self.plan.border
        # 2: one chroma sample stands for two rows and two columns.
        return math.lcm(2, self.plan.alignment) if takes else None

    @property
    def overlaps(self) -> bool:
        """Whether copies of one batch overlap with the run of another, so that it pays to ``begin`` several."""
        return self._runner.queues is not None

    def _padded(self, images: Tensor) -> Tensor:
        """[N, H, W, C] with the plan's border, and more at the bottom and right up to multiples of its alignment."""
        return with_border(images, self.plan.border, self.plan.alignment, first=1, take=take)

    def _check_planes(self, images: Tensor, colour: PlaneColour) -> None:
        unit = self.plane_unit
        if unit is None:
            raise InputError(f"the {self.backend.name} backend takes no video planes for this network")
        shaped = images.ndim == 4 and images.shape[3] == 1 and images.shape[1] % 3 == 0 and 0 not in images.shape
        if not shaped or images.dtype != colour.dtype or images.shape[1] // 3 * 2 % unit or images.shape[2] % unit:
            raise InputError(
                f"pictures of planes must be [N, 3 * H / 2, W, 1] of {colour.dtype} with H and W multiples of {unit}, "
                f"not {list(images.shape)} of {images.dtype}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies, and other processes, compile the plan anew: memory and queues belong to one engine in one process."""
        return self._again, (self.plan,)

    def close(self) -> None:
        """Give back weights and buffers, after what runs and what was begun; later calls raise."""
        with self._lock:
            self._runner.close()
        if self._others is not None:
            self._others.close()

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
        suited = self.for_images(images)
        if suited is not self:
            return suited.region(images, top, left, height, width)
        s = self.scale
        if self.halo is None:
            return self(images)[:, top * s : (top + height) * s, left * s : (left + width) * s]
        check_images(images, self.plan.in_channels)
        first, whole = (top + self.plan.border, left + self.plan.border), self._padded(images)
        sides = zip(first, (height, width), whole.shape[1:3], strict=True)
        spans = [_window(a, length, limit, self.halo, self.alignment) for a, length, limit in sides]
        job = self._sent(whole[:, spans[0], spans[1]])
        self._settle(job)
        y, x = ((a - span.start) * s for a, span in zip(first, spans, strict=True))
        return job.out[:, y : y + height * s, x : x + width * s]

    def refresh(self, image: Tensor, last: Tensor, out: Tensor) -> int:
        """Computes again the tiles whose window differs from the last image's, by the tiling of a whole image.

        Args:
            image, last: [1, H, W, C] of one type.
            out: [1, scale * H, scale * W, C'], the last image's result, which becomes this image's.

        Returns:
            Input pixels that were computed.
        """
        suited = self.for_images(image)
        if suited is not self:
            return suited.refresh(image, last, out)
        height, width = image.shape[1:3]
        # Padding would have to be made for each tile, and what is blended belongs to several of them.
        if self.plan.border or self.plan.blends or height % self.plan.alignment or width % self.plan.alignment:
            out.copy_(self(image))
            return height * width
        with self._lock:
            whole, job = self.tiling(height, width), Job(image, out, self.scale, own=False)
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
            self._settle(job)
            self.statistics.tiles = len(whole)
        return computed

    def tiling(self, height: int, width: int, *, planes: bool = False) -> Tiling:
        """The tiles for images of this size, or pictures of planes; one tile where tiles cannot be exact."""
        return self._budget.tiling(height, width, planes)

    def _upscale(self, job: Job) -> None:
        """Sends all tiles on their way; out of memory means smaller tiles, and starts the images again."""
        height, width = job.size
        while True:
            tiling = self.tiling(height, width, planes=job.colour is not None)
            if self.plan.blends and len(tiling) > 1:
                self._tell_of_blending()
                job.blend = Blend(job.out, self.scale, self._overlap or 0)
            try:
                self._send(job, tiling)
                return
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                smaller = self._budget.shrink(tiling, self._together(tiling))
                if not smaller and self._overlap is None:
                    raise SrfastError(
                        f"an image of {width}x{height} does not fit in memory, and this network looks at the whole image, "
                        "so it cannot run in tiles; use smaller images"
                    ) from error
                if not smaller:
                    side = max(tiling.rows[0].last, tiling.columns[0].last)
                    raise SrfastError(
                        f"not even a tile of {side} pixels of an image of {width}x{height} fits in the memory of "
                        f"{self.device}; end what else takes it, or take another device (--device)"
                    ) from error
            # Outside the handler, so that the failed attempt's tensors are gone.
            self._runner.drop_staging()
            # The images are begun anew; what these flags are about is computed again.
            job.flags.clear()
            self.statistics.out_of_memory += 1
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            _log.warning("out of memory: %s from now on", smaller)

    def _tell_of_blending(self) -> None:
        if not self._told:
            self._told = True
            _log.warning(
                "PyTorch runs a part of this network, so its tiles are not exact: they overlap by %d pixels and are blended "
                "(tile 0 runs whole images)",
                2 * (self._overlap or 0),
            )

    def _send(self, job: Job, tiling: Tiling) -> None:
        self.statistics.tiles = len(tiling)
        for parts in batches(len(job.images), tiling, self._together(tiling)):
            self._runner.send(job, parts)

    def _together(self, tiling: Tiling) -> int:
        return self._budget.together(tiling, self._runner.run.traits.min_pixels)

    def _settle(self, job: Job) -> None:
        with self._lock:
            self._runner.settle(job)
            self.statistics.images += len(job.images)
            self.statistics.redone += job.redone


class _Others:
    """Engines beside one, for images that it does not suit; each is made when the first of these come."""

    def __init__(self) -> None:
        self._made: dict[str, Engine | None] = {}
        self._closed = False
        self._lock = threading.Lock()

    def get(self, name: str, make: Callable[[], Engine | None]) -> Engine | None:
        """The engine of that name, made now where it was never asked for; None where the one beside it does."""
        with self._lock:
            if self._closed:
                raise SrfastError("this engine is closed; make another one")
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for engine in filter(None, self._made.values()):
                engine.close()


def _window(first: int, length: int, limit: int, halo: int, alignment: int) -> slice:
    """Input of an exact result for ``first .. first + length``: whole blocks of the alignment, with the halo around them."""
    reach = -(-halo // alignment) * alignment
    start = max(0, first // alignment * alignment - reach)
    return slice(start, min(limit, -(-(first + length) // alignment) * alignment + reach))
