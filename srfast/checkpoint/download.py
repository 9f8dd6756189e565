"""Downloads that appear under their name only when they are whole and as described; one that broke off goes on where it was.

Python's own ``urllib`` does it. ``huggingface_hub`` would bring eight packages, and a cache that other programs change, for one
GET with a range.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from srfast.errors import CheckpointError, printable

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger("srfast")
MAX_BYTES = 2 << 30
TIMEOUT = 30.0  # seconds without a byte
TRIES = 3
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Expected:
    """What is known of a file before it is there.

    Attributes:
        size: in bytes.
        sha256: 64 hexadecimal digits.
        blob: the SHA-1 that git has for it.
    """

    size: int | None = None
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Wanted:
    """A file to be downloaded.

    Attributes:
        name: as the user gave it.
        path: where it is to be.
        facts: the file beside it that keeps its size and hash.
        expected: what the catalogue says of it.
    """

    name: str
    path: Path
    facts: Path
    expected: Expected


class _BrokenError(Exception):
    """The connection ended too early; another try may go on."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps what Hugging Face says of a large file when it refers to the server that has it."""

    def __init__(self) -> None:
        self.size = self.etag = ""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError("it refers to something other than a web address")
        self.size = self.size or headers.get("X-Linked-Size", "")
        self.etag = self.etag or headers.get("X-Linked-Etag", "")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(redirects: _Redirects) -> urllib.request.OpenerDirector:
    """For web addresses alone: Python's default opens files and FTP as well."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        redirects,
    ):
        opener.add_handler(handler)
    return opener


def matches(path: Path, expected: Expected) -> bool:
    """Whether a file is there with the size and hash that are known."""
    try:
        if not path.is_file() or (expected.size is not None and path.stat().st_size != expected.size):
            return False
        return not expected.sha256 or _digest(path) == expected.sha256
    except OSError:
        return False


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _slow(file)


def _slow(file: IO[bytes]) -> str:
    """For Python 3.10."""
    found = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        found.update(chunk)
    return found.hexdigest()


def _blob(path: Path) -> str:
    found = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def fetch_text(url: str, name: str, most: int) -> bytes:
    """A small file.

    Raises:
        CheckpointError: it is not there, too large, or there is no network.
    """
    try:
        with _opener(_Redirects()).open(_request(url), timeout=TIMEOUT) as response:
            data: bytes = response.read(most + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _refused(name, url, error) from error
    if len(data) > most:
        raise CheckpointError(f"the description of {printable(name, 120)} has more than {most} bytes")
    return data


def fetch(wanted: Wanted, urls: tuple[str, ...]) -> None:
    """Download a file from the first address that has it as described.

    Raises:
        CheckpointError: none has; or the cache folder cannot be written. What was there before is as it was.
    """
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(wanted.path.with_name(f".{wanted.path.name}.lock")):
            if wanted.facts.exists() and _is_complete(wanted):
                return  # another process was faster
            problem: CheckpointError | None = None
            for url in urls:
                try:
                    _from(wanted, url)
                    return
                except CheckpointError as error:
                    problem = problem or error
            raise problem or CheckpointError(f"{printable(wanted.name, 120)} has no address")
    except OSError as error:
        raise CheckpointError(
            f"{printable(wanted.name, 120)} cannot be kept in {wanted.path.parent}: {error.strerror or error}; "
            "SRFAST_CACHE names another folder"
        ) from error


def _is_complete(wanted: Wanted) -> bool:
    try:
        facts = json.loads(wanted.facts.read_bytes())
        return matches(wanted.path, Expected(int(facts["size"]), str(facts["sha256"])))
    except (OSError, ValueError, TypeError, KeyError):
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time downloads a file; a lock goes with the process that has it."""
    with open(path, "w") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _from(wanted: Wanted, url: str) -> None:
    """One address, tried again where the connection breaks."""
    host = urlsplit(url).hostname or url
    partial = wanted.path.with_name(f".{wanted.path.name}.partial")
    _log.info("downloading %s from %s", wanted.name, host)
    expected = wanted.expected
    for attempt in range(TRIES):
        try:
            expected = _receive(wanted, url, partial)
            break
        except _BrokenError as error:
            if attempt == TRIES - 1:
                raise CheckpointError(
                    f"{printable(wanted.name, 120)}: the connection to {printable(host)} broke {TRIES} times ({error});",
                    "run it again: it goes on where it was",
                ) from error
        except (urllib.error.HTTPError, urllib.error.URLError, ValueError, http.client.InvalidURL) as error:
            raise _refused(wanted.name, url, error) from error
    _check(wanted, partial, expected, host)
    facts = {"name": wanted.name, "url": url, "size": partial.stat().st_size, "sha256": _digest(partial)}
    beside = partial.with_suffix(".facts")
    beside.write_text(json.dumps(facts))
    os.replace(partial, wanted.path)
    os.replace(beside, wanted.facts)
    _etag(partial).unlink(missing_ok=True)


def _etag(partial: Path) -> Path:
    """Where the mark of the version lies that a partial file is of."""
    return partial.with_suffix(".etag")


