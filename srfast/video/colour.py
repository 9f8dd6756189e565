"""Between a stream's YUV and the network's RGB, with the stream's own matrix and range."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from srfast.errors import InputError
from srfast.images.arrays import Array
from srfast.kernels.planes import LUMA_WEIGHTS

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

# Values of ITU-T H.273, which FFmpeg uses.
RGB, BT709, UNSPECIFIED, SMPTE170M = 0, 1, 2, 6
LIMITED, FULL = 1, 2
PQ, HLG = 16, 18
# The scaler's own numbers of the matrices it knows (BT.470BG and SMPTE 170M have the same coefficients).
_SCALER = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
# FFmpeg's flags of its scaler: bicubic with accurate rounding, and chroma of every pixel. PyAV names the latter from 18 on.
_EXACT, _FULL_CHROMA_OUT, _FULL_CHROMA_IN = 4 | 0x40000, 0x2000, 0x4000
_NAMES = {1: "BT.709", 4: "FCC", 5: "BT.470BG", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}


@dataclass(frozen=True)
class Colour:
    """Colour tags of a stream, by their H.273 numbers; ``matrix`` and ``range`` are never unspecified.

    Attributes:
        matrix: YUV coefficients; 0 for RGB.
        range: 1 limited (16..235), 2 full.
        primaries, transfer: carried as they are.
        guessed: the stream had no matrix of its own.
    """

    matrix: int
    range: int
    primaries: int
    transfer: int
    guessed: bool

    @property
    def name(self) -> str:
        """The matrix in words."""
        return _NAMES.get(self.matrix, f"number {self.matrix} of H.273")

    def for_format(self, pix_fmt: Any, height: int) -> Colour:
        """The tags of an output of that pixel format: those of the input, unless one is RGB and the other is not."""
        if pix_fmt.is_rgb:
            return replace(self, matrix=RGB, range=FULL)
        if self.matrix == RGB:
            return replace(self, matrix=_usual(height), range=FULL if pix_fmt.name.startswith("yuvj") else LIMITED)
        return replace(self, range=FULL) if pix_fmt.name.startswith("yuvj") else self


def _usual(height: int) -> int:
    return BT709 if height >= 720 else SMPTE170M


def declared_tags(context: Any) -> dict[str, int]:
    """The tags that a container gives, as they are before a frame is decoded: some decoders overwrite them."""
    return {name: int(getattr(context, name)) for name in ("colorspace", "color_range", "color_primaries", "color_trc")}


def format_of(frame: Any) -> Any:
    """Names the pixel format of a decoded frame, of one on a device the one that it has once it is fetched.

    Args:
        frame: PyAV's; before PyAV 18 frames have no ``sw_format``, and those on a device are fetched while they are decoded.
    """
    return getattr(frame, "sw_format", None) or frame.format


def colour_of(context: Any, frame: Any, declared: dict[str, int], height: int, path: str) -> Colour:
    """Reads the tags of a codec context, of its first frame where the context has none, and then the container's.

    An untagged stream is taken for BT.709 from 720 lines on and for BT.601 below, as players do. The output is tagged
    with what was taken: its size alone would make a player guess otherwise.

    Raises:
        InputError: the matrix is none that the scaler converts.
    """
    pix_fmt = format_of(frame)

    def tag(name: str, unknown: int) -> int:
        found = (int(getattr(context, name)), int(getattr(frame, name)), declared[name])
        return next((value for value in found if value != unknown), unknown)

    matrix, colour_range = tag("colorspace", UNSPECIFIED), tag("color_range", 0)
    primaries, transfer = tag("color_primaries", UNSPECIFIED), tag("color_trc", UNSPECIFIED)
    if pix_fmt.is_rgb or pix_fmt.has_palette:
        return Colour(RGB, FULL, primaries, transfer, False)
    guessed = matrix in (RGB, UNSPECIFIED)
    if guessed:
        matrix = _usual(height)
    if matrix not in _SCALER:
        raise InputError(
            f"{path}: the colour matrix (number {matrix} of ITU-T H.273) is not supported; convert it with ffmpeg"
        )
    if colour_range not in (LIMITED, FULL):
        colour_range = FULL if pix_fmt.name.startswith("yuvj") else LIMITED
    return Colour(matrix, colour_range, primaries, transfer, guessed)


def to_rgb(
    frame: av.VideoFrame,
    colour: Colour,
    deep: bool,
    alpha: bool = False,
    size: tuple[int, int] | None = None,
    scaler: VideoReformatter | None = None,
) -> Array:
    """Decoded frame -> [H, W, 3] RGB, or [H, W, 4] RGBA with ``alpha``; uint8, or uint16 (full 16-bit scale) if ``deep``.

    Args:
        frame: as it was decoded, on the CPU or a device.
        colour: its matrix and range.
        deep: 16 bits.
        alpha: with the alpha plane.
        size: width and height, where the frame may have another.
        scaler: kept from frame to frame, it saves setting up the conversion.
    """
    from av.video.reformatter import VideoReformatter

    scaler, (width, height) = scaler or VideoReformatter(), size or (frame.width, frame.height)
    source = format_of(frame)
    if deep and not source.is_rgb and not source.has_palette:
        return _deep_to_rgb(frame, colour, alpha, (width, height), scaler)
    name = "rgba" if alpha else "rgb"
    if colour.matrix in _SCALER:
        frame.colorspace = colour.matrix  # PyAV before 18 passes BT.2020 on by the frame's tag alone
    rgb = scaler.reformat(
        frame,
        width=width,
        height=height,
        format=f"{name}64le" if deep and alpha else "rgb48le" if deep else name if alpha else "rgb24",
        src_colorspace=_SCALER.get(colour.matrix),
        src_color_range=colour.range,
        dst_color_range=FULL,
        interpolation=_EXACT | _FULL_CHROMA_OUT,
    )
    return rgb.to_ndarray()


def from_rgb(image: Array, pix_fmt: str, colour: Colour, scaler: VideoReformatter | None = None) -> av.VideoFrame:
    """[H, W, 3] RGB or [H, W, 4] RGBA of uint8 or uint16 -> a frame to encode; ``scaler`` as for ``to_rgb``."""
    import av
    from av.video.reformatter import VideoReformatter

    scaler, wanted = scaler or VideoReformatter(), av.VideoFormat(pix_fmt)
    deep = max(component.bits for component in wanted.components) > 8
    if (deep or image.dtype == np.uint16) and not wanted.is_rgb:
        frame = _deep_from_rgb(image, wanted, colour, scaler)
    else:
        formats = {3: ("rgb24", "rgb48le"), 4: ("rgba", "rgba64le")}[image.shape[2]]
        rgb = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format=formats[image.dtype == np.uint16])
        if colour.matrix in _SCALER:
            rgb.colorspace = colour.matrix  # as in to_rgb
        frame = scaler.reformat(
            rgb,
            format=pix_fmt,
            src_color_range=FULL,
            dst_colorspace=_SCALER.get(colour.matrix),
            dst_color_range=colour.range,
            interpolation=_EXACT | _FULL_CHROMA_IN,
        )
    frame.colorspace, frame.color_range = colour.matrix, colour.range
    frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    return frame


# FFmpeg's scaler takes 255/256 of 16 bits for white, so a level of 12 bits is lost thirteen times over. It is left with
# what it does well, the size of the chroma planes; the matrix is applied here.
def _deep_to_rgb(
    frame: av.VideoFrame, colour: Colour, alpha: bool, size: tuple[int, int], scaler: VideoReformatter
) -> Array:
    source = format_of(frame)
    bits = max(component.bits for component in source.components)
    planes = _planes(_plain(frame, _plain_name(source, bits, alpha), colour, size, scaler))
    # Chroma in its middle is no colour.
    if len(planes) < 3:  # gray
        planes = [planes[0], *2 * [np.full_like(planes[0], 1 << (bits - 1))], *planes[1:]]
    rgb = cv2.transform(cv2.merge(planes[:3]), _yuv_to_rgb(colour, bits, _is_full(source, colour)))
    return np.dstack([rgb, _rescaled(planes[3], bits, 16)]) if alpha else np.asarray(rgb)


def _deep_from_rgb(image: Array, wanted: Any, colour: Colour, scaler: VideoReformatter) -> av.VideoFrame:
    import av

    bits = max(component.bits for component in wanted.components)
    alpha = image.shape[2] == 4 and any(component.is_alpha for component in wanted.components)
    # 257 = 65535 / 255: all 8-bit levels become 16-bit ones exactly.
    wide = image if image.dtype == np.uint16 else image * np.uint16(257)
    forward = np.linalg.inv(np.vstack([_yuv_to_rgb(colour, bits, _is_full(wanted, colour)), [0, 0, 0, 1]]))[:3]
    planes = list(cv2.split(cv2.transform(np.ascontiguousarray(wide[:, :, :3]), forward)))
    if alpha:
        planes.append(_rescaled(wide[:, :, 3], 16, bits))
    plain = av.VideoFrame(image.shape[1], image.shape[0], _plain_name(wanted, bits, alpha))
    for target, plane in zip(_planes(plain), planes, strict=False):  # a gray frame takes the first only
        # OpenCV limits sums to 16 bits; the format may have fewer.
        target[...] = np.minimum(plane, (1 << bits) - 1)
    if any(component.is_alpha for component in wanted.components) and not alpha:
        _planes(plain)[-1][...] = (1 << bits) - 1
    frame: av.VideoFrame = _plain(plain, wanted.name, colour, (plain.width, plain.height), scaler)
    return frame


def _plain_name(pix_fmt: Any, bits: int, alpha: bool) -> str:
    """The format of that depth whose planes are all of full size."""
    alpha = alpha or any(component.is_alpha for component in pix_fmt.components)
    depth = "" if bits == 8 else f"{bits}le"
    if len(pix_fmt.components) < 3:
        return str(pix_fmt.name)
    return f"yuv{'a' * alpha}444p{depth}"


def _plain(frame: av.VideoFrame, name: str, colour: Colour, size: tuple[int, int], scaler: VideoReformatter) -> Any:
    """The frame in a format of the same depth, matrix and range."""
    if frame.format.name == name and (frame.width, frame.height) == size:
        return frame
    matrix = _SCALER.get(colour.matrix)
    return scaler.reformat(
        frame,
        width=size[0],
        height=size[1],
        format=name,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=colour.range,
        dst_color_range=colour.range,
        interpolation=_EXACT | _FULL_CHROMA_IN,
    )


def _planes(frame: Any) -> list[Array]:
    """[H, W] views of planes that hold one component each."""
    views = []
    for plane in frame.planes:
        dtype = np.dtype(np.uint16 if frame.format.components[0].bits > 8 else np.uint8)
        rows = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // dtype.itemsize)
        views.append(rows[:, : plane.width])
    return views


def _is_full(pix_fmt: Any, colour: Colour) -> bool:
    return colour.range == FULL or len(pix_fmt.components) < 3  # gray is full range to FFmpeg


def _rescaled(plane: Array, bits: int, wanted: int) -> Array:
    """Full-range values of ``bits`` to ``wanted`` bits, rounded."""
    top, most = (1 << bits) - 1, (1 << wanted) - 1
    return ((plane.astype(np.uint64) * most + top // 2) // top).astype(np.uint16)


def _yuv_to_rgb(colour: Colour, bits: int, full: bool) -> npt.NDArray[np.float64]:
    """[3, 4]: from YUV of that depth to RGB of 16 bits, by ITU-T H.273, formulas 26 to 40."""
    kr, kb = LUMA_WEIGHTS[colour.matrix]
    kg = 1 - kr - kb
    to_rgb = np.array([[1, 0, 2 - 2 * kr], [1, -kb * (2 - 2 * kb) / kg, -kr * (2 - 2 * kr) / kg], [1, 2 - 2 * kb, 0]])
    unit, top = 1 << (bits - 8), (1 << bits) - 1
    black, luma, chroma = (0, top, top) if full else (16 * unit, 219 * unit, 224 * unit)
    scaled = 65535 * to_rgb / np.array([luma, chroma, chroma])
    return np.column_stack([scaled, -scaled @ np.array([black, 128 * unit, 128 * unit])])
