"""Names of catalogues, against a server on this machine: checks, cache, offline use, broken connections, and messages."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import srfast
from srfast.checkpoint import catalogue, download, load_model
from srfast.cli import main
from srfast.errors import CheckpointError
from srfast.models import SRVGGNetCompact
from tests.helpers.hostile.attempts import is_plain
from tests.helpers.ncnn_files import Writer


@dataclass
class Server:
    """What it has, and what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)  # the next answers end after so many bytes
    asked: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.path, self.headers.get("Range", "")))
            if self.path in state.codes or (self.path not in state.files and self.path not in state.redirects):
                self.send_error(state.codes.get(self.path, 404))
                return
            extra = state.headers.get(self.path, {})
            if self.path in state.redirects:
                self.send_response(302)
                self.send_header("Location", state.redirects[self.path])
                self._finish(extra, b"")
                return
            data = state.files[self.path]
            etag = f'"{hashlib.md5(data).hexdigest()}"'
            asked, first = self.headers.get("Range", ""), 0
            if asked and self.headers.get("If-Range") == etag:
                first = int(asked.removeprefix("bytes=").removesuffix("-"))
                if first >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self._finish({"ETag": etag, **extra}, data[first:])

        def _finish(self, headers: dict[str, str], data: bytes) -> None:
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            most = state.cut.pop(0) if state.cut else len(data)
            self.wfile.write(data[:most])
            self.close_connection = True

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{running.server_address[1]}"
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        monkeypatch.setenv("SRFAST_OMDB_URL", f"{state.url}/models")
        monkeypatch.setenv("SRFAST_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "*")
        for name in catalogue.OFFLINE_VARIABLES:
            monkeypatch.delenv(name, raising=False)
        yield state
        running.shutdown()


HF = "hf:some.one/repo-1/sub/n.pth"
HF_PATH = "/some.one/repo-1/resolve/main/sub/n.pth"


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    torch.manual_seed(0)
    torch.save(SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2).state_dict(), tmp_path / "n.pth")
    return (tmp_path / "n.pth").read_bytes()


