"""What AVIF and JPEG 2000 files hold beside their pixels: both are boxes in boxes, each of a length, a kind and a content.

OpenCV gives the pixels as they are stored, neither turned nor brought to the white of 16 bits.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"  # what a file begins with
_EXIF_MARKS = (b"JpgTiffExif->JP2", bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e"))  # as ExifTool and Adobe write
_EXIF = b"Exif\0\0"
_INCH = 0.0254  # metres
_LARGEST = 16 << 20  # bytes of a profile or of EXIF
_MOST_ITEMS = 1000  # a picture has some; those of a grid, dozens
# EXIF's orientations by AVIF's turns (quarters against the clock), and by what is mirrored after: nothing, up with down, left
# with right.
_TURNED = ((1, 4, 2), (8, 5, 7), (3, 2, 4), (6, 7, 5))


@dataclass(frozen=True)
class Boxed:
    """Of one AVIF or JPEG 2000 file.

    Attributes:
        icc: an ICC profile, or nothing.
        exif: EXIF as a TIFF structure, or nothing.
        dpi: pixels per inch, across and down.
        orientation: 1 to 8 as EXIF counts them, if it is the file's own and EXIF's has no say (AVIF).
        code_points: primaries and transfer by ITU-T H.273, if the file names any.
        bits: of a number; 0 where the file does not say.
        cropped: a part of the picture only is meant to be seen.
    """

    icc: bytes = b""
    exif: bytes = b""
    dpi: tuple[float, float] | None = None
    orientation: int | None = None
    code_points: tuple[int, int] | None = None
    bits: int = 0
    cropped: bool = False


def white_of_boxes(data: bytes) -> int:
    """The number that is white in the pixels of an AVIF or JPEG 2000 file as OpenCV gives them; 0 where it is not known."""
    try:
        boxed = read_boxed(data)
    except (struct.error, IndexError, OverflowError):
        return 0
    return (1 << boxed.bits) - 1 if boxed is not None else 0


Place = tuple[bytes, int, int]  # kind of a box, and where its content begins and ends


def read_boxed(data: bytes) -> Boxed | None:
    """Finds what an AVIF or JPEG 2000 file holds beside its pixels; None for other files.

    Raises:
        struct.error: it is cut off.
    """
    if data.startswith(_JP2):
        return _of_jp2(data)
    if data[4:8] == b"ftyp" and b"avi" in data[8 : 8 + 64]:
        for kind, begin, end in _boxes(data, 0, len(data)):
            if kind == b"meta":
                return _of_avif(data, begin + 4, end)
    return None


def _boxes(data: bytes, begin: int, end: int) -> Iterator[Place]:
    while begin + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, begin)
        head = 8
        if length == 1:  # of more than 4 GB, or written by who does not know yet
            (length,) = struct.unpack_from(">Q", data, begin + 8)
            head = 16
        elif length == 0:
            length = end - begin
        if length < head:
            return
        yield kind, begin + head, min(begin + length, end)
        begin += length


def _of_jp2(data: bytes) -> Boxed:
    icc, exif, dpi, bits = b"", b"", None, 0
    for kind, begin, end in _boxes(data, 0, len(data)):
        if kind == b"uuid" and data[begin : begin + 16] in _EXIF_MARKS:
            exif = exif or data[begin + 16 : min(end, begin + _LARGEST)].removeprefix(_EXIF)
        elif kind == b"jp2c":
            # Of the first component: where the marker SIZ names its sides and tiles, and then each component.
            bits = (data[begin + 42] & 0x7F) + 1 if data[begin + 2 : begin + 4] == b"\xff\x51" else 0
        for inner, first, last in _boxes(data, begin, end) if kind == b"jp2h" else ():
            if inner == b"colr" and data[first] == 2:
                icc = icc or data[first + 3 : min(last, first + _LARGEST)]
            elif inner == b"res ":
                # Of the picture as it is to be shown, else as it was taken.
                found = {mark: place for mark, place, _ in _boxes(data, first, last)}
                place = found.get(b"resd", found.get(b"resc"))
                dpi = dpi if place is None else _dpi(data, place)
    return Boxed(icc, exif, dpi, bits=bits)


def _dpi(data: bytes, place: int) -> tuple[float, float] | None:
    """Two fractions with decimal exponents, pixels per metre down and across."""
    down, under_down, across, under_across, power_down, power_across = struct.unpack_from(">HHHHbb", data, place)
    if not all((down, under_down, across, under_across)) or max(abs(power_down), abs(power_across)) > 12:
        return None
    return across / under_across * 10.0**power_across * _INCH, down / under_down * 10.0**power_down * _INCH


def _of_avif(data: bytes, begin: int, end: int) -> Boxed:
    parts = {kind: (first, last) for kind, first, last in _boxes(data, begin, end)}
    if b"pitm" not in parts or b"iprp" not in parts:
        return Boxed(orientation=1)
    first = parts[b"pitm"][0]
    (primary,) = struct.unpack_from(">I" if data[first] else ">H", data, first + 4)
    icc, code_points, bits, quarters, mirrored, cropped = b"", None, 0, 0, 0, False
    for kind, place, last in _properties(data, *parts[b"iprp"], primary):
        if kind == b"colr" and data[place : place + 4] in (b"prof", b"rICC"):
            icc = data[place + 4 : min(last, place + _LARGEST)]
        elif kind == b"colr" and data[place : place + 4] == b"nclx":
            code_points = struct.unpack_from(">HH", data, place + 4)
        elif kind == b"irot":
            quarters = data[place] & 3
        elif kind == b"imir":
            mirrored = 1 + (data[place] & 1)
        elif kind == b"pixi" and data[place + 4]:
            bits = bits or data[place + 5]
        elif kind == b"av1C":  # the coder's own word
            bits = (8, 8, 10, 12)[data[place + 2] >> 5 & 3]
        cropped |= kind == b"clap"
    exif = _exif_item(data, parts, primary)
    return Boxed(icc, exif, None, _TURNED[quarters][mirrored], code_points, bits, cropped)


def _properties(data: bytes, begin: int, end: int, item: int) -> Iterator[Place]:
    """Those of one item of an AVIF file."""
    parts = {kind: (first, last) for kind, first, last in _boxes(data, begin, end)}
    if b"ipco" not in parts or b"ipma" not in parts:
        return
    properties = list(itertools.islice(_boxes(data, *parts[b"ipco"]), 1 << 15))
    at, last = parts[b"ipma"]
    version, wide = data[at], data[at + 3] & 1
    at += 8
    while at < last:
        (found,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        count, at = data[at], at + 1
        numbers = struct.unpack_from(f">{count}{'H' if wide else 'B'}", data, at)
        at += count * (2 if wide else 1)
        if found == item:
            chosen = [
                number & (0x7FFF if wide else 0x7F) for number in numbers
            ]  # without the mark of what is essential
            yield from (properties[number - 1] for number in chosen if 0 < number <= len(properties))
            return


def _exif_item(data: bytes, parts: dict[bytes, tuple[int, int]], primary: int) -> bytes:
    """EXIF, which is an item of its own and refers to the picture."""
    if b"iinf" not in parts or b"iloc" not in parts:
        return b""
    begin, end = parts[b"iinf"]
    for _, first, _ in itertools.islice(_boxes(data, begin + (8 if data[begin] else 6), end), _MOST_ITEMS):
        wide = data[first] == 3
        (item,) = struct.unpack_from(">I" if wide else ">H", data, first + 4)
        if data[first] >= 2 and data[first + (10 if wide else 8) :][:4] == b"Exif" and item != primary:
            content = _item(data, parts, item)
            (skipped,) = struct.unpack_from(">I", content)
            return content[4 + skipped :]
    return b""


def _item(data: bytes, parts: dict[bytes, tuple[int, int]], wanted: int) -> bytes:
    """The content of an item, in one or more pieces, which lie in the file or in the box for small ones."""
    numbers = _Numbers(data, *parts[b"iloc"])
    version = numbers.take(1)
    numbers.take(3)
    sizes = numbers.take(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    for _ in range(min(numbers.take(4 if version == 2 else 2), _MOST_ITEMS)):
        item = numbers.take(4 if version == 2 else 2)
        inside = version and numbers.take(2) & 15 == 1
        numbers.take(2)
        base = numbers.take(base_size)
        if inside:
            base += parts.get(b"idat", (len(data), 0))[0]
        content = b""
        for _ in range(min(numbers.take(2), _MOST_ITEMS)):
            numbers.take(index_size)
            first, length = base + numbers.take(offset_size), numbers.take(length_size)
            if item == wanted:  # a length of 0 is all there is
                content += data[first : first + (min(length, _LARGEST - len(content)) if length else _LARGEST)]
        if item == wanted:
            return content
    return b""


class _Numbers:
    """Whole numbers of given sizes, one after the other."""

    def __init__(self, data: bytes, begin: int, end: int) -> None:
        self._data, self._at, self._end = data, begin, end

    def take(self, size: int) -> int:
        if self._at + size > self._end:
            raise struct.error("a box ends within a number")
        self._at += size
        return int.from_bytes(self._data[self._at - size : self._at], "big")
