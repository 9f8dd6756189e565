"""What becomes of every stream and property of an input in every kind of output: kept, converted, or named."""

from __future__ import annotations

import logging
from enum import Enum
from fractions import Fraction
from typing import Any

from srfast.errors import OutputError
from srfast.images import DEEP
from srfast.video.colour import RGB
from srfast.video.reader import VideoReader
from srfast.video.settings import container_format
from srfast.video.source import require_av
from srfast.video.time_range import can_be_cut

_log = logging.getLogger("srfast")


class Outcome(Enum):
    """What becomes of a property: it is in the output, in another form, or missing, which a line says before the run."""

    KEPT = "kept"
    CONVERTED = "converted"
    NAMED = "named"


# One row for each property, one column for each kind of output: k(ept), c(onverted), n(amed). 'png' and 'jpg' are
# numbered images, 'iter' is ``iter_video``. The tests walk every cell with a file, and docs/video-kept.md is made of it.
_TABLE = """
                          mp4 mov mkv webm avi ts nut y4m yuv png jpg gif apng webp avif iter
audio                      k   k   k   n    k  k   k   n   n   n   n   n   n    n    n    n
further video              k   k   k   n    n  k   k   n   n   n   n   n   n    n    n    n
text subtitles             c   c   k   c    n  n   n   n   n   n   n   n   n    n    n    n
picture subtitles          k   n   k   n    n  n   k   n   n   n   n   n   n    n    n    n
attached file              n   n   k   n    n  n   n   n   n   n   n   n   n    n    n    n
cover picture              k   n   c   n    n  n   n   n   n   n   n   n   n    n    n    n
timecode                   k   k   k   k    n  n   k   n   n   n   n   n   n    n    n    n
data                       n   n   n   n    n  n   n   n   n   n   n   n   n    n    n    n
chapters                   k   k   k   k    n  n   k   n   n   n   n   n   n    n    n    n
tags                       k   k   k   k    k  n   k   n   n   n   n   n   n    n    n    n
rotation                   k   k   k   k    c  c   c   c   c   c   c   c   c    c    c    c
mirroring                  k   k   k   k    c  c   c   c   c   c   c   c   c    c    c    c
pixel aspect               k   k   k   c    k  k   k   k   n   n   n   n   n    n    n    n
uneven times               k   k   k   k    c  k   k   n   n   n   n   k   k    k    k    k
repeats                    n   n   n   n    n  n   n   n   n   n   n   k   k    k    k    n
10 bits                    k   k   k   k    n  k   k   k   k   k   n   n   k    n    k    k
12 bits                    n   n   n   n    n  n   n   k   k   k   n   n   k    n    n    k
alpha                      n   k   k   k    n  n   n   n   k   k   n   c   k    k    n    k
alpha of 10 bits           n   k   k   n    n  n   n   n   k   k   n   n   k    n    n    k
colour matrix              k   k   k   k    n  k   k   n   n   c   c   c   c    c    k    c
HDR light                  k   k   k   k    n  k   k   n   n   n   n   n   n    n    k    n
interlacing                n   n   n   n    n  n   n   n   n   n   n   n   n    n    n    n
"""
_INTERLACED = "the input is interlaced: fields are upscaled woven together; --deinterlace makes whole frames first"
_TELECINED = (
    "the input looks like telecined film (two of five frames repeat a field): its fields are upscaled woven together; "
    "take the telecine out first, as with ffmpeg -vf fieldmatch,decimate"
)
_PULLED_DOWN = (
    "the input is film whose frames are shown for three and two fields in turn (soft telecine): each is upscaled once and "
    "keeps its time"
)
_WHOLE_PACKETS = (
    "encoded sound is cut between its packets: up to one (20 to 30 ms as a rule) is missing at the beginning, or too "
    "much at the end"
)
_LATE = Fraction(1, 25)  # seconds by which nobody hears it
_LETTERS = {outcome.value[0]: outcome for outcome in Outcome}
_COLUMNS = _TABLE.split("\n", 2)[1].split()
# Columns whose outputs hold frames and nothing beside them.
FRAMES_ONLY = ("y4m", "yuv", "png", "jpg", "gif", "apng", "webp", "avif", "iter")
# Containers by ffmpeg's names where the column is called otherwise.
_NAMES = {"matroska": "mkv", "mpegts": "ts", "yuv4mpegpipe": "y4m", "rawvideo": "yuv"}
MATROSKA = (".mkv", "mkv", "matroska")
_TEXT = ("srt", "subrip", "ass", "ssa", "mov_text", "webvtt", "text")


def _table() -> dict[str, dict[str, Outcome]]:
    rows = {}
    for line in _TABLE.strip().splitlines()[1:]:
        name, cells = line[:24].strip(), line[24:].split()
        rows[name] = {column: _LETTERS[cell] for column, cell in zip(_COLUMNS, cells, strict=True)}
    return rows


TABLE = _table()


def column_of(suffix: str, kind: str | None, images: bool = False) -> str:
    """The column of an output: by its suffix, or the container by ffmpeg's name.

    A container that the table does not know counts as MPEG-TS, which holds streams and little else.
    """
    if images:
        return "png" if suffix.lower() in DEEP else "jpg"
    container = container_format(suffix, kind)
    name = _NAMES.get(container, container)
    return name if name in _COLUMNS else "ts"


def row_of(stream: Any) -> str:
    """The row of a stream that is copied."""
    if stream.type == "video":
        pictures = require_av().stream.Disposition.attached_pic
        return "cover picture" if stream.disposition & pictures else "further video"
    if stream.type == "subtitle":
        return "text subtitles" if stream.codec_context.name in _TEXT else "picture subtitles"
    if stream.type == "data" and "timecode" in stream.metadata:
        return "timecode"
    return "attached file" if stream.type == "attachment" else str(stream.type)


