"""The journal of a run: every packet that was made, in a file that survives the end of the process.

Layout: a line of magic, a line of JSON that describes the run, then records. A record is a header (kind, stream, flags,
times, time base, length, checksum) and its payload. After each segment comes a commit record; what follows the last valid
commit is cut off when the run is continued.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from srfast._files import shortened
from srfast.errors import OutputError
from srfast.kernels.cpu import instruction_sets
from srfast.kernels.cpu.classes import VARIABLE as SRFAST_CPU
from srfast.video.source import require_av

if TYPE_CHECKING:
    import av

MAGIC = b"srfast journal 1\n"
VIDEO = -1  # the number of the encoded stream; copied ones keep that of the input
# What a run that is continued may choose anew: it does not touch the frames.
MAY_DIFFER = {"copied streams"}
# Kind, stream, flags, three times, the fraction that is their unit, length of the payload, checksum.
_HEADER = struct.Struct("<cihqqqiiII")
_NONE = -(1 << 63)
_KEY, _DISCARD = 1, 2
# Numbers of side data that containers want with a packet (AVPacketSideDataType), by PyAV's names.
_SIDE_DATA = {"skip_samples": 11, "matroska_block_additional": 15, "webvtt_identifier": 16, "webvtt_settings": 17}


@dataclass(frozen=True)
class Commit:
    """What a journal holds safely.

    Attributes:
        frames: how many are encoded.
        packets: by the input's stream, how many are copied.
        finished: these are all the frames, and all packets of ``streams``.
        streams: which ones were being copied; None where an older journal does not say.
        mixed: a stream came later than the frames that it belongs to, so packets must be put into their order.
        segment: frames in a segment.
    """

    frames: int = 0
    packets: dict[int, int] = field(default_factory=dict)
    finished: bool = False
    streams: tuple[int, ...] | None = None
    mixed: bool = False
    segment: int | None = None


def journal_path(target: Path) -> Path:
    """Where the journal of a target lies: a hidden file beside it."""
    return target.with_name(f".{shortened(target.name, 230)}.srfast-journal")


def open_journal(target: Path, run: dict[str, Any], *, overwrite: bool, resume: bool) -> Journal:
    """The journal of a target, locked.

    Raises:
        OutputError: one is there, and neither ``resume`` nor ``overwrite`` says what to do; or as ``Journal``.
    """
    path = journal_path(target)
    if path.exists() and not resume and not overwrite:
        raise OutputError(
            f"an unfinished run of {target} is in {path}: give --resume to continue it, or -y to start over"
        )
    return Journal(path, run, resume=resume)


class Journal:
    """An open journal, locked against other runs.

    Args:
        path: of the journal.
        run: what identifies the run: input, model, encoding.
        resume: continue a journal that is there.

    Attributes:
        commit: what it holds safely.
        continued: a journal was there.

    Raises:
        OutputError: it belongs to another run, or another process writes it.
    """

    def __init__(self, path: Path, run: dict[str, Any], *, resume: bool) -> None:
        self.path = path
        # Neither "r+b" nor "w+b" alone: it is made if it is missing, and never emptied before it is locked.
        self._file: BinaryIO = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")  # noqa: SIM115
        try:
            self._lock()
            self.commit = Commit()
            self.continued = resume and os.fstat(self._file.fileno()).st_size > 0
            if self.continued:
                self._continue(run)
            else:
                self._file.truncate(0)
                self._file.write(MAGIC + json.dumps(run, sort_keys=True).encode() + b"\n")
                self._file.flush()
        except BaseException:
            self._file.close()
            raise

    def _lock(self) -> None:
        try:
            # The system drops the lock with the process, however it ends, so that a crash leaves no stale one.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(f"another run is writing this output (its journal {self.path} is locked)") from error
        # The other run may have ended between the opening and the lock: then the open file is its output, or nobody's.
        try:
            own = os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.path))
        except FileNotFoundError:
            own = False
        if not own:
            raise OutputError(f"another run has ended this output meanwhile (its journal {self.path} is gone)")

    def _continue(self, run: dict[str, Any]) -> None:
        header = self._read_header()
        if header is None:
            raise OutputError(f"{self.path} is not a journal of srfast; remove it")
        different = sorted(k for k in {*header, *run} - MAY_DIFFER if header.get(k) != run.get(k))
        if different:
            raise OutputError(
                f"the unfinished run in {self.path} had another {', '.join(_difference(header, run, k) for k in different)}; "
                f"repeat its command with --resume{_way_back(header, different)}, or give -y instead to start over"
            )
        end = self._file.tell()
        # Packets behind the last commit belong to a segment that was not finished: its frames are encoded again.
        for kind, _, payload in self._records():
            if kind == b"C":
                state = json.loads(payload)
                packets = {int(k): v for k, v in state["packets"].items()}
                streams = state.get("streams")
                self.commit = Commit(
                    state["frames"],
                    packets,
                    state["finished"],
                    None if streams is None else tuple(streams),
                    state.get("mixed", False),
                    state.get("segment"),
                )
                end = self._file.tell()
        self._file.seek(end)
        self._file.truncate(end)

    def _read_header(self) -> dict[str, Any] | None:
        self._file.seek(0)
        return read_header(self._file)

    def _records(self) -> Iterator[tuple[bytes, tuple[Any, ...], bytes]]:
        return read_records(self._file)

    def _append(self, kind: bytes, fields: tuple[int, ...], payload: bytes) -> None:
        # The checksum covers the header as well, so that a wrong length is not believed.
        head = _HEADER.pack(kind, *fields, len(payload), 0)[:-4]
        self._file.write(head + struct.pack("<I", zlib.crc32(payload, zlib.crc32(head))) + payload)

    def add(self, packet: av.Packet[Any], stream: int) -> None:
        """Appends a packet of stream ``stream`` (VIDEO or a number of the input)."""
        base = packet.time_base
        flags = _KEY * packet.is_keyframe | _DISCARD * packet.is_discard
        times = (_NONE if t is None else t for t in (packet.pts, packet.dts, packet.duration))
        self._append(b"P", (stream, flags, *times, base.numerator, base.denominator), packed(packet))

    def commit_segment(self, commit: Commit) -> None:
        """Makes all so far survive a power loss."""
        state = asdict(commit)
        self._append(b"C", (0, 0, 0, 0, 0, 1, 1), json.dumps(state).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self.commit = commit

    def describe(self, text: str) -> None:
        """Appends what is to be known of a journal that is complete; a run that continues it would drop that."""
        self._append(b"S", (0, 0, 0, 0, 0, 1, 1), text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def video_times(self) -> list[int]:
        """The presentation times of the video's packets, in the order of their decoding."""
        self._file.flush()
        self._read_header()
        return [fields[2] for kind, fields, _ in self._heads() if kind == b"P" and fields[0] == VIDEO]

    def packets(self) -> Iterator[tuple[int, av.Packet[Any]]]:
        """All packets, each with its stream's number; in the order of their times where streams came late."""
        self._file.flush()
        self._read_header()
        # Usual: they were read, and so written, in the order of the file.
        if not self.commit.mixed:
            yield from (packet_of(fields, payload) for kind, fields, payload in self._records() if kind == b"P")
            return
        for _, place in heapq.merge(*self._places().values()):
            self._file.seek(place)
            for _, fields, payload in self._records():
                yield packet_of(fields, payload)
                break

    def _places(self) -> dict[int, list[tuple[float, int]]]:
        """By stream, time in seconds and place of each packet; the times are made to rise, as the order stays."""
        places: dict[int, list[tuple[float, int]]] = {}
        for kind, (stream, _, pts, dts, _, numerator, denominator), place in self._heads():
            if kind == b"P":
                own = places.setdefault(stream, [])
                ticks = dts if dts != _NONE else pts
                time = ticks * numerator / denominator if ticks != _NONE else 0.0
                own.append((max(time, own[-1][0] if own else time), place))
        return places

    def _heads(self) -> Iterator[tuple[bytes, tuple[Any, ...], int]]:
        """Kind, header fields and place of each record of a journal whose records are whole."""
        while True:
            place = self._file.tell()
            head = self._file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                return
            kind, *fields, length, _ = _HEADER.unpack(head)
            self._file.seek(length, os.SEEK_CUR)
            yield kind, tuple(fields), place

    def abandon(self, *, keep: bool) -> str:
        """Closes it; ``keep`` leaves what was committed for a later run. Returns what is left, in words."""
        frames = self.commit.frames if keep else 0
        self.close(keep=frames > 0)
        return f"{frames} frames are kept in {self.path}: --resume goes on from there" if frames else ""

    def close(self, *, keep: bool) -> None:
        """Closes it; without ``keep`` it is deleted."""
        if not keep:
            self.path.unlink(missing_ok=True)
        try:
            self._file.close()
        except OSError:  # a full disk; what was committed is on it
            return