def _request(url: str, headers: dict[str, str] | None = None) -> urllib.request.Request:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{printable(url)} is no web address")
    return urllib.request.Request(
        url, headers={"User-Agent": "srfast", "Accept-Encoding": "identity", **(headers or {})}
    )


def _receive(wanted: Wanted, url: str, partial: Path) -> Expected:
    """Bytes into the partial file, behind those that it has; and what the server says of the whole.

    Raises:
        _BrokenError: fewer came than were said.
        CheckpointError: more than any checkpoint has, or than is left of the disk.
    """
    have = partial.stat().st_size if partial.exists() else 0
    mark = _etag(partial).read_text() if have and _etag(partial).exists() else ""
    # Without the mark of its version a part may be of another file.
    headers = {"Range": f"bytes={have}-", "If-Range": mark} if mark else {}
    redirects = _Redirects()
    try:
        response = _opener(redirects).open(_request(url, headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and mark:
            partial.unlink(missing_ok=True)
            raise _BrokenError("the part that was there is of another file") from error
        raise
    with response:
        goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if goes_on else 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        expected = _told(wanted.expected, redirects, response.headers, total)
        size = expected.size if expected.size is not None else total
        if (size or 0) > MAX_BYTES:
            raise CheckpointError(
                f"{printable(wanted.name, 120)} has {size} bytes; a checkpoint has at most {MAX_BYTES}"
            )
        new = response.headers.get("ETag", "")
        # A weak mark does not tell bytes apart.
        _etag(partial).write_text(new if new.startswith('"') and new.isascii() and new.isprintable() else "")
        count = start
        with open(partial, "r+b" if goes_on else "wb") as file:
            file.seek(start)
            while True:
                try:
                    chunk = response.read(_CHUNK)
                except (OSError, http.client.HTTPException) as error:
                    raise _BrokenError(f"{type(error).__name__} after {count} bytes") from error
                if not chunk:
                    break
                count += len(chunk)
                if count > MAX_BYTES or (size is not None and count > size):
                    raise CheckpointError(
                        f"{printable(wanted.name, 120)} gives more than the {size or MAX_BYTES} bytes that it has"
                    )
                file.write(chunk)
        if total is not None and count < total:
            raise _BrokenError(f"{count} of {total} bytes came")
    return expected


def _told(expected: Expected, redirects: _Redirects, headers: Any, total: int | None) -> Expected:
    """What the catalogue says, and what Hugging Face's answer adds where that says nothing."""
    size, etag = redirects.size or headers.get("X-Linked-Size", ""), redirects.etag or headers.get("X-Linked-Etag", "")
    etag = (etag or headers.get("ETag", "")).removeprefix("W/").strip('"')
    if expected.size is None and size.isdigit():
        expected = replace(expected, size=int(size))
    is_hex = bool(etag) and set(etag) <= set("0123456789abcdef")
    if not expected.sha256 and is_hex and len(etag) == 64:
        return replace(expected, sha256=etag)
    if not expected.sha256 and is_hex and len(etag) == 40 and "X-Repo-Commit" in headers:
        return replace(expected, blob=etag)
    return expected


def _check(wanted: Wanted, partial: Path, expected: Expected, host: str) -> None:
    """Refuse, and remove, what is not the file that is expected.

    Raises:
        CheckpointError: says in what it differs.
    """
    size = partial.stat().st_size
    wrong = ""
    if expected.size is not None and size != expected.size:
        wrong = f"{size} bytes, expected {expected.size}"
    elif expected.sha256 and _digest(partial) != expected.sha256:
        wrong = f"the sha256 {_digest(partial)[:16]}..., expected {expected.sha256[:16]}..."
    elif expected.blob and _blob(partial) != expected.blob:
        wrong = f"the git hash {_blob(partial)[:16]}..., expected {expected.blob[:16]}..."
    elif size == 0:
        wrong = "no bytes"
    if wrong:
        partial.unlink(missing_ok=True)
        _etag(partial).unlink(missing_ok=True)
        raise CheckpointError(
            f"{printable(wanted.name, 120)} from {printable(host)} has {wrong};",
            "it is not the file that the catalogue has: try again, or download it by hand and give its path",
        )


def _refused(name: str, url: str, error: Exception) -> CheckpointError:
    host, code = urlsplit(url).hostname or url, getattr(error, "code", None)
    shown = printable(name, 120)
    if code == 404:
        return CheckpointError(f"{shown}: {printable(host)} has no such file; check its name (capitals count)")
    if code in (401, 403):
        return CheckpointError(
            f"{shown}: {printable(host)} does not give it without an account ({code}), or has no such file;",
            "download it by hand and give its path",
        )
    if code is not None:
        return CheckpointError(f"{shown}: {printable(host)} answers {code}; try again later")
    reason = " ".join(str(getattr(error, "reason", error)).split())[:120]
    return CheckpointError(
        f"{shown} is not in the cache folder, and {printable(host)} cannot be reached: {reason};",
        "connect to the network, or give the path of a file",
    )
