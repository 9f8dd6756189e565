"""Images over HTTP, with a process of its own: right answers, limits, hostile and cut off uploads. CPU, float32, uint8 images."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from srfast.service.config import Request
from srfast.service.jobs import Job
from srfast.upscaler import load
from tests.helpers.hostile.uploads import ATTACKS, canaries
from tests.helpers.server import Server, running, small_model

pytest.importorskip("fastapi", reason="the service needs srfast[serve]")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    with running(folder, "--max-pixels", "10000", "--max-image-bytes", "100K") as made:
        yield made


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service that asks for a token."""
    with running(tmp_path_factory.mktemp("guarded"), "--host", "0.0.0.0") as made:
        yield made


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, np.ndarray]:
    """Image files, with what they become."""
    upscaler = load(small_model(tmp_path_factory.mktemp("model") / "tiny.pth"), device="cpu")
    made, generator = {}, np.random.default_rng(1)
    for number in range(16):
        image = generator.integers(0, 256, (9 + number, 31 - number, 3), np.uint8)
        data = cv2.imencode((".png", ".bmp", ".webp", ".jpg")[number % 4], image)[1].tobytes()
        made[data] = upscaler(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    return made


def decoded(response: httpx.Response) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(response.content, np.uint8), cv2.IMREAD_UNCHANGED)