def read_header(file: BinaryIO) -> dict[str, Any] | None:
    """What a journal says of its run, read from its start; None of a file that is no journal."""
    if file.readline(len(MAGIC)) != MAGIC:
        return None
    try:
        header = json.loads(file.readline())
    except ValueError:
        return None
    return header if isinstance(header, dict) else None


def read_records(file: BinaryIO) -> Iterator[tuple[bytes, tuple[Any, ...], bytes]]:
    """Kind, header fields and payload, up to the first record that is not whole."""
    while True:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return
        kind, *fields, length, checksum = _HEADER.unpack(head)
        payload = file.read(length)
        # A process that was killed leaves half a record at the end, and a file system may leave a hole.
        if len(payload) < length or zlib.crc32(payload, zlib.crc32(head[:-4])) != checksum:
            return
        yield kind, tuple(fields), payload


# What decides the bits of frames, and how each is asked for by name.
_OPTIONS = {"backend": "--backend", "device": "--device", "dtype": "--dtype", "instruction set": ""}
_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def _difference(header: dict[str, Any], run: dict[str, Any], key: str) -> str:
    """Names what differs; for what decides the frames' bits with the values of then and now."""
    if key not in _OPTIONS or key not in header or key not in run:
        return key
    return f"{key} ({header[key]!r:.60}, now {run[key]!r:.60})"


