"""The upscaler: a model with an engine around it, for frames of any kind."""

from __future__ import annotations

import functools
import hashlib
import math
import numbers
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict, overload

import numpy as np
import torch
from torch import Tensor, nn

from srfast._threads import Channel, Feeding
from srfast.backends import Backend
from srfast.checkpoint import LoadedModel, load_model
from srfast.engine import Engine
from srfast.errors import InputError, UnsupportedModelError
from srfast.images.arrays import Array, is_pil, pil_pixels, resize_array, upscale_array, upscale_frame
from srfast.images.channels import Ensemble, OnLuma, Opaque, Run
from srfast.planning import chained, plan_network

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LARGEST_SIDE = 1 << 20  # pixels, of a result: OpenCV reads no larger pictures
DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


Model: TypeAlias = LoadedModel | nn.Module | str | os.PathLike[str]


class UpscalerKeywords(TypedDict, total=False):
    """The keyword arguments of ``Upscaler``, for the signatures of functions that hand them on."""

    outscale: float | None
    size: tuple[int, int] | None
    height: int | None
    backend: str | Backend
    device: torch.device | str | None
    dtype: torch.dtype | str | None
    tile: int | None
    memory: int | None
    self_ensemble: bool


class LoadKeywords(UpscalerKeywords, total=False):
    """The keyword arguments of ``load``."""

    scale: int | None
    act: str | None
    res_scale: float | None


