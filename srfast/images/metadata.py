"""What image files hold beside their pixels: the colour profile (ICC) and the camera's data (EXIF).

Found in PNG, JPEG, WebP, TIFF, AVIF and JPEG 2000, and put into PNG, JPEG and WebP, by splicing: OpenCV does neither before 4.12,
and of TIFF and resolutions not even then (``docs/decisions.md``).
Files come from anywhere, so what does not parse is left out, never an error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from srfast.images.boxes import Boxed, read_boxed
from srfast.images.chunks import PNG, png_chunk, png_chunks, riff_chunk, riff_chunks

_JPEG_EXIF = b"Exif\0\0"
_JPEG_ICC = b"ICC_PROFILE\0"
_SEGMENT = 65533  # bytes of a JPEG segment without its length
_LARGEST = 16 << 20  # bytes of a profile; real ones have some kB, printers' a few MB
_ORIENTATION, _ICC = 0x0112, 0x8773  # tags of TIFF
_CAMERA = (0x010F, 0x0110, 0x8769, 0x8825)  # maker, model, EXIF's own directory, that of the place
_PHOTOMETRIC, _SAMPLES, _GRAY = 0x0106, 0x0115, (0, 1)
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_INCH = 0.0254  # metres
_JFIF_UNITS = {1: 1.0, 2: 2.54}
_UPRIGHT = 1
# PNG's chunks that say what the numbers of colours mean, with their lengths, and those that count only without a profile.
_COLOURS = {b"cICP": 4, b"mDCV": 24, b"cLLI": 8, b"gAMA": 4, b"cHRM": 32}
_WITHOUT_PROFILE = (b"gAMA", b"cHRM")
# What they hold where it is sRGB, which is what a reader takes without them.
_SRGB = {
    b"cICP": bytes([1, 13, 0, 1]),
    b"gAMA": struct.pack(">I", 45_455),
    b"cHRM": struct.pack(">8I", 31_270, 32_900, 64_000, 33_000, 30_000, 60_000, 15_000, 6_000),
}
_UNSPECIFIED = 2  # a code point of ITU-T H.273
# WebP: flags in the chunk that announces others.
_FLAGS = {b"ICCP": 0x20, b"ALPH": 0x10, b"EXIF": 0x08}
KEEPS = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp")  # suffixes of what ``with_metadata`` writes into


@dataclass(frozen=True)
class Metadata:
    """Of one image file.

    Attributes:
        icc: an ICC profile, or nothing.
        exif: EXIF as a TIFF structure, or nothing.
        dpi: pixels per inch, across and down; None where the file does not say.
        unread: what else there is, in words, and is not carried over.
        colours: kinds and contents of PNG's chunks that say what the numbers mean, as those of HDR pictures do.
        turned: the orientation that the file gives by other means than EXIF, whose own then has no say; 1 to 8.
    """

    icc: bytes = b""
    exif: bytes = b""
    dpi: tuple[float, float] | None = None
    unread: tuple[str, ...] = ()
    colours: tuple[tuple[bytes, bytes], ...] = ()
    turned: int | None = None

    @property
    def orientation(self) -> int:
        """1 to 8, as EXIF counts them; 1 is upright."""
        if self.turned is not None:
            return self.turned
        found = tiff_entry(self.exif, _ORIENTATION)
        value = found.number(self.exif) if found else _UPRIGHT
        return value if 1 <= value <= 8 else _UPRIGHT

    def upright(self, channels: int) -> Metadata:
        """That of the picture once it is turned and has 1, 3 or 4 channels: no orientation, thumbnail or other colours."""
        # OpenCV converts CMYK to BGR and gray with alpha to BGRA: a profile of the former colours would be wrong.
        fits = self.icc[16:20] == (b"GRAY" if channels == 1 else b"RGB ")
        whole = self.icc[36:40] == b"acsp" and int.from_bytes(self.icc[:4], "big") == len(self.icc)
        dpi = self.dpi if self.dpi is None or self.orientation < 5 else (self.dpi[1], self.dpi[0])
        icc = self.icc if fits and whole else b""
        return replace(self, icc=icc, exif=_upright(self.exif), dpi=dpi, turned=None)


def read_metadata(data: bytes) -> Metadata:
    """Finds the metadata of an image file, as far as there is any."""
    try:
        if data.startswith(PNG):
            return _of_png(data)
        if data.startswith(b"\xff\xd8"):
            return _of_jpeg(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            chunks = dict(riff_chunks(data))
            return Metadata(chunks.get(b"ICCP", b""), chunks.get(b"EXIF", b"").removeprefix(_JPEG_EXIF))
        boxed = read_boxed(data)
        if boxed is not None:
            return _of_boxes(boxed)
        camera = ("the camera's data (EXIF)",) if any(tiff_entry(data, tag) for tag in _CAMERA) else ()
        return Metadata(icc=_of_tiff(data), dpi=_dpi_of_tiff(data), unread=camera + _gray_alpha(data))
    except (struct.error, zlib.error, IndexError, OverflowError):
        return Metadata()


def _of_boxes(boxed: Boxed) -> Metadata:
    unread = ("the crop of its input (clap)",) if boxed.cropped else ()
    points = boxed.code_points or (_UNSPECIFIED, _UNSPECIFIED)
    # A profile counts more in AVIF, and in PNG less.
    plain = boxed.icc or _UNSPECIFIED in points or max(points) > 255
    # The numbers are full-range RGB by now.
    colours = () if plain else ((b"cICP", bytes([*points, 0, 1])),)
    return Metadata(boxed.icc, boxed.exif, boxed.dpi, unread, colours, boxed.orientation)


def left_out(suffix: str, metadata: Metadata) -> list[str]:
    """What a file of a suffix will lack of the metadata of its picture, in words."""
    missing = list(metadata.unread)
    gray = metadata.icc[16:20] == b"GRAY" and suffix == ".webp"
    if metadata.icc and (suffix not in KEEPS or gray):
        missing.append("the colour profile")
    colours = [kind.decode() for kind, content in metadata.colours if not _is_srgb(kind, content)]
    if colours and suffix != ".png":
        missing.append(f"the colour space ({', '.join(colours)})")
    jpeg = suffix in (".jpg", ".jpeg", ".jfif", ".jpe")
    too_large = jpeg and len(_JPEG_EXIF) + len(metadata.exif) > _SEGMENT
    if metadata.exif and (suffix not in KEEPS or too_large):
        missing.append("the camera's data (EXIF)")
    if metadata.dpi and not jpeg and suffix not in (".png", ".tif", ".tiff"):
        missing.append(f"the resolution of {metadata.dpi[0]:.0f} dpi")
    return missing


def _is_srgb(kind: bytes, content: bytes) -> bool:
    """Whether a chunk of colours says no more than what is taken without it, up to a hundredth."""
    expected = _SRGB.get(kind, b"")
    if kind == b"cICP" or not expected or len(content) != len(expected):
        return content == expected
    pairs = zip(struct.iter_unpack(">I", content), struct.iter_unpack(">I", expected), strict=True)
    return all(abs(value - own) * 100 <= own for (value,), (own,) in pairs)


def with_metadata(data: bytes, metadata: Metadata, size: tuple[int, int], alpha: bool) -> bytes:
    """A PNG, JPEG or WebP file as OpenCV writes it, with the metadata in it; other files as they are.

    Args:
        data: the file.
        metadata: of the picture as it is, upright.
        size: height and width in pixels.
        alpha: it has an alpha channel.
    """
    if metadata == Metadata():
        return data
    if data.startswith(PNG):
        return _into_png(data, metadata)
    if data.startswith(b"\xff\xd8"):
        return _into_jpeg(data, metadata)
    if data.startswith(b"RIFF"):
        return _into_webp(data, metadata, size, alpha)
    return data


def _of_png(data: bytes) -> Metadata:
    icc = exif = b""
    dpi = None
    found: dict[bytes, bytes] = {}
    for kind, content in png_chunks(data):
        if kind == b"iCCP":  # a name, the method, and zlib's stream
            icc = zlib.decompressobj().decompress(
                content[content.index(b"\0") + 2 :] if b"\0" in content else b"", _LARGEST
            )
        elif kind == b"eXIf":
            exif = content
        elif kind == b"pHYs" and len(content) == 9 and content[8] == 1:  # pixels per metre
            across, down = struct.unpack_from(">II", content)
            dpi = (across * _INCH, down * _INCH) if across and down else None
        elif len(content) == _COLOURS.get(kind, -1) or kind == b"sRGB":
            found[kind] = content
    plain = _WITHOUT_PROFILE if icc or b"sRGB" in found else ()
    colours = tuple((kind, found[kind]) for kind in _COLOURS if kind in found and kind not in plain)
    return Metadata(icc, exif, dpi, colours=colours)


def _into_png(data: bytes, metadata: Metadata) -> bytes:
    added = b""
    for kind, content in metadata.colours:
        added += png_chunk(kind, content)
    if metadata.icc:
        added += png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.exif:
        added += png_chunk(b"eXIf", metadata.exif)
    if metadata.dpi:
        across, down = (max(1, round(value / _INCH)) for value in metadata.dpi)
        added += png_chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
    header = len(PNG) + 25
    return data[:header] + added + data[header:]


def _of_jpeg(data: bytes) -> Metadata:
    exif, parts, dpi = b"", {}, None
    for marker, content in _jpeg_segments(data):
        if marker == 0xE1 and content.startswith(_JPEG_EXIF):
            exif = exif or content[len(_JPEG_EXIF) :]
        elif marker == 0xE2 and content.startswith(_JPEG_ICC) and len(content) > len(_JPEG_ICC) + 2:
            parts[content[len(_JPEG_ICC)]] = content[len(_JPEG_ICC) + 2 :]
        elif marker == 0xE0 and content.startswith(b"JFIF\0") and content[7] in _JFIF_UNITS:
            across, down = struct.unpack_from(">HH", content, 8)
            unit = _JFIF_UNITS[content[7]]
            dpi = (across * unit, down * unit) if across and down else None
    return Metadata(b"".join(parts[number] for number in sorted(parts)), exif, dpi)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers and contents before the pixels."""
    at = 2
    while data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:  # filling
            at += 1
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        yield data[at + 1], data[at + 4 : at + 2 + length]
        at += 2 + length