def _way_back(header: dict[str, Any], different: list[str]) -> str:
    """Names the options that ask for the arithmetic that an unfinished run had, where this machine has it."""
    values = {key: str(header.get(key, "")) for key in _OPTIONS if key in different}
    instructions = values.pop("instruction set", "")
    options = [f"{_OPTIONS[key]} {_DTYPES.get(value, value)}" for key, value in values.items() if value.isalnum()]
    if options:
        return f" and {' '.join(options)}"
    return f" with {SRFAST_CPU}={instructions} in the environment" if instructions in instruction_sets() else ""


def packet_of(fields: tuple[Any, ...], payload: bytes) -> tuple[int, Any]:
    """The stream's number and the packet of a record."""
    stream, flags, pts, dts, duration, numerator, denominator = fields
    packet = unpacked(payload)
    packet.pts, packet.dts = (None if t == _NONE else t for t in (pts, dts))
    packet.duration = None if duration == _NONE else duration
    packet.time_base = Fraction(numerator, denominator)
    packet.is_keyframe = bool(flags & _KEY)
    return stream, packet


def packed(packet: av.Packet[Any]) -> bytes:
    """A packet's content as bytes: side data, each with number and length, then the data itself."""
    sides = [(_SIDE_DATA[s.data_type], bytes(s)) for s in packet.iter_sidedata() if s.data_type in _SIDE_DATA]
    parts = [struct.pack("<B", len(sides))]
    parts += [struct.pack("<BI", number, len(data)) + data for number, data in sides]
    return b"".join([*parts, bytes(packet)])


def unpacked(payload: bytes) -> Any:
    """A packet from what ``packed`` gave, without times."""
    av = require_av()
    position, sides = 1, []
    for _ in range(payload[0]):
        number, length = struct.unpack_from("<BI", payload, position)
        position += 5
        sides.append((number, payload[position : position + length]))
        position += length
    packet = av.Packet(payload[position:])
    for number, data in sides:
        side = av.packet.PacketSideData(number, len(data))
        if data:
            side.update(data)
        packet.set_sidedata(side)
    return packet
