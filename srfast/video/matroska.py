"""Damage that Matroska's demuxer passes over in silence.

EBML (RFC 8794): an element is an id of 1 to 4 bytes, a size of 1 to 8 bytes, whose leading zero bits tell how many, and its
data; a size of ones is unknown. Matroska (RFC 9559): a header element, then one segment with everything else.
"""

from __future__ import annotations

import os
from typing import BinaryIO

_HEADERS = 96  # bytes: a cluster's and a block's, with what muxers note in them
_HEADER, _SEGMENT = 0x1A45DFA3, 0x18538067
_CLUSTER, _GROUP, _BLOCKS = 0x1F43B675, 0xA0, (0xA3, 0xA1)
_EMPTY_BLOCK = 8  # bytes: at most the block's own header
# What may come after a block: what clusters and groups hold, void, checksum, and the parts of a segment.
_AFTER_BLOCKS = {_CLUSTER, _GROUP, *_BLOCKS, 0x9B, 0xFB, 0xFA, 0x75A1, 0x75A2, 0xA4, 0xE7, 0xA7, 0xAB, 0x5854, 0xAF}
_AFTER_BLOCKS |= {0xEC, 0xBF, 0x1C53BB6B, 0x1254C367, 0x114D9B74, 0x1043A770, 0x1941A469, 0x1549A966, 0x1654AE6B}


class Holes:
    """Stretches of a file between two packets, or after the last one, that hold nothing known."""

    def __init__(self) -> None:
        self._last, self._end = 0, 0
        self._beside = 0  # bytes after the last packet that belong to it

    def before(self, position: int | None, size: int, beside: int = 0) -> bool:
        """True if bytes were passed over before a packet at ``position`` of ``size`` bytes.

        ``beside`` bytes come after it in its group, such as the alpha of VP8 and VP9.
        """
        if position is None or position < 0 or not size:
            return False
        # The demuxer looks for the next cluster after damage and says nothing; that packets do not follow one another tells
        # it.
        hole = self._end > 0 and position - self._end > _HEADERS + self._beside
        if position + size > self._end:
            self._last, self._end, self._beside = position, position + size, beside
        return hole

    def at_end(self, path: str | os.PathLike[str]) -> bool:
        """True if there is a block after the last packet, or what is no element of Matroska."""
        if not self._end or not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            end = _segment_end(file)
            if end is None:
                return False
            end = min(end, os.fstat(file.fileno()).st_size)
            start = _block_end(file, self._last, self._end)
            if start is None:
                return False
            file.seek(start)
            while file.tell() < end:
                name, size = _name(file), _size(file)
                if name not in _AFTER_BLOCKS or (name in _BLOCKS and (size or 0) > _EMPTY_BLOCK):
                    return True
                if size is not None and name not in (_CLUSTER, _GROUP):
                    file.seek(size, os.SEEK_CUR)
        return False


def missing_bytes(path: str | os.PathLike[str]) -> int:
    """By how many bytes a Matroska file is shorter than its segment says; 0 for other files."""
    if not os.path.isfile(path):  # a pattern of numbered images, a device
        return 0
    with open(path, "rb") as file:
        return missing_after(file, os.fstat(file.fileno()).st_size)


def missing_after(start: BinaryIO, size: int) -> int:
    """The same of what begins with ``start`` and has ``size`` bytes in all."""
    end = _segment_end(start)
    return 0 if end is None else max(0, end - size)


def _segment_end(file: BinaryIO) -> int | None:
    """Where the segment ends; None for other files, and where it does not say."""
    if _name(file) != _HEADER:
        return None
    file.seek(_size(file) or 0, os.SEEK_CUR)
    if _name(file) != _SEGMENT:
        return None
    size = _size(file)
    return None if size is None else file.tell() + size


def _block_end(file: BinaryIO, content: int, least: int) -> int | None:
    """Where the block ends whose content starts there, by the id and size before it; None if they are none of a block."""
    # The size before the content takes 1 to 8 bytes: the right number leads back to a block's id and, from there, to
    # the content.
    for width in range(1, 9):
        file.seek(content - width - 1)
        if _name(file) in _BLOCKS and (size := _size(file)) is not None and file.tell() == content:
            return content + size if content + size >= least else None
    return None


def _name(file: BinaryIO) -> int:
    """The id of the element that starts here, 0 if none does."""
    first = file.read(1)
    length = 9 - first[0].bit_length() if first and first[0] else 0
    return int.from_bytes(first + file.read(length - 1), "big") if 0 < length <= 4 else 0


def _size(file: BinaryIO) -> int | None:
    """Bytes of an element's data; None if it does not say."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    unknown = (1 << 7 * length) - 1
    size = int.from_bytes(first + file.read(length - 1), "big") & unknown
    return None if size == unknown else size
