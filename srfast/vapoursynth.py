"""VapourSynth: ``srfast.vapoursynth.upscale(clip)`` in a script, for clips of RGB, gray and YUV."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from srfast.errors import InputError, MissingDependencyError
from srfast.images.arrays import Array
from srfast.upscaler import Upscaler

_log = logging.getLogger("srfast")
# Properties that are places in the picture, as crop detectors write them; all others say nothing of its size.
_CROP = re.compile(r"_?Crop(Left|Right|Top|Bottom)(Value)?")
_UNSPECIFIED, _RGB, _BT709, _BT601 = 2, 0, 1, 6  # values of _Matrix
_HD = 720  # rows; clips of as many or more are BT.709 where nothing says it, as for videos


def upscale(
    clip: Any,
    model: Upscaler | str | os.PathLike[str] | Sequence[str] = "compact_x4",
    *,
    matrix: int | None = None,
    **options: Any,
) -> Any:
    """Upscale a clip; frames are converted ahead in VapourSynth's threads while the network runs.

    RGB and gray clips go through the network as they are, at their own depth. YUV clips are converted by VapourSynth's
    resizer to RGB of 8 or 16 bits or float32 and back to their own format. All properties of the frames are kept; crop
    rectangles (CropLeft, CropTopValue, ...) are enlarged with the picture, and frames in properties (_Alpha) are left out.

    Args:
        clip: of one format and one size: RGB24 to RGB48, RGBH, RGBS, gray of 8 or 16 bits or float, or YUV.
        model: an upscaler, or what ``srfast.load`` takes.
        matrix: how YUV encodes colour, as in _Matrix; by default what the first frame says, else BT.709 for clips of 720
            rows or more and BT.601 for others.
        options: those of ``srfast.Upscaler``, such as ``device`` and ``dtype``.

    Returns:
        A clip of the same format, length and frame rate, larger.

    Raises:
        MissingDependencyError: VapourSynth is not installed.
        InputError: the clip has frames of several formats or sizes, is interlaced, or is of a kind that is not supported.
    """
    vs = require_vapoursynth()
    kind = clip.format
    if kind is None or not clip.width or not clip.height:
        raise InputError("the clip has frames of several formats or sizes; bring them to one first (resize.Bicubic)")
    props = clip.get_frame(0).props
    if props.get("_FieldBased", 0):
        raise InputError("the clip is interlaced (_FieldBased); make whole frames first, as with bwdif")
    upscaler = model if isinstance(model, Upscaler) else Upscaler(model, **options)
    upscaler.check_takes_video()
    if upscaler.resizes and kind.sample_type == vs.FLOAT:
        raise InputError("outscale, size and height are for clips of integers; resize the result instead")
    own = _frame_format(vs, kind)
    if own == kind.id:
        return _Network(vs, upscaler).clip(clip)
    given: dict[str, Any] = {}
    back: dict[str, Any] = {}
    if kind.color_family == vs.YUV:
        known = props.get("_Matrix", _UNSPECIFIED) if matrix is None else matrix
        if known in (_UNSPECIFIED, _RGB):
            known = _BT709 if clip.height >= _HD else _BT601
        # _Range is 1 for full; its forerunner _ColorRange, which older versions know, is 0.
        full = props["_Range"] == 1 if "_Range" in props else props.get("_ColorRange", 1) == 0
        given = {"matrix_in": known}
        back = {"matrix": known, "range_s": "full" if full else "limited"}
        if "_ChromaLocation" in props:
            back["chromaloc"] = props["_ChromaLocation"]
    converted = vs.core.resize.Bicubic(clip, format=own, **given)
    large = _Network(vs, upscaler).clip(converted)
    # The properties of the conversions give way to the clip's own, with which the result is encoded again.
    return _with_props(vs, vs.core.resize.Bicubic(large, format=kind.id, **back), clip)


def require_vapoursynth() -> Any:
    """The VapourSynth module.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import vapoursynth
    except ImportError as error:
        raise MissingDependencyError(
            f"clips need VapourSynth ({error}); install it with: pip install vapoursynth (Python 3.12 or newer)"
        ) from error
    return vapoursynth


def _frame_format(vs: Any, kind: Any) -> int:
    """The format, by its number, in which frames of a kind go through the network."""
    gray = kind.color_family == vs.GRAY
    if kind.sample_type == vs.FLOAT:
        own = kind.id in (vs.GRAYH, vs.GRAYS, vs.RGBH, vs.RGBS)
        return int(kind.id if own else vs.RGBS)
    if kind.bits_per_sample > 16:
        raise InputError(f"clips of {kind.bits_per_sample} bits are not supported; convert to 16 bits or float first")
    if kind.bits_per_sample == 8:
        return int(vs.GRAY8 if gray else vs.RGB24)
    return int(vs.GRAY16 if gray else vs.RGB48)


class _Network:
    """The network as a filter of clips whose format it takes."""

    def __init__(self, vs: Any, upscaler: Upscaler) -> None:
        self._vs, self._upscaler = vs, upscaler
        self._lock = threading.Lock()

    def clip(self, clip: Any) -> Any:
        """The larger clip."""
        core = self._vs.core
        height, width = self._upscaler.output_size(clip.height, clip.width)
        blank = core.std.BlankClip(clip, width=width, height=height, keep=True)

        def run(n: int, f: list[Any]) -> Any:
            out = f[1].copy()
            self._fill(f[0], out)
            carry(self._vs, f[0].props, out.props, width / clip.width, height / clip.height)
            return out

        # A filter of its own for each frame: one filter would have one frame at a time between reading and writing.
        def one(n: int) -> Any:
            return core.std.ModifyFrame(blank, clips=[clip, blank], selector=run)

        return core.std.FrameEval(blank, one, clip_src=[clip])

    def _fill(self, frame: Any, out: Any) -> None:
        planes = [np.asarray(frame[plane]) for plane in range(frame.format.num_planes)]
        if planes[0].dtype.kind == "f":
            # Colours that no screen shows, as some YUV has them; further out they would be taken for another range.
            tensor = torch.from_numpy(np.stack(planes)).clamp_(-0.5, 2.0)
            with self._lock:
                result = list(self._upscaler(tensor).numpy())
        else:
            image: Array = planes[0] if len(planes) == 1 else np.stack(planes[::-1], 2)  # BGR
            with self._lock:
                large = self._upscaler(np.ascontiguousarray(image))
            result = [large] if large.ndim == 2 else [large[..., 2 - plane] for plane in range(3)]
        for plane, values in enumerate(result):
            np.copyto(np.asarray(out[plane]), values)


def carry(vs: Any, props: Any, to: Any, across: float, down: float) -> None:
    """Gives the properties of a frame to a larger one, crop rectangles enlarged by two factors."""
    for name in list(to):
        del to[name]
    for name, value in props.items():
        match = _CROP.fullmatch(name)
        if isinstance(value, vs.RawFrame):
            _log.warning("the property %s is a frame of the clip's size and is left out", name)
        elif match and isinstance(value, int):
            to[name] = round(value * (across if match[1] in ("Left", "Right") else down))
        else:
            to[name] = value


def _with_props(vs: Any, large: Any, clip: Any) -> Any:
    """A clip with the properties of the small one's frames."""
    across, down = large.width / clip.width, large.height / clip.height

    def run(n: int, f: list[Any]) -> Any:
        out = f[0].copy()
        carry(vs, f[1].props, out.props, across, down)
        return out

    return vs.core.std.ModifyFrame(large, clips=[large, clip], selector=run)
