"""One file for each property of the table of what is kept, and independent looks at whether an output has it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

MS = Fraction(1, 1000)
WIDTH, HEIGHT, FRAMES = 64, 48, 4
STEADY = tuple(40 * i for i in range(FRAMES))
UNEVEN = (0, 40, 200, 240)
TEXT = "Two <i>words</i>"
_COVER = cv2.imencode(".jpg", np.full((16, 16, 3), 99, np.uint8))[1].tobytes()


def source_of(row: str, folder: Path) -> Path:
    """Makes the file that has the property, and as little else as can be."""
    if row == "repeats":
        pictures = [Image.fromarray(np.full((HEIGHT, WIDTH, 3), 60 * i, np.uint8)) for i in range(FRAMES)]
        pictures[0].save(folder / "in.png", save_all=True, append_images=pictures[1:], duration=40, loop=3)
        return folder / "in.png"
    suffixes = {"data": ".ts", "timecode": ".mov", **dict.fromkeys(("rotation", "mirroring", "cover picture"), ".mp4")}
    path = folder / f"in{suffixes.get(row, '.mkv')}"
    codec, pix_fmt, options = "libx264", "yuv420p", {"crf": "1"}
    if row in ("10 bits", "HDR light"):
        pix_fmt = "yuv420p10le"
    elif row in ("12 bits", "alpha", "alpha of 10 bits"):
        codec, options = "ffv1", {}
        pix_fmt = {"12 bits": "yuv420p12le", "alpha": "yuva420p"}.get(row, "yuva420p10le")
    if row == "HDR light":
        codec = "libx265"
        display = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
        options = {"x265-params": f"log-level=none:master-display={display}:max-cll=1000,400"}
    elif row == "interlacing":
        options |= {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=25, options=options)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, pix_fmt
        context = video.codec_context
        context.time_base = video.time_base = MS
        if row == "colour matrix":
            context.colorspace, context.color_range = 1, 1
        if row == "HDR light":
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, 1, 9, 16
        if row == "pixel aspect":
            context.sample_aspect_ratio = Fraction(4, 3)
        other = _other_stream(row, out)
        if row == "rotation":
            video.set_display_rotation(90)
        elif row == "mirroring":
            video.set_display_matrix((-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))
        elif row == "timecode":
            video.metadata["timecode"] = "01:00:00:00"  # becomes a track of its own
        elif row == "tags":
            out.metadata["title"] = "a title"
        elif row == "chapters":
            out.set_chapters([{"id": 1, "start": 0, "end": 100, "time_base": MS, "metadata": {"title": "one"}}])
        out.start_encoding()
        for data, length in _packets(row):
            packet = av.Packet(data)
            packet.stream, packet.pts, packet.dts, packet.time_base = other, 0, 0, MS
            packet.duration, packet.is_keyframe = length, True
            out.mux(packet)
        if row == "audio":
            tone = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            tone.sample_rate, tone.pts = 48_000, 0
            out.mux(other.encode(tone))
            out.mux(other.encode(None))
        for i, pts in enumerate(UNEVEN if row == "uneven times" else STEADY):
            frame = _drawn(i, pix_fmt)
            frame.pts, frame.time_base, frame.duration = pts, MS, 40
            out.mux(video.encode(frame))
            if row == "further video":
                frame = _drawn(i, "yuv420p").reformat(width=32, height=24)
                frame.pts, frame.time_base = pts, MS
                out.mux(other.encode(frame))
        out.mux(video.encode(None))
        if row == "further video":
            out.mux(other.encode(None))
    return path


def _other_stream(row: str, out: Any) -> Any:
    if row == "audio":
        return out.add_stream("aac", rate=48_000, layout="stereo")
    if row == "further video":
        other = out.add_stream("libx264", rate=25)
        other.width, other.height, other.pix_fmt, other.time_base = 32, 24, "yuv420p", MS
        other.codec_context.time_base = MS
        return other
    if row in ("text subtitles", "picture subtitles"):
        other = out.add_stream("subrip") if row[0] == "t" else out.add_mux_stream("dvdsub")
        other.time_base = MS
        if row[0] == "t":
            other.codec_context.time_base = MS
            other.codec_context.subtitle_header = b"[Script Info]\n\n[Events]\n"
        return other
    if row == "cover picture":
        other = out.add_mux_stream("mjpeg", width=16, height=16)
        other.disposition = av.stream.Disposition.attached_pic
        return other
    if row == "data":
        return out.add_data_stream("klv")
    if row == "attached file":
        out.add_attachment("font.ttf", "application/x-truetype-font", b"a font" * 9)
    return None


def _packets(row: str) -> list[tuple[bytes, int]]:
    if row == "text subtitles":
        return [(TEXT.encode(), 120)]
    if row == "picture subtitles":
        control = struct.pack(">HHBB", 0, 10, 1, 0xFF)
        body = control + b"\0" * 4
        return [(struct.pack(">HH", 4 + len(body), 4) + body, 120)]
    if row == "cover picture":
        return [(_COVER, 0)]
    return [(b"\x06\x0e\x2b\x34" + b"\0" * 12 + b"\0", 0)] if row == "data" else []


def _drawn(index: int, pix_fmt: str) -> av.VideoFrame:
    """Dark at the top left, with a deep ramp; alpha 128 with the frame's number."""
    image = np.full((HEIGHT, WIDTH, 4), 40_000, np.uint16)
    image[: HEIGHT // 2, : WIDTH // 2, :3] = 6_000
    image[HEIGHT // 2 :, :, :3] = np.linspace(20_000, 24_000, WIDTH, dtype=np.uint16)[None, :, None]
    image[:, :, 3] = np.linspace(36_000, 40_000, WIDTH, dtype=np.uint16)[None]
    image[:4, :4, 3] = 0
    image[-4:, -4:, :3] = 1000 * index
    return av.VideoFrame.from_ndarray(image, format="rgba64le").reformat(format=pix_fmt)


# What the same property looks like in an output: each look opens the file by itself.
def has(row: str, path: Path, column: str) -> bool:
    """True where the output has the property, in whatever form."""
    if column in ("png", "jpg"):
        return _images_have(row, path)
    if column == "yuv":
        return _raw_has(row, path)
    if column in ("webp", "apng", "avif", "gif") and (row, column) not in (
        ("HDR light", "avif"),
        ("colour matrix", "avif"),
    ):
        return _animation_has(row, path, column)
    with av.open(str(path)) as c:
        return bool(_LOOKS[row](c))


def _video(c: Any) -> Any:
    return next(s for s in c.streams.video if not s.disposition & av.stream.Disposition.attached_pic)


def _frame(c: Any) -> Any:
    video = _video(c)
    if video.metadata.get("alpha_mode") == "1":
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        return next(f for p in c.demux(video) for f in decoder.decode(p))
    return next(c.decode(video))


def _bits(c: Any) -> int:
    return max(x.bits for x in _frame(c).format.components)


def _has_alpha(frame: Any) -> bool:
    alpha = frame.to_ndarray(format="rgba")[:, :, 3]
    return bool(abs(int(alpha[40, 40]) - 145) < 8 and alpha[0, 0] < 40)


def _texts(c: Any) -> list[bytes]:
    return [bytes(p) for s in c.streams.subtitles for p in c.demux(s) if p.size > 2]


def _times(c: Any) -> list[Fraction]:
    return [f.pts * f.time_base for f in c.decode(_video(c))]


def _dark_corner(image: np.ndarray) -> str:
    h, w = image.shape[0] // 4, image.shape[1] // 4
    corners = {"tl": image[h, w], "tr": image[h, 3 * w], "bl": image[3 * h, w], "br": image[3 * h, 3 * w]}
    return min(corners, key=lambda k: int(corners[k][:3].astype(int).sum()))


_LOOKS: dict[str, Callable[[Any], Any]] = {
    "audio": lambda c: len(c.streams.audio) == 1 and next(c.decode(c.streams.audio[0])).sample_rate == 48_000,
    "further video": lambda c: (
        len(c.streams.video) == 2 and sum(1 for _ in c.decode(next(s for s in c.streams if s.width == 32))) == FRAMES
    ),
    "text subtitles": lambda c: any(b"words" in text for text in _texts(c)),
    "picture subtitles": lambda c: _texts(c),
    "attached file": lambda c: [s.name for s in c.streams if s.type == "attachment"] == ["font.ttf"],
    "cover picture": lambda c: (
        [
            bytes(p)
            for s in c.streams.video
            if s.disposition & av.stream.Disposition.attached_pic
            for p in c.demux(s)
            if p.size
        ]
        == [_COVER]
    ),
    "data": lambda c: len(c.streams.data) == 1,
    "timecode": lambda c: "01:00:00:00" in [s.metadata.get("timecode", s.metadata.get("TIMECODE")) for s in c.streams],
    "chapters": lambda c: [x["metadata"].get("title") for x in c.chapters()] == ["one"],
    "tags": lambda c: c.metadata.get("title") == "a title",
    "pixel aspect": lambda c: abs(_video(c).sample_aspect_ratio - Fraction(4, 3)) * 128 < 1,
    "uneven times": lambda c: (
        [round(float(t - x) * 1000) for ts in [_times(c)] for t, x in zip(ts, ts[:1] * len(ts), strict=True)]
        == list(UNEVEN)
    ),
    "10 bits": lambda c: _bits(c) >= 10,
    "12 bits": lambda c: _bits(c) >= 12,
    "alpha": lambda c: _has_alpha(_frame(c)),
    "alpha of 10 bits": lambda c: (f := _frame(c)) and _has_alpha(f) and max(x.bits for x in f.format.components) >= 10,
    "colour matrix": lambda c: (
        (f := _frame(c)) and (int(f.colorspace) in (0, 1) or f.format.is_rgb or f.format.has_palette)
    ),
    "HDR light": lambda c: (
        {"MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"}
        <= {getattr(s, "type", s).name for s in _frame(c).side_data}
    ),
    "repeats": lambda c: False,  # no video says it
    "interlacing": lambda c: _frame(c).interlaced_frame,
}


def _rotation_shown(c: Any) -> str:
    """Where the dark corner is shown: by the pixels and the display matrix."""
    frame = _frame(c)
    image, data = frame.to_ndarray(format="rgb24"), frame.side_data.get("DISPLAYMATRIX")
    if data is not None:
        a, b, _, cc, d, *_ = memoryview(bytes(data)).cast("i")
        if cc:  # rows and columns change places
            image = image.transpose(1, 0, 2)
        image = image[:, :: -1 if (a or cc) < 0 else 1][:: -1 if (d or b) < 0 else 1]
    return f"{_dark_corner(image)} {image.shape[1]}x{image.shape[0]}"


# What a player shows of the inputs, at twice the size: by FFmpeg's own definition of the angle (anticlockwise).
_SHOWN = {"rotation": f"bl {2 * HEIGHT}x{2 * WIDTH}", "mirroring": f"tr {2 * WIDTH}x{2 * HEIGHT}"}
for _row, _shown in _SHOWN.items():
    _LOOKS[_row] = lambda c, shown=_shown: _rotation_shown(c) == shown


def _images_have(row: str, path: Path) -> bool:
    files = sorted(path.parent.glob("o*" + path.suffix))
    image = cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED)
    return array_has(row, image, len(files))


def array_has(row: str, image: np.ndarray, count: int = FRAMES) -> bool:
    if row in _SHOWN:
        return f"{_dark_corner(image)} {image.shape[1]}x{image.shape[0]}" == _SHOWN[row]
    deep = image.dtype == np.uint16 and len(np.unique(image[-20, :, 0])) > 30
    alpha = image.ndim == 3 and image.shape[2] == 4 and image[0, 0, 3] < 99 and image[80, 80, 3] > 99
    if row in ("10 bits", "12 bits"):
        return bool(deep)
    if row.startswith("alpha"):
        return bool(alpha and (deep or row == "alpha"))
    return row == "colour matrix" and image.ndim == 3


def _raw_has(row: str, path: Path) -> bool:
    size, pixels = path.stat().st_size / FRAMES, 4 * WIDTH * HEIGHT
    if row in _SHOWN:
        w, h = map(int, _SHOWN[row].split()[1].split("x"))
        return _dark_corner(np.fromfile(path, np.uint8)[: w * h].reshape(h, w, 1)) == _SHOWN[row][:2]
    wanted = {"10 bits": 3, "12 bits": 3, "alpha": 2.5, "alpha of 10 bits": 5}
    return row in wanted and size == wanted[row] * pixels


def _animation_has(row: str, path: Path, column: str) -> bool:
    """By OpenCV's readers, which have nothing in common with FFmpeg's; deep ones by FFmpeg."""
    if row == "repeats":
        return _shown(path, column) == 3
    if column in ("gif", "webp") and "bits" in row:  # they have 8, by definition
        return False
    with av.open(str(path)) as c:
        if "bits" in row:
            return bool(_LOOKS[row](c))
        if any(s.type != "video" for s in c.streams) or (row in _LOOKS and row in ("tags", "chapters")):
            return bool(_LOOKS[row](c))
    done, animation = cv2.imreadanimation(str(path))
    assert done
    assert len(animation.frames) == FRAMES
    if row == "uneven times":
        return [round(d) for d in animation.durations[:3]] == [40, 160, 40]
    return array_has(row, animation.frames[0], len(animation.frames))


def _shown(path: Path, column: str) -> int:
    """How often an animation is shown: by Pillow, and in AVIF by the lengths of the track and of its one edit."""
    if column == "avif":
        data = path.read_bytes()
        header, edits = data.index(b"tkhd") + 4, data.index(b"elst") + 4
        assert data[edits + 3] == 1  # it is repeated
        track = struct.unpack_from(">Q" if data[header] else ">I", data, header + (28 if data[header] else 20))[0]
        edit = struct.unpack_from(">Q" if data[edits] else ">I", data, edits + 8)[0]
        return int(track / edit)
    with Image.open(path) as image:  # GIF counts the times after the first
        return int(image.info.get("loop", 0)) + (column == "gif")