def _into_jpeg(data: bytes, metadata: Metadata) -> bytes:
    added = b""
    exif = _JPEG_EXIF + metadata.exif
    if metadata.exif and len(exif) <= _SEGMENT:
        added += _jpeg_segment(0xE1, exif)
    room = _SEGMENT - len(_JPEG_ICC) - 2
    parts = [metadata.icc[i : i + room] for i in range(0, len(metadata.icc), room)]
    if len(parts) <= 255:
        for number, part in enumerate(parts, 1):
            added += _jpeg_segment(0xE2, _JPEG_ICC + bytes([number, len(parts)]) + part)
    if metadata.dpi and data[2:4] == b"\xff\xe0" and data[6:11] == b"JFIF\0":
        density = struct.pack(">BHH", 1, *(min(65_535, max(1, round(value))) for value in metadata.dpi))
        data = data[:13] + density + data[18:]
    # After JFIF's own segment, which has to be the first.
    begin = 4 + struct.unpack_from(">H", data, 4)[0] if data[2:4] == b"\xff\xe0" else 2
    return data[:begin] + added + data[begin:]


def _jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def _into_webp(data: bytes, metadata: Metadata, size: tuple[int, int], alpha: bool) -> bytes:
    own = [(kind, content) for kind, content in riff_chunks(data) if kind != b"VP8X"]
    coloured = metadata.icc[16:20] == b"RGB "  # WebP has no gray
    before = [(b"ICCP", metadata.icc)] if coloured else []
    after = [(b"EXIF", metadata.exif)] if metadata.exif else []
    flags = sum(_FLAGS[kind] for kind, _ in before + after) | (_FLAGS[b"ALPH"] if alpha else 0)
    height, width = size
    extended = struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP"
    for kind, content in [(b"VP8X", extended), *before, *own, *after]:
        body += riff_chunk(kind, content)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _of_tiff(data: bytes) -> bytes:
    found = tiff_entry(data, _ICC)
    if not found:
        return b""
    offset = found.place(data, found.values)
    return data[offset : offset + found.values] if found.values <= _LARGEST else b""