class Upscaler:
    """Upscales frames with one model on one device.

    Args:
        model: a checkpoint's path, a shipped model's name, or a PyTorch module for images in 0..1; or a sequence of these,
            which run one after the other in one pass. A network of one plane enlarges the luma of colour images, and one of
            four takes BGRA as it is; these two are for frames, not for videos.
        outscale: final enlargement; other than the model's own scale, the result is resized to it (numpy frames only).
        size: width and height of the result in pixels instead, whatever the input's; numpy frames and PIL images only.
        height: of the result in pixels instead; the width follows, to a multiple of 2.
        backend: 'auto', a backend's name ('triton', 'gluon', 'cuda', 'mixed', 'trunk', 'cpu', 'reference'), or a backend.
        device: 'cpu', 'cuda', 'cuda:1', ...; by default the first GPU, else the CPU.
        dtype: a torch dtype or its name ('fp16', 'bf16', 'fp32'); by default the fastest that keeps all levels of the frames.
        tile: side of a tile in input pixels; 0 never tiles, None lets the memory decide. Results do not depend on it.
        memory: bytes that activations may take.
        self_ensemble: average the results for the eight orientations of each frame (eight times the work; not for videos).

    Raises:
        CheckpointError: the file is no checkpoint of a known network.
        UnsupportedModelError: the network is no function of one image, or takes planes that are neither gray, RGB nor RGBA.
        BackendError: the backend cannot run here.

    Examples:
        >>> import numpy as np
        >>> from srfast.models import SRVGGNetCompact
        >>> module = SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2).eval()
        >>> with Upscaler(module, device="cpu", dtype="fp32") as upscaler:
        ...     large = upscaler(np.zeros((24, 32, 3), np.uint8))  # BGR
        >>> large.shape
        (48, 64, 3)
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        *,
        outscale: float | None = None,
        size: tuple[int, int] | None = None,
        height: int | None = None,
        backend: str | Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        tile: int | None = None,
        memory: int | None = None,
        self_ensemble: bool = False,
    ) -> None:
        several = list(model) if isinstance(model, (list, tuple)) else [model]
        if not several:
            raise InputError("a chain of models has at least one")
        loaded = [load_model(one) if isinstance(one, (str, os.PathLike)) else one for one in several]
        modules = [_module(one) for one in loaded]
        factor = None if outscale is None else _enlargement(outscale)  # before the work of loading
        self.size, self.height = _checked_size(outscale, size, height)
        self.name = "+".join(one.name if isinstance(one, LoadedModel) else type(one).__name__ for one in loaded)
        self.plan = chained([plan_network(module) for module in modules])
        if (self.plan.in_channels, self.plan.out_channels) not in ((1, 1), (3, 3), (4, 4)):
            channels = f"{self.plan.in_channels} channels in and {self.plan.out_channels} out"
            raise UnsupportedModelError(
                f"{self.name} takes {channels}; frames are gray, RGB or RGBA, in and out (use srfast.Engine)"
            )
        self.outscale = factor or self.plan.scale
        self.engine = Engine(self.plan, backend=backend, device=device, dtype=_dtype(dtype), tile=tile, memory=memory)
        self.self_ensemble = self_ensemble
        run: Run = Ensemble(self.engine) if self_ensemble else self.engine
        planes = self.plan.in_channels
        self._four = Opaque(run) if planes == 4 else None
        self._run: Run = OnLuma(run, self.scale) if planes == 1 else self._four or run

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the network's structure and weights: equal for equal results on one backend."""
        # The plan's table holds structure and names, not numbers; those follow below.
        digest = hashlib.sha256(str(self.plan).encode())

        def add(tensor: Tensor) -> Tensor:
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
            return tensor

        self.plan.map_tensors(add)
        return digest.hexdigest()

    @property
    def scale(self) -> int:
        """Enlargement of the network itself."""
        return self.plan.scale

    @overload
    def __call__(self, frame: Array) -> Array: ...

    @overload
    def __call__(self, frame: Tensor) -> Tensor: ...

    @overload
    def __call__(self, frame: Any) -> Any: ...

    def __call__(self, frame: Any) -> Any:
        """Upscale one frame, or a batch of tensors.

        Args:
            frame: numpy [H, W], [H, W, 3] BGR or [H, W, 4] BGRA of uint8 or uint16; a PIL image; torch [N, C, H, W] or
                [C, H, W] RGB, RGBA or gray of uint8, uint16 or floating in 0..1, on any device; or any object with
                ``__dlpack__`` in such a layout.

        Returns:
            The same kind, dtype and device; height and width multiplied by ``outscale``.

        Raises:
            InputError: another kind, shape or dtype.
        """
        if is_pil(frame):
            pixels, back = pil_pixels(frame)
            return back(self(pixels))
        if not self.resizes:
            return self._upscaled(frame)
        if not isinstance(frame, np.ndarray) and (isinstance(frame, Tensor) or hasattr(frame, "__dlpack__")):
            raise InputError(
                f"outscale, size and height on a x{self.scale} model resize numpy frames and PIL images only, not tensors"
            )
        return self._resized(frame)

    def _upscaled(self, frame: Any) -> Any:
        """A frame at the network's own enlargement."""
        if self._four is None:
            return upscale_frame(frame, self._run)
        with_alpha = isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] == 4 and frame.size
        if with_alpha and frame.dtype in (np.uint8, np.uint16):
            return self._four.bgra(frame)
        return upscale_frame(frame, self._run, self._four.rgba)

    def check_takes_video(self) -> None:
        """Refuse a network that is for frames only.

        Raises:
            InputError: it says why.
        """
        if not self.takes_video:
            why = "self_ensemble is" if self.self_ensemble else f"a network of {self.plan.in_channels} colour planes is"
            raise InputError(f"{why} for single frames and images, not for videos")

    @property
    def takes_video(self) -> bool:
        """Whether the engine by itself gives what a call does for RGB frames, as videos need it."""
        return self.plan.in_channels == 3 and not self.self_ensemble

    def _resized(self, image: Any, factor: float | None = None) -> Array:
        """The result of an image, enlarged by ``factor`` in all. What cannot be is said before the network runs."""

        def size() -> tuple[int, int]:
            height, width = image.shape[:2]
            return self.output_size(height, width) if factor is None else _size(height, width, factor)

        if isinstance(image, np.ndarray) and image.ndim > 1 and image.size:
            size()
        out = self._upscaled(image)
        return resize_array(out, *size())

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the result, in pixels.

        Raises:
            InputError: no picture is that large.
        """
        if self.size is not None:
            return self.size[1], self.size[0]
        if self.height is not None:
            tall, wide = _size(height, width, self.height / height)
            # Even: 4:2:0 video needs it, and most players and encoders with it.
            return tall, max(2, wide + wide % 2)
        return _size(height, width, self.outscale)

    @property
    def resizes(self) -> bool:
        """True where the network's results are brought to another size."""
        return self.size is not None or self.height is not None or self.outscale != self.scale

    def frames(self, frames: Iterable[Any], prefetch: int = 2) -> Iterator[Any]:
        """Upscale frames one after another; the next ones come from ``frames`` meanwhile, in a thread.

        Args:
            frames: what a call takes.
            prefetch: how many may wait; 0 takes each when its turn comes, in the calling thread.
        """
        if not prefetch:
            yield from (self(frame) for frame in frames)
            return
        waiting: Channel[Any] = Channel(threading.Event(), prefetch)
        feeding = Feeding(waiting, frames, "srfast-prefetch")
        try:
            feeding.start()
            for frame in waiting:
                yield self(frame)
        finally:
            feeding.leave()

    def close(self) -> None:
        """Give back weights and buffers; the upscaler cannot be used after this."""
        self.engine.close()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def upsample(self, image: Array, roi: tuple[int, int, int, int] | None = None) -> Array:
        """``__call__`` under the name that OpenCV's super-resolution module uses, for a whole image or a region of it.

        Args:
            image: numpy, as for a call.
            roi: (x, y, width, height) in pixels of ``image``. The result is the crop of the whole result (bit for bit on
                backends that are exact), and only the region with its halo is computed.

        Raises:
            InputError: another kind of image, or a region that is not inside it or not of the model's own scale.
        """
        if roi is None:
            return np.asarray(self(image))
        if self.resizes:
            raise InputError(f"a region needs the model's own enlargement, x{self.scale}, not {self.outscale}")
        if not self.takes_video:
            raise InputError("a region needs a network of three planes, without self_ensemble")
        x, y, width, height = roi
        return upscale_array(
            image, lambda images: self.engine.region(images, y, x, height, width), (y, x, height, width)
        )

    def enhance(self, image: Array, outscale: float | None = None) -> tuple[Array, str]:
        """``__call__`` with the signature of Real-ESRGAN: returns the image and 'L', 'RGB' or 'RGBA'."""
        if not isinstance(image, np.ndarray):
            raise InputError(f"enhance takes numpy images, not {type(image).__name__}; call the upscaler for others")
        out = self._resized(image, None if outscale is None else _enlargement(outscale))
        channels = 1 if image.ndim == 2 else image.shape[2]
        return out, {1: "L", 3: "RGB", 4: "RGBA"}[channels]

    def __repr__(self) -> str:
        dtype = str(self.engine.dtype).removeprefix("torch.")
        return f"Upscaler({self.name} x{self.scale}, {self.engine.backend.name} on {self.engine.device}, {dtype})"


