"""What hostile files are made of: pickles written by hand, archives, headers."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from srfast.models import SRVGGNetCompact

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
CANARY = "executed"  # the file that any code of a case would make, in the current folder


def code(canary: Path) -> list[tuple[str, str, tuple[Any, ...]]]:
    """Module, function and arguments of calls that would leave the canary."""
    shell, python = f"touch {canary}", f"open({str(canary)!r}, 'w').close()"
    return [
        ("os", "system", (shell,)),
        ("posix", "system", (shell,)),
        ("os", "popen", (shell,)),
        ("os", "mkdir", (str(canary),)),
        ("subprocess", "Popen", (["touch", str(canary)],)),
        ("subprocess", "check_output", (["touch", str(canary)],)),
        ("builtins", "eval", (python,)),
        ("builtins", "exec", (python,)),
        ("builtins", "open", (str(canary), "w")),
        ("__builtin__", "eval", (python,)),
        ("io", "open", (str(canary), "w")),
        ("pathlib", "Path.touch", (str(canary),)),
        ("pty", "spawn", (["touch", str(canary)],)),
        ("timeit", "timeit", (python,)),
        ("runpy", "run_path", (str(canary),)),
        ("shutil", "copyfile", (__file__, str(canary))),
        ("torch.hub", "load", ("x/y", "z")),
        ("torch.serialization", "load", (str(canary),)),
        ("torch.storage", "_load_from_bytes", (b"x",)),
        ("torch.utils.collect_env", "run", (shell,)),
        ("numpy", "load", (str(canary),)),
        ("builtins", "getattr", (nn, "Module")),
        ("builtins", "bytearray", (2 << 30,)),
        ("torch._utils", "_rebuild_wrapper_subclass", ()),
    ]


def call(module: str, name: str, arguments: tuple[Any, ...]) -> bytes:
    """A pickle of {'x': module.name(*arguments)}, written by hand: nothing is imported to make it."""
    try:
        packed = pickle.dumps(arguments, 2)[2:-1]
    except (pickle.PicklingError, TypeError):
        packed = pickle.dumps((), 2)[2:-1]
    # Memo indices of the arguments start at 0, so the outer part uses none.
    return b"\x80\x02}X\x01\x00\x00\x00xc" + f"{module}\n{name}\n".encode() + packed + b"Rs."


def zipped(data: bytes, records: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive as torch.save makes it, with this pickle and these storages."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", b"3\n")
        for name, content in (records or {}).items():
            archive.writestr(f"archive/data/{name}", content)
    return buffer.getvalue()


def legacy(data: bytes, keys: list[str] | None = None, storages: bytes = b"") -> bytes:
    """The format before PyTorch 1.6, with this pickle."""
    system = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)
    return LEGACY + system + data + pickle.dumps(keys or [], 2) + storages


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    packed = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(packed)]) + packed


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor(
    size: list[int],
    stride: list[int],
    offset: int = 0,
    count: int = 4,
    key: str = "0",
    storage: str = "torch\nFloatStorage",
) -> bytes:
    """The part of a pickle that describes one tensor."""
    parts = b"".join(map(number, size)), b"".join(map(number, stride))
    place = b"(" + text("storage") + b"c" + storage.encode() + b"\n" + text(key) + text("cpu") + number(count) + b"tQ"
    shape = b"(" + parts[0] + b"t(" + parts[1] + b"t"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + place
        + number(offset)
        + shape
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def nested(depth: int = 60, width: int = 2) -> bytes:
    """The part of a pickle that pushes a tuple of ``width`` times a tuple, and so on: few bytes, but long to print or hash."""
    levels = (b"h" + bytes([i]) for i in range(depth))
    tuples = (get * (width - 1) + {2: b"\x86", 3: b"\x87"}[width] for get in levels)
    return b"K\x01q\x00" + b"".join(t + b"q" + bytes([i + 1]) for i, t in enumerate(tuples))


def storage(kind: bytes | None = None, key: bytes | None = None, count: bytes | None = None) -> bytes:
    """The part of a pickle that refers to four numbers, with some of its parts replaced."""
    described = (kind or text("storage")) + b"ctorch\nFloatStorage\n" + (key or text("0")) + text("cpu")
    return b"(" + described + (count or number(4)) + b"tQ"


def table(entries: list[tuple[str, bytes]]) -> bytes:
    """A pickled dict of parts."""
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in entries) + b"u."


def good() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return SRVGGNetCompact(num_feat=4, num_conv=1, upscale=2).state_dict()


def saved(value: Any, zip_format: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zip_format)
    return buffer.getvalue()


def safe(header: Any, data: bytes = b"", raw: bytes | None = None) -> bytes:
    text = json.dumps(header).encode() if raw is None else raw
    return struct.pack("<Q", len(text)) + text + data


Case = tuple[str, bytes]
