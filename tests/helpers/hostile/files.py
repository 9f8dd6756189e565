"""Files that a loader must refuse: they would run code, are damaged, lie about sizes, or ask for too much."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import stat
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from srfast.models import RRDBNet, SRVGGNetCompact
from tests.helpers.hostile import parts as parts
from tests.helpers.hostile.headers import headers
from tests.helpers.hostile.nesting import nested, states

Case = tuple[str, bytes]


def executing(canary: Path) -> Iterator[Case]:
    for module, name, arguments in parts.code(canary):
        pickled = parts.call(module, name, arguments)
        yield f"zip calls {module}.{name}", parts.zipped(pickled)
        yield f"legacy calls {module}.{name}", parts.legacy(pickled)
        yield f"bare pickle calls {module}.{name}", pickled
    for name, body in {
        "INST": b"(X\x05\x00\x00\x00touchios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nX\x01\x00\x00\x00xo.",
        "NEWOBJ": b"cos\nsystem\n)\x81.",
        "STACK_GLOBAL": b"\x8c\x02os\x8c\x06system\x93X\x01\x00\x00\x00x\x85R.",
        "EXT1": b"\x82\x01.",
        "PERSID": b"Pcos\nsystem\n.",
        "BUILD": b"ctorch\ndevice\n}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsb.",
        "REDUCE of a dict": b"})R.",
        "REDUCE of a storage": b"ctorch\nFloatStorage\n(J\x00\x00\x00\x7ftR.",
        "two names": b"ctorch._utils\n_rebuild_tensor_v2\ncposix\nsystem\n\x85R.",
    }.items():
        yield f"zip with {name}", parts.zipped(b"\x80\x02" + body)
        yield f"legacy with {name}", parts.legacy(b"\x80\x02" + body)
    module = SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2)
    yield "zip of a whole module", parts.saved(module)
    yield "legacy of a whole module", parts.saved({"epoch": 1, "generator": RRDBNet(num_feat=4, num_block=1)}, False)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Conv2d(3, 3, 1)), buffer)
    yield "TorchScript", buffer.getvalue()


def damaged() -> Iterator[Case]:
    whole = {
        "zip": parts.saved(parts.good()),
        "legacy": parts.saved(parts.good(), False),
        "safetensors": safetensors.torch.save(parts.good()),
    }
    for kind, data in whole.items():
        for part in (1, 5, 17, 40, 63, 80, 95, 99):
            yield f"{kind} cut at {part}%", data[: max(1, len(data) * part // 100)]
        yield f"{kind} without its last byte", data[:-1]
        yield f"{kind} with a hole of zeros", data[:40] + bytes(60) + data[100:]
    yield (
        "zip with bytes of its storage changed",
        whole["zip"].replace(parts.good()["body.0.weight"].numpy().tobytes()[:32], bytes(range(32))),
    )
    yield "safetensors with one byte more", whole["safetensors"] + b"x"
    yield "zip of nothing", b"PK\x05\x06" + bytes(18)
    noise = random.Random(0)
    for start, kind in (
        (b"PK\x03\x04", "zip"),
        (parts.LEGACY, "legacy"),
        (struct.pack("<Q", 100) + b"{", "safetensors"),
        (b"", "no"),
    ):
        yield f"noise behind {kind} magic", start + noise.randbytes(4000)


def bombs() -> Iterator[Case]:
    big = bytes(64 << 20)
    described = parts.table([("a", parts.tensor([16 << 20], [1], count=16 << 20))])
    yield "zip bomb in a storage", parts.zipped(described, {"0": big}, zipfile.ZIP_DEFLATED)
    yield "zip bomb in the pickle", parts.zipped(big, compression=zipfile.ZIP_DEFLATED)
    yield (
        "zip bomb of many records",
        parts.zipped(described, {str(i): big[: 1 << 20] for i in range(40)}, zipfile.ZIP_DEFLATED),
    )
    yield "zip of 30,000 records", parts.zipped(described, {str(i): b"" for i in range(30_000)})
    yield "zip by LZMA", parts.zipped(described, {"0": big[:4096]}, zipfile.ZIP_LZMA)
    data = bytearray(parts.zipped(parts.table([("a", parts.tensor([4], [1]))]), {"0": bytes(16), "1": bytes(16)}))
    at = data.rindex(b"PK\x01\x02")  # the last record of the directory points at the first
    data[at + 42 : at + 46] = bytes(4)
    yield "zip with overlapping records", bytes(data)
    data = bytearray(parts.zipped(parts.table([("a", parts.tensor([4], [1]))]), {"0": bytes(16)}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 0x7FFFFFFF, 0x7FFFFFFF)
    yield "zip with a record longer than the file", bytes(data)


def pickles() -> Iterator[Case]:
    """Descriptions that do not fit, and pickles that would take for ever; in both formats."""
    deep = b"\x80\x02" + b")" + b"\x85" * 200 + b"0."
    bodies: dict[str, bytes] = {
        "100 GB of numbers": parts.table([("a", parts.tensor([25 << 30], [1], count=25 << 30))]),
        "a size beyond the storage": parts.table([("a", parts.tensor([5], [1]))]),
        "an expanded tensor": parts.table([("a", parts.tensor([1 << 40], [0]))]),
        "a negative size": parts.table([("a", parts.tensor([-4], [1]))]),
        "a negative stride": parts.table([("a", parts.tensor([2, 2], [2, -1]))]),
        "a negative offset": parts.table([("a", parts.tensor([2], [1], offset=-1))]),
        "an offset beyond the storage": parts.table([("a", parts.tensor([2], [1], offset=3))]),
        "a negative storage": parts.table([("a", parts.tensor([0], [1], count=-4))]),
        "a product that overflows": parts.table([("a", parts.tensor([1 << 40, 1 << 40], [1, 1]))]),
        "sizes and strides that differ": parts.table([("a", parts.tensor([2, 2], [1]))]),
        "100 dimensions": parts.table([("a", parts.tensor([1] * 100, [1] * 100))]),
        "a size of 80 digits": parts.table([("a", parts.tensor([10**80], [1]))]),
        "a storage under a path": parts.table([("a", parts.tensor([4], [1], key="../../etc/passwd"))]),
        "a storage described twice": parts.table(
            [("a", parts.tensor([4], [1])), ("b", parts.tensor([2], [1], count=2))]
        ),
        "a storage of an unknown type": parts.table([("a", parts.tensor([4], [1], storage="torch\nQInt8Storage"))]),
        "a storage of objects": parts.table([("a", parts.tensor([4], [1], storage="builtins\nlist"))]),
        "the same key twice": parts.table([("a", parts.tensor([4], [1])), ("a", parts.tensor([4], [1]))]),
        "a tuple as key": b"\x80\x02}" + b"))\x86" + b"2\x86" * 60 + b"K\x01s.",
        "deep nesting": deep,
        "an endless string": b"\x80\x02X\xff\xff\xff\xffabc.",
        "a string that is not UTF-8": b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
        "no end": b"\x80\x02}",
        "an empty stack": b"\x80\x02.",
        "an unknown memo": b"\x80\x02h\x07.",
        "a mark too few": b"\x80\x02u.",
        "a million operations": b"\x80\x02" + b"N0" * 500_000 + b".",
        "300,001 lists": b"\x80\x02" + b"]" * 300_001 + b".",
        "protocol 5": pickle.dumps({"a": [1.0] * 9}, 5),
        "a list inside itself": b"\x80\x02]q\x00h\x00a.",
        "a table inside itself": b"\x80\x02}q\x00" + parts.text("state_dict") + b"h\x00s.",
        "no tensors": pickle.dumps({"a": 1, "b": [2, "c"]}, 2),
        "only a number": pickle.dumps(7, 2),
        "only a list": pickle.dumps([1, 2], 2),
    }
    for name, body in bodies.items():
        yield f"zip with {name}", parts.zipped(body, {"0": bytes(16)})
        yield f"legacy with {name}", parts.legacy(body, ["0"], struct.pack("<q", 4) + bytes(16))
    honest = parts.table([("a", parts.tensor([4], [1]))])
    yield "zip without its storage", parts.zipped(honest)
    yield "zip with half its storage", parts.zipped(honest, {"0": bytes(8)})
    yield "zip with two pickles", parts.zipped(honest, {"data.pkl": honest, "0": bytes(16)})
    yield "legacy without its storage", parts.legacy(honest, ["0"])
    yield "legacy with half its storage", parts.legacy(honest, ["0"], struct.pack("<q", 4) + bytes(8))
    yield "legacy with a storage of another length", parts.legacy(honest, ["0"], struct.pack("<q", 1 << 40) + bytes(16))
    yield "legacy with a negative storage", parts.legacy(honest, ["0"], struct.pack("<q", -4) + bytes(16))
    yield "legacy with other keys", parts.legacy(honest, ["0", "1"], struct.pack("<q", 4) + bytes(16))


def archives() -> Iterator[Case]:
    """Names and kinds of records that are not those of torch.save."""
    honest = parts.table([("a", parts.tensor([4], [1]))])
    kinds = {"symlink": stat.S_IFLNK, "device": stat.S_IFBLK, "pipe": stat.S_IFIFO, "socket": stat.S_IFSOCK}
    for name, kind in kinds.items():
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", honest)
            entry = zipfile.ZipInfo("archive/data/0")
            entry.external_attr = (kind | 0o777) << 16
            archive.writestr(entry, "/etc/passwd")
        yield f"zip with a {name}", buffer.getvalue()
    for name in ("/etc/x", "../x", "archive/../../x", "archive\\..\\x"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", honest)
            archive.writestr("archive/data/0", bytes(16))
            archive.writestr("archive/namexx", b"x")
        yield f"zip with {name}", buffer.getvalue().replace(b"archive/namexx", name.ljust(14, "x").encode()[:14])
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        for content in (honest, pickle.dumps({}, 2)):
            archive.writestr("archive/data.pkl", content)
    yield "zip with its pickle twice", buffer.getvalue()
    data = bytearray(parts.zipped(honest, {"0": bytes(16)}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    yield "zip that says it is encrypted", bytes(data)


def networks() -> Iterator[Case]:
    """Sound files whose tensors would make a monster of a network, or none."""
    one = torch.zeros(1)
    for kind in (torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64):
        yield f"weights of {kind}", parts.saved({k: v.to(kind) for k, v in parts.good().items()})
    sparse = {k: v.to_sparse() if v.ndim == 4 else v for k, v in parts.good().items()}
    yield "sparse weights", parts.saved(sparse)
    quantised = torch.quantize_per_tensor(torch.rand(4), 0.1, 0, torch.qint8)
    yield "quantised weights", parts.saved({**parts.good(), "body.1.weight": quantised})
    for value in (float("nan"), float("inf"), -float("inf")):
        yield f"weights of {value}", parts.saved({k: v * value for k, v in parts.good().items()})
    marks = {"body.0.rdb1.conv1.weight": torch.zeros(4, 8, 3, 3), "conv_body.weight": torch.zeros(8, 8, 3, 3)}
    wide = {k: v.double() for k, v in parts.good().items()}
    yield "weights that float32 does not hold", parts.saved({**wide, "body.0.weight": wide["body.0.weight"] * 1e300})
    yield "a name as a number and as text", parts.saved({**parts.good(), 1: one, "1": one})
    monsters: dict[str, dict[str, torch.Tensor]] = {
        "counted batches only": {"norm.num_batches_tracked": torch.tensor(1)},
        "10,000 blocks": {**marks, **{f"body.{i}.rdb1.conv1.weight": one for i in range(10_000)}},
        "layers up to 10**9": {**parts.good(), "body.1000000000.weight": torch.zeros(4, 4, 3, 3)},
        "a wide first layer": {**parts.good(), "body.0.weight": torch.zeros(30_000, 3, 1, 1)},
        "a wide last layer": {**parts.good(), "body.4.weight": torch.zeros(3 * 300**2, 1, 1, 1)},
        "one key of each": dict.fromkeys(("body.0.weight", "body.2.weight", "body.2.bias"), one),
        "no elements": {k: v[:0] for k, v in parts.good().items()},
        "the trunk only": marks,
        "100,000 letters": {"x" * 100_000: one},
        "empty names": {"": one, ".": one},
        "lines in names": {"a\nb\x1b[31m": one},
        "another network": nn.LSTM(3, 4).state_dict(),
        "a classifier": nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 10)).state_dict(),
        "the same name twice": {**parts.good(), **{f"_orig_mod.{k}": v for k, v in parts.good().items()}},
    }
    for name, state in monsters.items():
        yield f"a network of {name}", parts.saved(state)
        if "names" not in name and "twice" not in name:
            yield f"a legacy network of {name}", parts.saved(OrderedDict(state), False)


def others() -> Iterator[Case]:
    """Files of other kinds."""
    archive, array = io.BytesIO(), io.BytesIO()
    np.savez(archive, a=np.zeros(3), b=np.ones(4))
    np.save(array, np.zeros(3))
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as file:
        file.addfile(tarfile.TarInfo("storages"))
    yield "nothing", b""
    yield "one byte", b"\x80"
    yield "text", b"hello world, this is no checkpoint\n" * 50
    yield "a web page", b"<!DOCTYPE html><html><body>404</body></html>"
    yield "a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    yield "NumPy archive", archive.getvalue()
    yield "NumPy array", array.getvalue()
    yield "tar", tar.getvalue()
    yield "gzip", gzip.compress(parts.saved(parts.good()))
    yield "HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)
    yield "PNG", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "a program", b"\x7fELF" + bytes(200)
    yield "JSON", b'{"a": [1, 2, 3]}' * 20
    yield "a zip of a text", _plain_zip()


def _plain_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return buffer.getvalue()


def paths(folder: Path) -> Iterator[tuple[str, Path]]:
    """What is no file at all."""
    pipe, link, loop = folder / "pipe.pth", folder / "zero.pth", folder / "loop.pth"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    loop.symlink_to(loop)
    yield "a pipe", pipe
    yield "a link to /dev/zero", link
    yield "a link to itself", loop
    yield "a folder", folder
    yield "a device", Path("/dev/zero")


FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    "damaged": damaged,
    "bombs": bombs,
    "pickles": pickles,
    "nested": nested,
    "states": states,
    "archives": archives,
    "headers": headers,
    "networks": networks,
    "others": others,
}
