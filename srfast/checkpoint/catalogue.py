"""Models by their name in a catalogue: ``hf:org/repo/file.pth`` of Hugging Face, ``omdb:NAME`` of OpenModelDB.

A file is downloaded once, into a cache folder, and found there from then on without the network.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from srfast.checkpoint.download import Expected, Wanted, fetch, fetch_text, matches
from srfast.errors import CheckpointError, printable

PREFIXES = ("hf:", "omdb:")
HF_VARIABLE, HF_URL = "HF_ENDPOINT", "https://huggingface.co"
OMDB_VARIABLE = "SRFAST_OMDB_URL"
OMDB_URL = "https://raw.githubusercontent.com/OpenModelDB/open-model-database/main/data/models"
OMDB_PAGE = "https://openmodeldb.info/models"
CACHE_VARIABLE = "SRFAST_CACHE"
OFFLINE_VARIABLES = ("SRFAST_OFFLINE", "HF_HUB_OFFLINE")
SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors", ".onnx", ".param")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,95}")
# Pages that show a file instead of giving it.
_PAGES = ("mega.nz", "drive.google.com", "mediafire.com", "1drv.ms", "onedrive.live.com", "icedrive.net")
_MAX_DESCRIPTION = 1 << 20  # bytes


@dataclass(frozen=True)
class Source:
    """Where a file may be had, and what is known of it."""

    urls: tuple[str, ...]
    suffix: str
    expected: Expected


def is_name(source: str) -> bool:
    """Whether it begins as the name of a catalogue's model."""
    return source.startswith(PREFIXES)


def cache_folder() -> Path:
    """The folder that ``SRFAST_CACHE`` names, or ``srfast`` in the user's cache folder (``XDG_CACHE_HOME``, ``~/.cache``)."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "srfast"


def is_offline() -> bool:
    """Whether the network is not to be used."""
    return any(os.environ.get(name, "").lower() not in ("", "0", "false", "no") for name in OFFLINE_VARIABLES)


def located(name: str) -> Path:
    """The file of a catalogue's model, from the cache folder, downloaded where it is not there yet.

    Args:
        name: ``hf:org/repo/file.pth`` (``hf:org/repo@revision/file.pth``), or ``omdb:NAME`` as in the model's address.

    Raises:
        CheckpointError: no such name or file, no network, or the file is not the one that the catalogue describes.
    """
    prefix, _, rest = name.partition(":")
    return _of_hugging_face(name, rest) if prefix == "hf" else _of_openmodeldb(name, rest)


def _of_hugging_face(name: str, rest: str) -> Path:
    org, _, more = rest.partition("/")
    repository, _, file = more.partition("/")
    repository, _, revision = repository.partition("@")
    revision = revision or "main"
    parts = [org, repository, revision, *file.split("/")]
    if not all(_PART.fullmatch(part) for part in parts):
        raise CheckpointError(f"{printable(name, 120)} is no name of a file: expected hf:org/repo/file.pth")
    path = cache_folder() / "hf" / org / repository / revision / file
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{printable(name, 120)} is no checkpoint: its name ends in none of {', '.join(SUFFIXES)}"
        )
    base = os.environ.get(HF_VARIABLE, "").rstrip("/") or HF_URL
    for one in (path, path.with_suffix(".bin")) if path.suffix == ".param" else (path,):
        if not _is_cached(one, name):
            where = file[: -len(path.suffix)] + one.suffix
            url = f"{base}/{org}/{repository}/resolve/{revision}/{quote(where)}"
            _download(one, name, Source((url,), one.suffix, Expected()))
    return path


def _of_openmodeldb(name: str, model: str) -> Path:
    if not _PART.fullmatch(model):
        raise CheckpointError(
            f"{printable(name, 120)} is no name of a model: expected one as in its address, such as omdb:4x-UltraSharp"
        )
    folder = cache_folder() / "omdb"
    # Only the description tells the suffix; what is here already needs no network.
    for suffix in SUFFIXES:
        path = folder / f"{model}{suffix}"
        if _is_cached(path, name):
            return path
    if is_offline():
        raise _absent(name)
    base = os.environ.get(OMDB_VARIABLE, "").rstrip("/") or OMDB_URL
    text = fetch_text(f"{base}/{quote(model)}.json", name, _MAX_DESCRIPTION)
    try:
        sources = list(_sources(json.loads(text)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"OpenModelDB describes {printable(name, 120)} in an unknown way: {error}") from error
    direct = next((source for source in sources if source.urls), None)
    if direct is None:
        raise CheckpointError(
            f"{printable(name, 120)} has no file that a program can download; get it from",
            f"{OMDB_PAGE}/{quote(model)} and give its path",
        )
    path = folder / f"{model}{direct.suffix}"
    _download(path, name, direct)
    return path


def _sources(described: Any) -> Iterator[Source]:
    """The files of a model, those that PyTorch wrote first."""
    resources = [one for one in described["resources"] if f".{one['type']}" in SUFFIXES and one["type"] != "param"]
    for one in sorted(resources, key=lambda one: one["platform"] != "pytorch"):
        size, digest = one.get("size"), one.get("sha256")
        if not (isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)):
            raise ValueError("no sha256 of a file")
        urls = tuple(filter(None, (_direct(url) for url in one["urls"])))
        yield Source(urls, f".{one['type']}", Expected(size if isinstance(size, int) else None, digest))


def _direct(url: str) -> str:
    """An address that gives the file itself; empty for a page that only shows it."""
    host = urlsplit(url).hostname or ""
    if not url.startswith(("https://", "http://")) or any(host == page or host.endswith(f".{page}") for page in _PAGES):
        return ""
    if host in ("github.com", "huggingface.co"):
        # Addresses of files have more parts than an owner and a repository.
        if "/tree/" in url or (host == "github.com" and url.rstrip("/").count("/") < 6):
            return ""
        return url.replace("/blob/", "/raw/" if host == "github.com" else "/resolve/", 1)
    return url


def _facts(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _is_cached(path: Path, name: str) -> bool:
    """Whether the file is there as it was downloaded."""
    try:
        facts = json.loads(_facts(path).read_bytes())
        return matches(path, Expected(int(facts["size"]), str(facts["sha256"])))
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _absent(name: str) -> CheckpointError:
    return CheckpointError(
        f"{printable(name, 120)} is not in the cache folder {cache_folder()},",
        f"and {' or '.join(OFFLINE_VARIABLES)} keeps srfast off the network; run it once without, or give the path of a file",
    )


def _download(path: Path, name: str, source: Source) -> None:
    if is_offline():
        raise _absent(name)
    fetch(Wanted(name, path, _facts(path), source.expected), source.urls)
