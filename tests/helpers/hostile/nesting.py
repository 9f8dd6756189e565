"""Pickles of few bytes that would take for ever: tuples inside tuples, copies of copies, states of their own."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator

from tests.helpers.hostile import parts as parts
from tests.helpers.hostile.parts import Case


def nested() -> Iterator[Case]:
    """Tuples inside tuples where something could be hashed, compared or printed, by us or by PyTorch."""
    nest, ordered = parts.nested(), b"ccollections\nOrderedDict\n"
    parameter = b"ctorch._utils\n_rebuild_parameter_with_state\n(" + parts.tensor([4], [1]) + b"\x89" + ordered + b")R"
    bodies = {
        "a key": b"}" + nest + b"K\x02s",
        "a key of pairs": ordered + b"]" + nest + b"K\x02\x86a\x85R",
        "a key among tuples of pairs": ordered + nest + b"K\x02\x86\x85\x85R",
        "what is counted": b"ccollections\nCounter\n]" + nest + b"a\x85R",
        "a storage": parts.storage(kind=nest),
        "the name of a storage": parts.storage(key=nest),
        "the length of a storage": parts.storage(count=nest),
        "a view": b"(" + parts.storage()[1:-2] + nest + b"tQ",
        "an offset": b"ctorch._utils\n_rebuild_tensor_v2\n(" + parts.storage() + nest + b"K\x04\x85K\x01\x85\x89NtR",
        "a size": b"ctorch._utils\n_rebuild_tensor_v2\n(" + parts.storage() + b"K\x00" + nest + b"h\x01\x89NtR",
        "a torch.Size": b"ctorch\nSize\n" + nest + b"\x85R",
        "a device": b"ctorch\ndevice\n" + nest + b"\x85R",
        "the state of a parameter": parameter + parts.nested(width=3) + b"tR",
        "the state of a table": ordered + b")R" + nest + b"b",
        "a result": nest,
    }
    for name, body in bodies.items():
        data = b"\x80\x02" + body + b"."
        yield f"zip with 60 levels as {name}", parts.zipped(data, {"0": bytes(16)})
        yield f"legacy with 60 levels as {name}", parts.legacy(data, ["0"], struct.pack("<q", 4) + bytes(16))
    honest = parts.table([("a", parts.tensor([4], [1]))])
    system = pickle.dumps({"little_endian": True}, 2)
    yield "legacy with 60 levels as its keys", parts.LEGACY + system + honest + b"\x80\x02]" + nest + b"a."


def states() -> Iterator[Case]:
    """What a pickle may set behind the constructor's back, and copies of copies."""
    ordered, whole = b"ccollections\nOrderedDict\n", parts.tensor([4], [1])
    parameter = b"ctorch._utils\n_rebuild_parameter_with_state\n(" + whole + b"\x89" + ordered + b")R"
    table = b"}(" + b"".join(parts.text(str(i)) + b"N" for i in range(20_000)) + b"uq\x05"
    bodies = {
        "a tensor of 4 TB by its state": whole
        + b"("
        + parts.storage()
        + b"K\x00"
        + parts.number(1 << 40)
        + b"\x85K\x01\x85tb",
        "a table without its items": ordered
        + b")R"
        + parts.text("a")
        + whole
        + b"s}"
        + parts.text("items")
        + b"K\x01sb",
        "a parameter without its shape": b"}"
        + parts.text("a")
        + parameter
        + b"}"
        + parts.text("detach")
        + b"K\x01stRs",
        "a table with 20,000 attributes": ordered + b")R" + table + b"b",
        "a table copied 20,000 times": table + (ordered + b"h\x05\x85R") * 20_000,
        "a size made 20,000 times": b"](" + b"K\x01" * 20_000 + b"eq\x05" + b"ctorch\nSize\nh\x05\x85R" * 20_000,
        "a long description of a storage": b"(" + parts.storage()[1:-2] + b"N" * 20_000 + b"tQ",
    }
    for name, body in bodies.items():
        data = b"\x80\x02" + body + b"."
        yield f"zip with {name}", parts.zipped(data, {"0": bytes(16)})
        yield f"legacy with {name}", parts.legacy(data, ["0"], struct.pack("<q", 4) + bytes(16))
