"""The choice of an encoder, its pixel format and its options."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from srfast.errors import OutputError
from srfast.video.colour import HLG, PQ, Colour
from srfast.video.hdr import with_light
from srfast.video.reader import VideoReader
from srfast.video.source import require_av

_log = logging.getLogger("srfast")
# By container; libx264 in all others, and png for numbered images.
DEFAULT_CODECS: dict[str | None, str] = {
    "avi": "mpeg4",  # the container has no presentation times, which H.264 wants
    "webm": "libvpx-vp9",
    "yuv4mpegpipe": "rawvideo",
    "rawvideo": "rawvideo",
    "gif": "gif",
    "apng": "png",
    "webp": "libwebp",
    "avif": "libsvtav1",
    None: "png",
}
ALPHA_CODECS: dict[str | None, str] = {"mov": "prores_ks", "matroska": "libvpx-vp9"}
# The same for more than 8 bits, where another encoder keeps them.
DEEP_CODECS: dict[str | None, str] = {"webm": "libsvtav1"}
DEEP_ALPHA_CODECS: dict[str | None, str] = {"matroska": "prores_ks", "webm": "libvpx-vp9"}
# Encoders of containers whose writers take any packets, which nobody could read then.
_ONLY: dict[str | None, str] = {"rawvideo": "rawvideo", "webp": "libwebp", "apng": "png"}
# Pixel formats that a container takes, where it takes less than the encoder.
_CONTAINER_FORMATS: dict[str | None, tuple[str, ...]] = {
    "yuv4mpegpipe": (
        *(f"yuv{chroma}p{depth}" for chroma in (420, 422, 444) for depth in ("", "10le", "12le", "16le")),
        *("yuv411p", "gray", "gray10le", "gray12le", "gray16le", "yuvj420p", "yuvj422p", "yuvj444p"),
    ),
    "webp": ("bgra",),
    "gif": ("pal8",),
}
# What FFmpeg lists for an encoder that refuses it: libvpx takes alpha beside 4:2:0 only, and x265 is seldom built with alpha.
REFUSED = {"libvpx-vp9": ("yuva422p", "yuva444p", "gbrap"), "libx265": ("yuva420p", "yuva420p10le")}
DEFAULT_CRF = {"libx264": 18, "libx264rgb": 18, "libx265": 20, "libvpx-vp9": 24, "libvpx": 10, "libsvtav1": 24}
# Encoders that know constant quality under another name.
CRF_NAMES = {"nvenc": "cq", "qsv": "global_quality"}
# Encoders without constant quality of their own: a fixed quantiser instead of FFmpeg's 200 kbit/s.
QSCALE = ("mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "msmpeg4", "h263p", "libxvid")
# Containers by suffix, by ffmpeg's names.
FORMATS = {
    ".mp4": "mp4",
    ".mkv": "matroska",
    ".mov": "mov",
    ".m4v": "mp4",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
    ".nut": "nut",
    ".gif": "gif",
    ".png": "apng",
    ".apng": "apng",
    ".webp": "webp",
    ".avif": "avif",
    ".y4m": "yuv4mpegpipe",
    ".yuv": "rawvideo",
    ".rgb": "rawvideo",
}
SHORT = {"y4m": "yuv4mpegpipe", "mkv": "matroska", "ts": "mpegts"}
# Most units of a second that an encoder counts in.
_COARSE = {"mpeg4": 65_535, "msmpeg4": 65_535, "libxvid": 65_535}
# Encoders whose clock is one of a few frame rates, in multiples and parts; the frames' own times are the container's matter.
_MPEG_RATES = tuple(map(Fraction, ("24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60")))
BY_COUNT = {"mpeg1video": (1, 1), "mpeg2video": (4, 32)}  # the largest multiple and part
# The highest levels of H.264, HEVC and AV1 hold as many luma samples; few players show more.
LEVEL_LIMIT = 35_651_584
_RATES = {"b", "qp", "lossless", "cq", "crf", "global_quality", "qmin", "qmax"}  # options that choose the quality
_GLOBAL_HEADER = 0x40  # AVFMT_GLOBALHEADER


@dataclass(frozen=True)
class Encoding:
    """How to encode, in ffmpeg's words.

    Attributes:
        codec: encoder name; by default libx264, or libvpx-vp9 in .webm.
        crf: constant quality; by default 18 for libx264.
        pix_fmt: pixel format; by default the input's where the encoder takes it, else the nearest it does.
        options: further encoder options.
        format: container by ffmpeg's name, for the standard output; by default told by the suffix.

    Examples:
        >>> Encoding(codec="libx265", crf=20, options={"preset": "slow"}).crf
        20
    """

    codec: str | None = None
    crf: float | None = None
    pix_fmt: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    format: str | None = None


@dataclass(frozen=True)
class Settings:
    """An encoder with all its choices made."""

    codec: str
    pix_fmt: str
    options: dict[str, str]
    width: int
    height: int
    rate: Fraction | None
    time_base: Fraction
    clock: Fraction  # units of the frames' times as they come; the encoder may need coarser ones
    aspect: Fraction | None
    colour: Colour
    plays: int  # how often an animation is shown; 0 is for ever
    headers_apart: bool  # the container keeps the encoder's headers, instead of each key frame

    @property
    def encoder_clock(self) -> Fraction:
        """Seconds of a unit of the encoder: ``time_base``, or for one that counts frames their distance."""
        return 1 / self.rate if self.rate and self.codec in BY_COUNT else self.time_base


def container_format(suffix: str, kind: str | None = None) -> str:
    """The container by ffmpeg's name, from its name or a suffix.

    Raises:
        OutputError: the suffix is none of a video container.
    """
    found = SHORT.get(kind, kind) if kind else FORMATS.get(suffix)
    if found is None:
        raise OutputError(f"cannot tell a video container from the suffix {suffix!r}; use one of {', '.join(FORMATS)}")
    return found


def choose(reader: VideoReader, encoding: Encoding, suffix: str, width: int, height: int) -> Settings:
    """Settles codec, pixel format and options.

    Args:
        reader: where the frames come from.
        encoding: what was asked for.
        suffix: of the target, with its dot, lower case; nothing for numbered images.
        width, height: of the frames to come.

    Raises:
        OutputError: the encoder is missing, or cannot take this video.
    """
    av = require_av()
    kind = container_format(suffix, encoding.format) if suffix or encoding.format else None
    name = encoding.codec or usual_codec(reader, kind)
    if name != _ONLY.get(kind, name):
        raise OutputError(f"{suffix or kind} takes {_ONLY[kind]} alone, not {name}; leave -c out, or write .mkv")
    codec = _encoder(name)
    name = codec.name  # that of a format, such as hevc, stands for the encoder that FFmpeg takes for it
    pix_fmt = _pixel_format(encoding.pix_fmt or nearest_format(reader, codec, kind))
    try:
        apart = kind is not None and bool(av.ContainerFormat(kind, "w").flags & _GLOBAL_HEADER)
    except ValueError as error:
        raise OutputError(f"this FFmpeg has no container called {kind!r}") from error
    settings = Settings(
        codec=name,
        pix_fmt=pix_fmt.name,
        options=with_light(name, _options(name, encoding, pix_fmt), reader.light),
        width=width,
        height=height,
        rate=reader.even_rate if kind == "avi" else reader.rate,
        time_base=_encoder_clock(name, reader),
        clock=reader.time_base,
        aspect=_aspect(reader, width, height),
        plays=reader.plays or 0,
        colour=reader.colour.for_format(pix_fmt, reader.height),
        headers_apart=apart,
    )
    _check(reader, settings, pix_fmt)
    return settings


def check_names(encoding: Encoding) -> None:
    """Refuses names of encoders and pixel formats that do not exist, before any video is there.

    Raises:
        OutputError: one does not.
    """
    if encoding.codec:
        _encoder(encoding.codec)
    if encoding.pix_fmt:
        _pixel_format(encoding.pix_fmt)


def _encoder(name: str) -> Any:
    av = require_av()
    try:
        codec = av.Codec(name, "w")
    except (av.error.FFmpegError, ValueError) as error:
        raise OutputError(f"this FFmpeg has no encoder called {name!r}; see 'srfast info'") from error
    if codec.type != "video":
        raise OutputError(f"{name} encodes {codec.type}, not video; give -c an encoder of video, such as libx264")
    return codec


def _pixel_format(name: str) -> Any:
    try:
        return require_av().VideoFormat(name)
    except ValueError as error:
        raise OutputError(f"no pixel format is called {name!r}; see 'ffmpeg -pix_fmts'") from error


def _aspect(reader: VideoReader, width: int, height: int) -> Fraction | None:
    """The pixel aspect; of a size with other proportions the one that shows the picture as before."""
    if reader.aspect in (None, Fraction(1)):
        return reader.aspect
    assert reader.aspect is not None
    changed = Fraction(reader.width * height, reader.height * width)
    return reader.aspect if abs(changed - 1) < Fraction(1, 100) else (reader.aspect * changed).limit_denominator(4096)


def usual_codec(reader: VideoReader, kind: str | None) -> str:
    """The encoder that a container gets for an input, by ffmpeg's names: one that keeps its bits and its alpha."""
    wanted = [DEFAULT_CODECS]
    if reader.alpha:
        wanted.insert(0, ALPHA_CODECS)
    if reader.deep:
        wanted.insert(0, DEEP_ALPHA_CODECS if reader.alpha else DEEP_CODECS)
    return next((codecs[kind] for codecs in wanted if kind in codecs), "libx264")