def _dpi_of_tiff(data: bytes) -> tuple[float, float] | None:
    unit = tiff_entry(data, _RESOLUTION_UNIT)
    inches = unit.number(data) if unit else 2
    found = []
    for tag in (_X_RESOLUTION, _Y_RESOLUTION):
        place = tiff_entry(data, tag)
        if not place or inches not in (2, 3):
            return None
        over, under = struct.unpack_from(place.order + "II", data, place.place(data, 8))
        if not over or not under:
            return None
        found.append(over / under * (1 if inches == 2 else 2.54))
    return found[0], found[1]


def _gray_alpha(data: bytes) -> tuple[str, ...]:
    """What a TIFF of gray with alpha has and OpenCV does not give, in words."""
    places = [tiff_entry(data, tag) for tag in (_PHOTOMETRIC, _SAMPLES)]
    kind, samples = (place.number(data) if place else None for place in places)
    return ("the alpha of gray",) if kind in _GRAY and samples == 2 else ()


def gray_transparency(data: bytes) -> int | None:
    """The value of a gray PNG, in the depth that OpenCV gives, that is transparent; None where none is."""
    if not data.startswith(PNG) or len(data) < 33 or data[25] != 0:
        return None
    bits, at = data[24], len(PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return None
        if kind == b"tRNS" and length == 2 and at + 10 <= len(data):
            value: int = struct.unpack_from(">H", data, at + 8)[0]
            return value if bits == 16 else (value & ((1 << bits) - 1)) * 255 // ((1 << bits) - 1)
        at += 12 + length
    return None


class TiffEntry(NamedTuple):
    """A tag of a TIFF structure: its byte order, and where its value is, or the place of it where it is longer.

    ``values`` says how many there are. ``wide`` is one of BigTIFF, whose places and counts have 8 bytes.
    """

    order: str
    at: int
    values: int
    wide: bool

    def number(self, data: bytes) -> int:
        """The first number of a tag of 16-bit numbers, of which one or two stand in its entry."""
        return int(struct.unpack_from(self.order + "H", data, self.at)[0])

    def place(self, data: bytes, size: int) -> int:
        """Where a value of so many bytes begins."""
        if size <= (8 if self.wide else 4):
            return self.at
        return int(struct.unpack_from(self.order + ("Q" if self.wide else "I"), data, self.at)[0])


def tiff_entry(data: bytes, wanted: int) -> TiffEntry | None:
    """A tag in the first directory of a TIFF or BigTIFF structure, if it is there."""
    order = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}.get(data[:4])
    if order is None:
        return None
    wide = b"+" in data[:4]
    head, size = ("QQ", 20) if wide else ("IH", 12)
    try:
        (begin,) = struct.unpack_from(order + head[0], data, 8 if wide else 4)
        (entries,) = struct.unpack_from(order + head[1], data, begin)
        begin += struct.calcsize(order + head[1])
        for at in range(begin, begin + size * entries, size):
            tag, _, count = struct.unpack_from(order + "HH" + head[0], data, at)
            if tag == wanted:
                value = at + struct.calcsize(order + "HH" + head[0])
                return TiffEntry(order, value, count, wide) if at + size <= len(data) else None
    except (struct.error, OverflowError):
        pass
    return None


def _upright(exif: bytes) -> bytes:
    """EXIF that says upright, without its thumbnail, which is not turned; nothing if it cannot be read."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return b""
    try:
        changed = bytearray(exif)
        begin = struct.unpack_from(order + "I", exif, 4)[0]
        entries = struct.unpack_from(order + "H", exif, begin)[0]
        struct.pack_into(order + "I", changed, begin + 2 + 12 * entries, 0)  # no further directory
        found = tiff_entry(exif, _ORIENTATION)
        if found:
            struct.pack_into(order + "H", changed, found.at, _UPRIGHT)
    except struct.error:
        return b""
    return bytes(changed)