def bomb() -> bytes:
    """A PNG of some kilobytes that declares 30000x30000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def test_an_image_is_that_of_the_python_interface(server: Server, expected: dict[bytes, np.ndarray]) -> None:
    for data, large in list(expected.items())[:4]:
        response = server.client.post("images", params={"model": "tiny"}, content=data)
        assert response.status_code == 200
        assert response.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(decoded(response), large)
    response = server.client.post("images", params={"model": "tiny", "scale": 3, "format": "webp"}, content=data)
    assert decoded(response).shape == (36, 84, 3)
    assert response.content[8:12] == b"WEBP"


@pytest.mark.parametrize(
    ("content", "params", "status"),
    [
        (b"", {}, 422),
        (b"GIF89a\x01\0\x01\0", {}, 422),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), {}, 422),
        (bomb(), {}, 413),
        (bytes(200_000), {}, 413),
        (b"x", {"model": "../../etc/passwd"}, 422),
        (b"x", {"scale": "9"}, 422),
        (b"x", {"scale": "nan"}, 422),
        (b"x", {"format": "exe"}, 422),
    ],
)
def test_what_is_not_taken_is_refused(server: Server, content: bytes, params: dict[str, str], status: int) -> None:
    response = server.client.post("images", params={"model": "tiny", **params}, content=content)
    assert response.status_code == status
    assert set(response.json()) <= {"error", "detail"}
    assert str(server.process.args[-1]) not in response.text
    assert server.client.get("health").json()["status"] == "ok"


def test_a_body_without_a_length_is_cut_where_it_is_too_long(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(10_000):
            yield bytes(10_000)
        raise AssertionError("all was taken")

    with contextlib.suppress(httpx.TransportError):  # the answer may come while the client still sends
        assert server.client.post("images", params={"model": "tiny"}, content=endless()).status_code == 413
    assert server.client.get("health").status_code == 200


def test_files_that_name_others_get_nothing(server: Server, tmp_path: Path) -> None:
    with canaries(tmp_path / "canaries") as canary:
        for attack in ATTACKS:
            content = attack.make(canary, tmp_path)
            canary.touched()
            for place in ("images", "videos"):
                response = server.client.post(place, params={"model": "tiny"}, content=content)
                if response.status_code == 202:  # a whole video of its own beside what it names
                    server.wait(response.json()["id"], "done", "failed")
                else:
                    assert response.status_code == 422
            assert canary.touched() == [], attack.name


def test_programs_of_other_sites_do_not_come_in(server: Server) -> None:
    for headers, status in (
        ({"Origin": "http://example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "example.com"}, 421),
        ({"Host": "127.0.0.1.example.com"}, 421),
        ({"Origin": server.address.rstrip("/")}, 200),
    ):
        assert server.client.get("models", headers=headers).status_code == status
    for headers in ({"Origin": "http://example.com"}, {"Host": "example.com"}):
        assert server.client.post("images", headers=headers, content=b"x").status_code in (403, 421)


def test_the_pages_about_it_are_there(server: Server) -> None:
    described = server.client.get("openapi.json").json()
    assert {"/images", "/videos", "/videos/{job_id}/result", "/health"} <= set(described["paths"])
    page = server.client.get("docs").text
    assert "POST /images" in page
    assert "src=" not in page and "http" not in page.replace("http-equiv", "")
    assert "tiny" in server.client.get("models").json()


def load_test(server: Server, expected: dict[bytes, np.ndarray], count: int, hostile: int, killed: int) -> int:
    """Images from 8 clients, some hostile or cut off, and connections killed in between; returns bytes that memory grew by."""
    generator = random.Random(3)
    pictures = list(expected)
    bad = [
        bomb(),
        b"#EXTM3U\nhttp://127.0.0.1:9/\n",
        bytes(200_000),
        b"",
        *(data[: len(data) // 3] for data in pictures),
    ]
    work: list[bytes] = [pictures[n % len(pictures)] for n in range(count - hostile)]
    work += [bad[n % len(bad)] for n in range(hostile)]
    generator.shuffle(work)
    kills = threading.Semaphore(killed)
    port = int(server.address.rstrip("/").rpartition(":")[2])

    def one(data: bytes) -> int:
        if kills.acquire(blocking=False):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                head = f"POST /images?model=tiny HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data) + 9}\r\n\r\n"
                connection.sendall(head.encode() + data)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for _ in range(100):
            try:
                response = httpx.post(f"{server.address}images?model=tiny", content=data, timeout=120, trust_env=False)
            except httpx.TransportError:
                assert data not in expected  # only what is refused may be refused while it is sent
                return 0
            if response.status_code != 429:
                break
        if data in expected:
            assert response.status_code == 200
            np.testing.assert_array_equal(decoded(response), expected[data])
        else:
            assert response.status_code in (200, 413, 422)
        return response.status_code

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(one, work[: count // 5]))  # what grows once has grown
        before = server.resident()
        answers = Counter(clients.map(one, work))
    assert answers[200] >= count - hostile
    assert sum(answers.values()) == count
    return server.resident() - before


def test_many_clients_get_right_answers_or_errors(server: Server, expected: dict[bytes, np.ndarray]) -> None:
    load_test(server, expected, count=40, hostile=10, killed=2)


@pytest.mark.slow
def test_under_load_nothing_is_lost_and_memory_stays_flat(server: Server, expected: dict[bytes, np.ndarray]) -> None:
    grown = [load_test(server, expected, count=200, hostile=20, killed=5) for _ in range(3)]
    assert grown[-1] < 8 << 20, grown


def test_too_many_at_once_are_told_to_wait(tmp_path: Path) -> None:
    """A client that sends slowly holds the one place; the next is told to come later, and a silent one is given up."""
    with running(tmp_path, "--max-images", "1") as server:
        port = int(server.address.rstrip("/").rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"POST /images?model=tiny HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\nx")
            connection.settimeout(2)
            with pytest.raises(TimeoutError):  # it is not answered: it has the place
                connection.recv(1)
            response = server.client.post("images", params={"model": "tiny"}, content=b"x")
            assert response.status_code == 429
            assert int(response.headers["retry-after"]) > 0
        for _ in range(100):
            if server.client.post("images", params={"model": "tiny"}, content=b"x").status_code == 422:
                break
        else:
            raise AssertionError("the place of a client that went away was not given back")


def test_requests_that_outlast_the_end_are_cut_off_without_a_fault(tmp_path: Path) -> None:
    """An upload that stands still is told that the server stops; a download that nobody takes breaks off, and is not whole."""
    job = Job("0" * 32, "clip.mp4", "video", Request("tiny", suffix="mkv"), "done", ended=time.time())
    place, size = tmp_path / "jobs" / job.id, 64 << 20
    place.mkdir(parents=True)
    (place / "job.json").write_text(json.dumps(asdict(job)))
    with (place / "result.mkv").open("wb") as file:
        file.truncate(size)
    with running(tmp_path, before="import srfast.service.server as s; s._GRACE = 1") as server:
        port = int(server.address.rstrip("/").rpartition(":")[2])
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as upload,
            socket.create_connection(("127.0.0.1", port), timeout=60) as download,
        ):
            download.sendall(f"GET /videos/{job.id}/result HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            assert download.recv(12) == b"HTTP/1.1 200"
            upload.sendall(b"POST /images?model=tiny HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\nx")
            upload.settimeout(2)
            with pytest.raises(TimeoutError):  # it is at hand
                upload.recv(1)
            upload.settimeout(60)
            server.process.send_signal(signal.SIGTERM)
            answer = b"".join(iter(lambda: upload.recv(1 << 16), b""))
            assert answer.split()[1] == b"503" and answer.endswith(b'{"error": "the server stops"}')
            taken = 0
            with contextlib.suppress(ConnectionError):
                taken = sum(len(part) for part in iter(lambda: download.recv(1 << 20), b""))
            assert taken < size
        assert server.process.wait(60) == 0
    assert server.said == ["srfast: requests that did not end within 1 s are cut off: 2\n", "srfast: stopped\n"]


def test_a_token_is_asked_for_where_others_can_come(guarded: Server) -> None:
    server = guarded
    assert server.token and len(server.token) >= 24
    address = server.address
    with httpx.Client(base_url=address, trust_env=False) as stranger:
        assert stranger.get("health").status_code == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "srfast_token=wrong"}):
            for place in ("models", "videos", "docs", "openapi.json", "?token=wrong"):
                assert stranger.get(place, headers=headers).status_code == 401
            assert stranger.post("images", headers=headers, content=b"x").status_code == 401
        assert server.client.get("models").status_code == 200
        moved = stranger.get(f"docs?token={server.token}")  # once in a browser
        assert (moved.status_code, moved.headers["location"]) == (303, "/docs")
        assert "HttpOnly" in moved.headers["set-cookie"]
        assert stranger.get("docs").status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [({"Host": "example.com"}, b"421"), ({"Host": "127.0.0.1", "Origin": "http://example.com"}, b"403"), ({}, b"401")],
)
@pytest.mark.parametrize("place", ["/images?model=tiny", "/models"])
def test_the_refusal_of_a_stranger_comes_before_the_connection_ends(
    server: Server, guarded: Server, head: dict[str, str], status: bytes, place: str
) -> None:
    """Who sends a megabyte first reads the answer after it; who never stops is not read without an end."""
    to = server if head else guarded
    lines = "".join(f"{name}: {value}\r\n" for name, value in (head or {"Host": "127.0.0.1"}).items())
    port = int(to.address.rstrip("/").rpartition(":")[2])
    for size, chunks in ((1 << 20, 16), (1 << 32, 1 << 16)):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(f"POST {place} HTTP/1.1\r\n{lines}Content-Length: {size}\r\n\r\n".encode())
            sent = 0
            with contextlib.suppress(ConnectionError):
                for _ in range(chunks):
                    connection.sendall(bytes(1 << 16))
                    sent += 1 << 16
            assert sent == size if chunks == 16 else sent < 64 << 20
            if chunks == 16:
                answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
                assert answer.split()[1] == status and answer.endswith(b"}")
                assert b"connection: close" in answer.lower()
    assert to.client.get("health").status_code == 200