def load(
    model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    scale: int | None = None,
    act: str | None = None,
    res_scale: float | None = None,
    **options: Unpack[UpscalerKeywords],
) -> Upscaler:
    """Load a checkpoint or a shipped model, ready to upscale.

    Args:
        model: a checkpoint's path or a shipped model's name, or several, which run one after the other in one pass.
        scale, act, res_scale: what the checkpoint's keys may leave open, as in ``load_model``. The size of the result is
            ``outscale``.
        **options: those of ``Upscaler``.

    Examples:
        >>> upscaler = load("compact_x2", device="cpu", dtype="fp32")
        >>> upscaler.scale, upscaler.output_size(270, 480)
        (2, (540, 960))
    """
    if isinstance(model, (str, os.PathLike)):
        return Upscaler(load_model(model, scale=scale, act=act, res_scale=res_scale), **options)
    if isinstance(model, (list, tuple)) and all(isinstance(one, (str, os.PathLike)) for one in model):
        if len(model) > 1 and scale is not None:
            raise ValueError("scale is of one network, and not known to be of which of several")
        return Upscaler([load_model(one, scale=scale, act=act, res_scale=res_scale) for one in model], **options)
    if (scale, act, res_scale) != (None, None, None):
        raise ValueError("scale, act and res_scale tell what a checkpoint's file does not: give them with its path")
    return Upscaler(model, **options)


def _module(model: Any) -> nn.Module:
    """The network of one model."""
    module = model.module if isinstance(model, LoadedModel) else model
    if not isinstance(module, nn.Module):
        raise InputError(
            "a model is a checkpoint's path, a shipped model's name, what load_model gives, a torch.nn.Module or a sequence of "
            f"these, not {type(model).__name__}"
        )
    return module


def _enlargement(outscale: Any) -> float:
    """``outscale`` if it can be one."""
    number = isinstance(outscale, numbers.Real) and not isinstance(outscale, bool)
    if not number or not 0 < outscale < math.inf:
        raise ValueError(f"outscale must be a positive, finite number, not {outscale!r}")
    return int(outscale) if isinstance(outscale, numbers.Integral) else float(outscale)


def _checked_size(
    outscale: float | None, size: tuple[int, int] | None, height: int | None
) -> tuple[tuple[int, int] | None, int | None]:
    if sum(value is not None for value in (outscale, size, height)) > 1:
        raise ValueError("outscale, size and height each say how large the result is: give one of them")
    if size is not None and not (isinstance(size, (tuple, list)) and len(size) == 2):
        raise ValueError(f"size must be a width and a height in pixels, such as (1920, 1080), not {size!r}")
    for side in (*(size or ()), *(() if height is None else (height,))):
        whole = isinstance(side, numbers.Integral) and not isinstance(side, bool)
        if not whole or not 0 < side <= _LARGEST_SIDE:
            raise ValueError(f"a side of the result has 1 to {_LARGEST_SIDE} pixels, not {side!r}")
    return size, height


def _size(height: int, width: int, factor: float) -> tuple[int, int]:
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    if max(tall, wide) > _LARGEST_SIDE:
        raise InputError(
            f"{width}x{height} enlarged by {factor:g} is {wide}x{tall}; a side has at most {_LARGEST_SIDE} pixels, "
            "so give a smaller outscale"
        )
    return tall, wide


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if not isinstance(dtype, str):
        return dtype
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    return DTYPES[dtype]