def prepare(reader: VideoReader, column: str, *, sized: bool = False) -> None:
    """Turns the frames upright where the output cannot say that a player should; before their size is asked for.

    Also where a height or a size is asked for (``sized``) that means what a player shows, and rows would become columns.
    """
    if reader.interlaced:
        _log.warning("%s", _TELECINED if reader.telecined else _INTERLACED)
    elif reader.pulled_down:
        _log.warning("%s", _PULLED_DOWN)
    row = "mirroring" if reader.mirrored else "rotation"
    if reader.display_matrix and (TABLE[row][column] is not Outcome.KEPT or (sized and reader.rotation % 180)):
        reader.turn_upright()


def carried(reader: VideoReader, column: str, streams: list[Any]) -> list[Any]:
    """The streams that can go along. One line names all that the output has no place for.

    Sound and subtitles are left out only where nothing but frames is expected.

    Raises:
        OutputError: the container cannot hold sound or subtitles of the input.
    """
    kept, missing = [], []
    rows: set[str] = set()
    for stream in streams:
        row = row_of(stream)
        if row == "timecode" and TABLE[row][column] is Outcome.KEPT:
            continue  # the video's own tag brings it: MOV and MP4 make the track of it
        if TABLE[row][column] is not Outcome.NAMED or (stream.type == "audio" and column == "webm"):
            kept.append(stream)  # WebM takes Opus and Vorbis, and says so of others
            continue
        if stream.type in ("audio", "subtitle") and column not in FRAMES_ONLY:
            _refuse(column, stream)
        missing.append(_words(stream, row))
        rows.add(row)
    if column == "avi":
        _tell_early_sound(reader, kept)
    if reader.range and any(s.type == "audio" and not can_be_cut(s) for s in kept):
        _log.warning("%s", _WHOLE_PACKETS)
    counted = _counted(missing)
    beside = [(row, words) for row, words in _beside_streams(reader) if not _kept(row, column)]
    counted += [words for _, words in beside]
    rows |= {row for row, _ in beside} - {"colour matrix"}
    if column == "iter" and (reader.light.luminance or reader.light.levels):  # of others, the encoder's settings tell
        counted.append("the HDR mastering data")
    if counted:
        level = logging.INFO if column == "iter" else logging.WARNING  # who takes frames alone expects no more
        advice = "; write .mkv to keep them" if column != "mkv" and any(_kept(row, "mkv") for row in rows) else ""
        frames = "holds frames only" if column in FRAMES_ONLY else f"is {column}"
        _log.log(level, "the output %s, so it will lack: %s%s", frames, ", ".join(counted), advice)
    return kept


def _tell_early_sound(reader: VideoReader, streams: list[Any]) -> None:
    """Warn of a sound that begins after the pictures: AVI plays it from its beginning on."""
    late = [reader.begin_of(s) - reader.first_pts * reader.time_base for s in streams if s.type == "audio"]
    if late and max(late) > _LATE:
        _log.warning(
            "avi begins the sound with the pictures: it will be %.2f s early; write .mkv or .mp4", float(max(late))
        )


def tell_left_out(streams: list[Any], why: str) -> None:
    """Warns of all streams beside the video's frames."""
    if streams:
        _log.warning(
            "%s, so the output will lack: %s", why, ", ".join(_counted([_words(s, row_of(s)) for s in streams]))
        )


def tell_times(reader: VideoReader, column: str) -> None:
    """Names uneven times after a run, if the output has one rate: before it nobody knows them."""
    if TABLE["uneven times"][column] is Outcome.NAMED and (moved := reader.uneven_times):
        _log.warning("the output has one frame rate: %d frames of the input are shown for another time", moved)


def _refuse(column: str, stream: Any) -> None:
    name = stream.codec_context.name if stream.codec_context else stream.type
    raise OutputError(f".{column} cannot hold the {name} {stream.type} stream; {way_out(column, stream.type)}")


def _counted(words: list[str]) -> list[str]:
    return [f"{words.count(word)} {word}" if words.count(word) > 1 else word for word in dict.fromkeys(words)]


def _words(stream: Any, row: str) -> str:
    name = stream.codec_context.name if stream.codec_context else ""
    return f"{row} ({name})" if name else row


def _beside_streams(reader: VideoReader) -> list[tuple[str, str]]:
    """Rows of what the input has beside its streams, each in words."""
    found = []
    chapters = reader.chapters
    if chapters:
        found.append(("chapters", f"{len(chapters)} chapters" if len(chapters) > 1 else "a chapter"))
    tags = sorted(reader.tags)
    if tags:
        listed = ", ".join(tags[:3]) + (", ..." if len(tags) > 3 else "")
        found.append(("tags", f"tags ({listed})"))
    if reader.aspect not in (None, Fraction(1)):
        found.append(("pixel aspect", f"the pixel aspect {reader.aspect.numerator}:{reader.aspect.denominator}"))
    if reader.plays not in (None, 1):
        found.append(("repeats", f"its repeats (shown {f'{reader.plays} times' if reader.plays else 'for ever'})"))
    if not reader.colour.guessed and reader.colour.matrix != RGB:
        found.append(("colour matrix", f"the tag of the colour matrix ({reader.colour.name})"))
    return found


def _kept(row: str, column: str) -> bool:
    return TABLE[row][column] is not Outcome.NAMED


def way_out(container: str, option: str) -> str:
    """What to do about a stream that a container refuses: its suffix or name, and the kind of the stream's option."""
    leave = f"pass --no-copy-{option} to leave it out"
    return leave if container in MATROSKA else f"write .mkv, or {leave}"
