"""Uploads that try to read another file or an address, and canaries that notice."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_IN_ACCESS, _IN_OPEN, _IN_NONBLOCK = 0x1, 0x20, 0o4000


class Canaries:
    """A folder of files and a server on loopback that nobody should touch.

    Attributes:
        folder: with ``video.ts``, ``picture.png`` and ``secret.sub``.
        port: of the server.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        clip(folder / "video.ts", "mpeg2video")
        clip(folder / "video.mov", "mpeg4")
        for name in ("picture.png", "secret.sub", "secret.key"):
            (folder / name).write_bytes(b"canary" * 100)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(_IN_NONBLOCK)
        for path in folder.iterdir():
            assert self._libc.inotify_add_watch(self._watch, os.fsencode(path), _IN_OPEN | _IN_ACCESS) >= 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._connections: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(1)
                try:
                    self._connections.append(connection.recv(1000))
                    connection.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")
                except OSError:
                    self._connections.append(b"")

    def touched(self) -> list[str]:
        """What was opened, read or asked for since the last call."""
        try:
            events = os.read(self._watch, 1 << 16)
        except BlockingIOError:
            events = b""
        found = ["a file"] if events else []
        found += [f"the address: {head[:40]!r}" for head in self._connections]
        self._connections.clear()
        return found

    def close(self) -> None:
        """Ends the watch and the server."""
        os.close(self._watch)
        self._server.close()


@contextmanager
def canaries(folder: Path) -> Iterator[Canaries]:
    """Canaries in a new folder."""
    made = Canaries(folder)
    try:
        yield made
    finally:
        made.close()


def clip(path: Path, codec: str = "mpeg4", frames: int = 3, size: tuple[int, int] = (48, 32)) -> Path:
    """Writes a small video of gray frames."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(
                np.full((size[1], size[0], 3), 60 * index % 256, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@dataclass(frozen=True)
class Attack:
    """A file that names others: its name, and how it is made from the canaries."""

    name: str
    make: Callable[[Canaries, Path], bytes]


def _hls(first: str, key: str = "") -> bytes:
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:3",
        "#EXT-X-TARGETDURATION:1",
        "#EXT-X-MEDIA-SEQUENCE:0",
        *([key] if key else []),
    ]
    return "\n".join([*lines, "#EXTINF:1.0,", first, "#EXT-X-ENDLIST", ""]).encode()


def _dash(address: str) -> bytes:
    return f"""<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
 mediaPresentationDuration="PT1S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet
 mimeType="video/mp4"><Representation id="1" bandwidth="1000" width="48" height="32"><BaseURL>{address}</BaseURL>
 <SegmentList duration="1"><SegmentURL media="video.ts"/></SegmentList></Representation></AdaptationSet></Period></MPD>
""".encode()


def _svg(canary: Canaries, folder: Path) -> bytes:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="48" height="32">'
        f'<image xlink:href="file://{canary.folder}/picture.png" width="9" height="9"/>'
        f'<image xlink:href="http://127.0.0.1:{canary.port}/a.png" width="9" height="9"/></svg>'
    ).encode()


def _mov_reference(canary: Canaries, folder: Path) -> bytes:
    """A QuickTime file whose samples lie in another file, named by an alias."""
    data = bytearray(clip(folder / "reference.mov").read_bytes())
    path = str(canary.folder / "video.mov").encode().replace(b"/", b":")
    path += bytes(len(path) % 2)
    alias = bytes(10) + bytes([1]) + b"v".ljust(27, b"\0") + bytes(12)
    alias += bytes([9]) + b"video.mov".ljust(63, b"\0") + bytes(16) + struct.pack(">HH", 1, 2) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path + struct.pack(">HH", 0xFFFF, 0)
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    at = data.index(b"dref") - 4
    old = struct.unpack_from(">I", data, at)[0]
    new = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    data[at : at + old] = new
    for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):  # those that hold it; the last of a name before it
        place = data.rindex(name, 0, at) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + len(new) - old)
    return bytes(data)


def _avi_subtitle(canary: Canaries, folder: Path) -> bytes:
    """An AVI with a subtitle in its first packet (GAB2) that is a playlist."""
    data = bytearray(clip(folder / "subtitle.avi").read_bytes())
    playlist = _hls(f"file://{canary.folder}/video.ts")
    name = "a".encode("utf-16-le") + b"\0\0"
    packet = b"GAB2\0\x02\0" + struct.pack("<I", len(name)) + name + struct.pack("<HI", 4, len(playlist)) + playlist
    header = struct.pack("<4s4sIHHIIIIIIII8x", b"txts", bytes(4), 0, 0, 0, 0, 1, 25, 0, 1, len(packet), 0, 0)
    stream = b"LIST" + struct.pack("<I", 4 + 8 + len(header) + 8) + b"strl"
    stream += b"strh" + struct.pack("<I", len(header)) + header + b"strf" + struct.pack("<I", 0)
    packet += b"\0" * (len(packet) % 2)
    chunk = b"01tx" + struct.pack("<I", len(packet)) + packet
    hdrl = data.index(b"hdrl") - 8
    end = hdrl + 8 + struct.unpack_from("<I", data, hdrl + 4)[0]
    data[end:end] = stream
    struct.pack_into("<I", data, hdrl + 4, end - hdrl - 8 + len(stream))
    count = data.index(b"avih") + 8 + 24
    struct.pack_into("<I", data, count, 2)
    movi = data.index(b"movi") + 4
    data[movi:movi] = chunk
    size = struct.unpack_from("<I", data, movi - 8)[0]
    struct.pack_into("<I", data, movi - 8, size + len(chunk))
    struct.pack_into("<I", data, 4, len(data) - 8)
    return bytes(data)


ATTACKS = (
    Attack("hls-file", lambda c, f: _hls(f"file://{c.folder}/video.ts")),
    Attack("hls-address", lambda c, f: _hls(f"http://127.0.0.1:{c.port}/video.ts")),
    Attack(
        "hls-key",
        lambda c, f: _hls(f"{c.folder}/video.ts", f'#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1:{c.port}/key"'),
    ),
    Attack("hls-concat", lambda c, f: _hls(f"concat:http://127.0.0.1:{c.port}/x?|file://{c.folder}/secret.key")),
    Attack("concat-script", lambda c, f: f"ffconcat version 1.0\nfile '{c.folder}/video.ts'\n".encode()),
    Attack("concat-address", lambda c, f: f"ffconcat version 1.0\nfile 'http://127.0.0.1:{c.port}/v'\n".encode()),
    Attack("dash-file", lambda c, f: _dash(f"{c.folder}/")),
    Attack("dash-address", lambda c, f: _dash(f"http://127.0.0.1:{c.port}/")),
    Attack("svg-images", _svg),
    Attack("mov-reference", _mov_reference),
    Attack("avi-subtitle-playlist", _avi_subtitle),
    Attack(
        "sdp-address",
        lambda c, f: (
            f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {c.port} TCP/RTP/AVP 33\n".encode()
        ),
    ),
    Attack(
        "vobsub-index",
        lambda c, f: (
            b"# VobSub index file, v7 (do not modify this line!)\nsize: 48x32\nid: en, index: 0\n"
            b"timestamp: 00:00:00:000, filepos: 000000000\n"
        ),
    ),
)