def _encoder_clock(name: str, reader: VideoReader) -> Fraction:
    """The time base of the encoder: the input's, if it can count in it."""
    base, most = reader.time_base, _COARSE.get(name)
    if most is None or base.denominator <= most:
        return base
    rate = reader.rate.numerator if reader.rate and reader.rate.numerator <= most else 1000
    return Fraction(1, rate * (most // rate))


def _options(name: str, encoding: Encoding, pix_fmt: Any) -> dict[str, str]:
    options = dict(encoding.options)
    crf = encoding.crf
    if crf is None and not _RATES & set(options):
        crf = DEFAULT_CRF.get(name)
    if crf is not None:
        key = next((key for family, key in CRF_NAMES.items() if name.endswith(family)), "crf")
        options.setdefault(key, f"{crf:g}")
    if name == "libx265" and "log-level" not in options.get("x265-params", ""):
        # It writes to the standard error by itself.
        options["x265-params"] = ":".join(filter(None, [options.get("x265-params"), "log-level=error"]))
    elif name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # as above: errors only
    if name.startswith("libvpx") and "lossless" not in options:
        options.setdefault("b", "0")  # constant quality needs it
        if name == "libvpx" and any(c.is_alpha for c in pix_fmt.components):
            options.setdefault("auto-alt-ref", "0")  # VP8 has no hidden frames beside alpha
    elif name in QSCALE and not _RATES & set(options):
        # 118: FFmpeg's unit of a quantiser step.
        options |= {"flags": f"{options.get('flags', '')}+qscale", "global_quality": str(2 * 118)}
    elif name == "libwebp" and not options.keys() & {"quality", "lossless"}:
        options["quality"] = "90"
    elif name == "prores_ks":
        options.setdefault("profile", "4444" if "444" in pix_fmt.name else "hq")
    return options


def nearest_format(reader: VideoReader, codec: Any, kind: str | None = None) -> str:
    """The input's pixel format if encoder and container take it, else that with its alpha, depth and chroma, or nearly."""
    offered = [f for f in codec.video_formats or [] if f.name not in REFUSED.get(codec.name, ())]
    if codec.name == "mjpeg":  # it lists limited ranges too, which it refuses
        offered = [f for f in offered if f.name.startswith("yuvj")]
    if kind in _CONTAINER_FORMATS:
        av, names = require_av(), _CONTAINER_FORMATS[kind]
        offered = [f for f in offered if f.name in names] or [av.VideoFormat(name) for name in names]
    # "yuvj" is an old name of full range, which is a tag today; only Motion JPEG still wants it.
    name = reader.format.name.replace("yuvj", "yuv") if codec.name != "mjpeg" else reader.format.name
    if not offered or name in [f.name for f in offered]:
        return str(name)
    bits = max(component.bits for component in reader.format.components)
    chroma = _sampling(reader.format)

    def distance(candidate: Any) -> tuple[bool, bool, int, bool, int, int]:
        depth = max(component.bits for component in candidate.components)
        alpha = any(component.is_alpha for component in candidate.components)
        sampling = _sampling(candidate)
        # What would be lost counts first, in the order in which it is seen; then what would only be stored for nothing.
        return (
            reader.alpha and not alpha,
            depth < min(bits, 10) or len(candidate.components) < 3,
            max(0, sampling[0] - chroma[0]) + max(0, sampling[1] - chroma[1]),
            bool(candidate.is_rgb != reader.format.is_rgb),
            abs(depth - bits),
            abs(sampling[0] - chroma[0]) + abs(sampling[1] - chroma[1]) + 4 * (alpha and not reader.alpha),
        )

    usable = [f for f in offered if not _is_device(f) and f.name[:4] not in ("nv12", "nv21", "p010", "nv16", "nv20")]
    return str(min(usable or offered, key=distance).name)


def _is_device(pix_fmt: Any) -> bool:
    return not pix_fmt.components


def _sampling(pix_fmt: Any) -> tuple[int, int]:
    """Powers of two by which the chroma planes are smaller in width and height."""
    chroma = pix_fmt.components[1] if len(pix_fmt.components) >= 3 else None
    if chroma is None:
        return (0, 0)
    return _log2(64, pix_fmt.chroma_width(64)), _log2(64, pix_fmt.chroma_height(64))


def _log2(whole: int, part: int) -> int:
    return max(0, (whole // max(1, part)).bit_length() - 1)


def _check_mpeg_rate(settings: Settings) -> None:
    """Refuses a rate that an encoder in ``BY_COUNT`` has no number for: a usual one, times a multiple over a part.

    Raises:
        OutputError: it is none of these.
    """
    rate = settings.rate
    if settings.codec not in BY_COUNT or not rate:
        return
    most, parts = BY_COUNT[settings.codec]
    factors = [rate / usual for usual in _MPEG_RATES]
    if not any(factor.numerator <= most and factor.denominator <= parts for factor in factors):
        raise OutputError(
            f"{settings.codec} knows the usual frame rates only, and this video has {float(rate):.6g} a second; "
            "use another encoder, such as -c libx264"
        )


def _check(reader: VideoReader, settings: Settings, pix_fmt: Any) -> None:
    """What would fail late, or go wrong in silence."""
    width, height = settings.width, settings.height
    across, down = _sampling(pix_fmt)
    for name, size, halvings in (("width", width, across), ("height", height, down)):
        if size % (1 << halvings) and settings.codec not in ("rawvideo", "ffv1", "png", "gif", "libwebp"):
            raise OutputError(
                f"{pix_fmt.name} needs an even {name}, not {size}; use --pix-fmt yuv444p or another scale"
            )
    _check_mpeg_rate(settings)
    if reader.deep and max(c.bits for c in pix_fmt.components) < 10 and reader.colour.transfer in (PQ, HLG):
        raise OutputError(
            f"the video is HDR ({'PQ' if reader.colour.transfer == PQ else 'HLG'}), which {pix_fmt.name} would band: "
            "use an encoder and --pix-fmt of 10 bits, such as -c libx265 --pix-fmt yuv420p10le"
        )
    if width * height > LEVEL_LIMIT and settings.codec in (
        "libx264",
        "libx265",
        "libsvtav1",
        "h264_nvenc",
        "hevc_nvenc",
    ):
        _log.warning(
            "%dx%d is more than any level of %s holds: many players will refuse it; a smaller -s helps",
            width,
            height,
            settings.codec,
        )
    bits, kept = (max(c.bits for c in f.components) for f in (reader.format, pix_fmt))
    if reader.deep and kept < bits <= 16:
        _log.warning("%s with %s keeps %d of the input's %d bits", settings.codec, pix_fmt.name, kept, bits)
    if reader.alpha and not (pix_fmt.has_palette or any(c.is_alpha for c in pix_fmt.components)):
        _log.warning(
            "%s has no alpha, so the input's is left out; -c prores_ks in .mov, libvpx-vp9 in .webm or ffv1 in .mkv keep it",
            f"{settings.codec} with {pix_fmt.name}",
        )
