"""Files of ``torch.save``: zip archives, and the format before PyTorch 1.6."""

from __future__ import annotations

import io
import pickle
import stat
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from srfast.checkpoint.formats.pickle_guard import Contents, RefusedError, follow, refuse, storage_key
from srfast.errors import CheckpointError

LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
MAX_PICKLE = 32 << 20  # bytes; that of a whole training state of RRDBNet-23 has 3 MB
MAX_RECORDS = 20_000
# Trained weights hardly compress: an archive that unpacks to more than this many times its size is a bomb.
MAX_RATIO = 20
_BROKEN = (
    RuntimeError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OSError,
    OverflowError,
    pickle.UnpicklingError,
)


def read_torch(path: Path) -> Any:
    """What ``torch.save`` wrote: checked first, then loaded with ``weights_only=True``.

    Raises:
        CheckpointError: TorchScript, another zip archive, pickled objects, or a damaged or dishonest file.
    """
    try:
        with open(path, "rb") as file:
            legacy = file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC
        if legacy:
            _check_legacy(path)
        else:
            _check_zip(path)
    except RefusedError as error:
        raise refuse(path, error) from error
    except (zipfile.BadZipFile, NotImplementedError, *_BROKEN) as error:
        raise CheckpointError(f"{path} is damaged: {str(error)[:120]}; copy or download it again") from error
    try:
        # The open file and not its name: by that PyTorch would take one that ends in .safetensors for such a file.
        with open(path, "rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}); copy or download it again") from error


def _check_zip(path: Path) -> None:
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = {entry.filename: entry for entry in entries}
        pickles = [name for name in names if PurePosixPath(name).name == "data.pkl"]
        if any(PurePosixPath(name).name == "constants.pkl" for name in names):
            raise CheckpointError(
                f"{path} is TorchScript, which is code, so srfast does not open it; in Python, save the weights with "
                "torch.save(torch.jit.load(file).state_dict(), 'weights.pth')"
            )
        if not pickles and any(name.endswith(".npy") for name in names):
            raise CheckpointError(
                f"{path} is a NumPy archive, whose arrays have no layer names to tell the network by; save a PyTorch state_dict"
            )
        if len(pickles) != 1:
            raise RefusedError("it is a zip archive without the one data.pkl that torch.save writes")
        _check_entries(entries, names, size)
        _check_sums(archive, entries)
        record = names[pickles[0]]
        if record.file_size > MAX_PICKLE:
            raise RefusedError(f"its pickle has {record.file_size} bytes (at most {MAX_PICKLE})")
        contents = Contents()
        follow(io.BytesIO(archive.read(record)), contents)
        folder = pickles[0].removesuffix("data.pkl")
        for storage in contents.storages.values():
            data = names.get(f"{folder}data/{storage.key}")
            if data is None or data.file_size != storage.count * storage.item_bytes:
                has = "no such record" if data is None else f"{data.file_size} bytes"
                raise RefusedError(
                    f"storage {storage.key[:20]!r} should have {storage.count * storage.item_bytes} bytes, the file has {has}"
                )


def _check_entries(entries: list[zipfile.ZipInfo], names: dict[str, zipfile.ZipInfo], size: int) -> None:
    """Plain files, each once, one behind the other; stored, or (by another zip program) moderately compressed."""
    if len(entries) > MAX_RECORDS:
        raise RefusedError(f"it has {len(entries)} records (at most {MAX_RECORDS})")
    if len(names) != len(entries):
        raise RefusedError("two of its records have the same name")
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > MAX_RATIO * size:
        raise RefusedError(f"{size} bytes unpack to {unpacked}, more than {MAX_RATIO} times as many")
    end = 0
    for entry in sorted(entries, key=lambda e: e.header_offset):
        name = entry.filename
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or entry.flag_bits & 1:
            raise RefusedError(f"record {name[:60]!r} is encrypted, or compressed in a way that PyTorch does not read")
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) and not (kind == stat.S_IFDIR and name.endswith("/")):
            raise RefusedError(f"record {name[:60]!r} is a link or a device")
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
            raise RefusedError(f"record {name[:60]!r} has a path outside the archive")
        # Records that overlap let a few bytes stand for many tensors.
        if entry.header_offset < end:
            raise RefusedError("its records overlap")
        end = entry.header_offset + entry.compress_size
        if end > size:
            raise RefusedError("a record reaches beyond the end of the file")


def _check_sums(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
    """PyTorch reads records without looking at their checksums."""
    for entry in entries:
        if (
            entry.CRC == 0
        ):  # torch.serialization.set_crc32_options(False) writes none; without the field none is checked
            del entry.CRC
    broken = archive.testzip()
    if broken is not None:
        raise RefusedError(f"the checksum of record {broken[:60]!r} is wrong")


def _check_legacy(path: Path) -> None:
    """Magic number, version, system, object and keys of storages: five pickles; then each storage's length and bytes."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        stream = io.BytesIO(file.read(MAX_PICKLE))
        contents = Contents()
        for _ in range(4):
            follow(stream, contents)
        keys = follow(stream, contents)
        if not isinstance(keys, list) or sorted(map(storage_key, keys)) != sorted(contents.storages):
            raise RefusedError("the list of its storages is not that of its tensors")
        position = stream.tell()
        # The old format writes a length in front of each storage's bytes: what the pickle claims is compared with it.
        for key in keys:
            storage = contents.storages[str(key)]
            file.seek(position)
            (count,) = struct.unpack("<q", file.read(8).ljust(8, b"\xff"))
            position += 8 + storage.count * storage.item_bytes
            if count != storage.count or position > size:
                raise RefusedError(f"storage {str(key)[:20]!r} of {storage.count} numbers is not all there")