def describe(server: Server, name: str, data: bytes, *urls: str, **changed: Any) -> None:
    resource = {"platform": "pytorch", "type": "pth", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    resource |= {"urls": list(urls)} | changed
    server.files[f"/models/{name}.json"] = json.dumps({"name": name, "resources": [resource]}).encode()


def refused(name: str) -> str:
    with pytest.raises(CheckpointError) as found:
        load_model(name)
    assert is_plain(str(found.value))
    return str(found.value)


def cached(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache"
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def test_hugging_face(server: Server, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is on another server, and the answer that refers to it has its size and hash."""
    digest = hashlib.sha256(data).hexdigest()
    server.redirects[HF_PATH] = f"{server.url}/store/1"
    server.headers[HF_PATH] = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{digest}"'}
    server.files["/store/1"] = data
    upscaler = srfast.load(HF, device="cpu", dtype="fp32")
    assert upscaler.scale == 2
    asked = len(server.asked)
    monkeypatch.setenv("SRFAST_OFFLINE", "1")
    assert load_model(HF).name == "n"
    assert len(server.asked) == asked == 2
    assert cached(tmp_path) == ["hf/some.one/repo-1/main/sub/n.pth", "hf/some.one/repo-1/main/sub/n.pth.json"]


def test_hugging_face_gives_something_else(server: Server, data: bytes, tmp_path: Path) -> None:
    server.redirects[HF_PATH] = f"{server.url}/store/1"
    server.files["/store/1"] = data[:-1] + b"x"
    server.headers[HF_PATH] = {"X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"'}
    assert "sha256" in refused(HF)
    server.headers[HF_PATH] = {"X-Linked-Size": str(len(data) + 7)}
    assert f"{len(data)} bytes, expected {len(data) + 7}" in refused(HF)
    server.headers[HF_PATH] = {"X-Linked-Size": str(len(data) - 7)}
    assert "more than" in refused(HF)
    assert [name for name in cached(tmp_path) if not name.endswith((".partial", ".etag"))] == []


def test_a_small_file_has_gits_hash(server: Server, data: bytes) -> None:
    server.files[HF_PATH] = data
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    server.headers[HF_PATH] = {"ETag": '"' + "0" * 40 + '"', "X-Repo-Commit": "1"}
    assert "git hash" in refused(HF)
    server.headers[HF_PATH]["ETag"] = f'"{blob}"'
    assert load_model(HF).scale == 2


def test_a_revision_and_both_files_of_ncnn(server: Server, tmp_path: Path) -> None:
    w = Writer(0)
    w.add("Input", [], ["data"])
    w.conv("data", "c", 3, 12, 3, 1)
    w.add("PixelShuffle", ["c"], ["output"], {0: 2})
    server.files = {"/a/b/resolve/v1/m.param": w.text(), "/a/b/resolve/v1/m.bin": w.numbers()}
    assert load_model("hf:a/b@v1/m.param").scale == 2


def test_openmodeldb(server: Server, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses that only show a file are passed over, and one that does not have it is not the last."""
    server.files["/f/n.pth"] = data
    describe(server, "2x-N", data, "https://mega.nz/folder/x", f"{server.url}/gone.pth", f"{server.url}/f/n.pth")
    assert load_model("omdb:2x-N").scale == 2
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert load_model("omdb:2x-N").name == "2x-N"
    assert cached(tmp_path) == ["omdb/2x-N.pth", "omdb/2x-N.pth.json"]


def test_a_file_that_was_changed_is_downloaded_again(server: Server, data: bytes, tmp_path: Path) -> None:
    server.files["/f/n.pth"] = data
    describe(server, "2x-N", data, f"{server.url}/f/n.pth")
    load_model("omdb:2x-N")
    path = tmp_path / "cache" / "omdb" / "2x-N.pth"
    path.write_bytes(data[:-1] + b"x")
    assert load_model("omdb:2x-N").scale == 2
    assert path.read_bytes() == data


@pytest.mark.parametrize("cuts", [[100], [1000, 700], [0]])
def test_a_broken_connection_goes_on(cuts: list[int], server: Server, data: bytes) -> None:
    server.files[HF_PATH], server.cut = data, list(cuts)
    assert load_model(HF).scale == 2
    positions = [int(asked.removeprefix("bytes=").removesuffix("-")) for _, asked in server.asked if asked]
    assert positions == [sum(cuts[: i + 1]) for i in range(len(cuts)) if sum(cuts[: i + 1])]


def test_the_next_run_goes_on_too(server: Server, data: bytes, tmp_path: Path) -> None:
    server.files[HF_PATH], server.cut = data, [500] * download.TRIES
    assert "goes on where it was" in refused(HF)
    server.asked.clear()
    assert load_model(HF).scale == 2
    assert server.asked == [(HF_PATH, f"bytes={500 * download.TRIES}-")]


def test_a_part_of_another_version_is_thrown_away(server: Server, data: bytes) -> None:
    server.files[HF_PATH], server.cut = bytes(len(data)), [500] * download.TRIES
    refused(HF)
    server.files[HF_PATH] = data
    assert load_model(HF).scale == 2


def test_two_at_once(server: Server, data: bytes) -> None:
    server.files[HF_PATH] = data
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(load_model(HF).scale)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 4
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "name",
    [
        "hf:a/b",
        "hf:a",
        "hf:",
        "hf:a/b/../../../etc/passwd.pth",
        "hf:../b/c.pth",
        "hf:a/b@../c.pth",
        "hf:a//c.pth",
        "hf:a/b/c.py",
        "hf:a/b/\x1b[2J.pth",
        "hf:a/b/c d.pth",
        "omdb:",
        "omdb:../x",
        "omdb:a/b",
        "omdb:a\x1b[2J\r\n",
    ],
)
def test_names_that_are_none(name: str, server: Server) -> None:
    assert "expected" in refused(name) or "ends in none" in refused(name)
    assert server.asked == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[", "unknown way"),
        (b"[]", "unknown way"),
        (b"{}", "unknown way"),
        (b'{"resources": [{"type": "pth", "platform": "pytorch", "urls": []}]}', "sha256"),
        (b'{"resources": []}', "no file that a program can download"),
        (b'{"resources": [{"type": "py", "platform": "x", "urls": []}]}', "no file that a program"),
        (b"[" * 100_000, "unknown way"),
        (b" " * (2 << 20), "more than"),
    ],
)
def test_descriptions_that_are_none(text: bytes, says: str, server: Server) -> None:
    server.files["/models/x.json"] = text
    assert says in refused("omdb:x")


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/n.pth", "https://mega.nz/x", "data:,x", "../n.pth"]
)
def test_addresses_that_are_none(url: str, server: Server, data: bytes) -> None:
    describe(server, "x", data, url)
    assert "openmodeldb.info/models/x" in refused("omdb:x")


def test_where_a_server_refers_to_a_file(server: Server, data: bytes) -> None:
    server.redirects[HF_PATH] = "file:///etc/passwd"
    assert "127.0.0.1" in refused(HF)


def test_answers(server: Server, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for code, says in (
        (404, "no such file"),
        (401, "without an account"),
        (403, "without an account"),
        (500, "answers 500"),
    ):
        server.codes[HF_PATH] = code
        assert says in refused(HF)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "cannot be reached" in refused(HF)
    monkeypatch.setenv("SRFAST_OFFLINE", "1")
    assert "SRFAST_OFFLINE" in refused(HF)
    assert "SRFAST_OFFLINE" in refused("omdb:x")


def test_a_cache_that_cannot_be_written(server: Server, data: bytes, tmp_path: Path) -> None:
    server.files[HF_PATH] = data
    (tmp_path / "cache").write_text("a file")
    assert "SRFAST_CACHE" in refused(HF)


def test_a_huge_file_is_not_begun(server: Server, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files[HF_PATH] = data
    monkeypatch.setattr(download, "MAX_BYTES", len(data) - 1)
    assert "at most" in refused(HF)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SRFAST_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert catalogue.cache_folder() == tmp_path / "srfast"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert catalogue.cache_folder() == Path.home() / ".cache" / "srfast"


def test_on_the_command_line(server: Server, data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    server.files[HF_PATH] = data
    assert main(["inspect", HF]) == 0
    assert "SRVGGNetCompact" in capsys.readouterr().out
    assert main(["inspect", "omdb:nothing"]) == 3
    assert "no such file" in capsys.readouterr().err
