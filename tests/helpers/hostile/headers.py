"""Safetensors files whose headers lie."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import safetensors.torch

from tests.helpers.hostile import parts as parts

Case = tuple[str, bytes]


def headers() -> Iterator[Case]:
    """safetensors."""
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    second = {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]}
    text = json.dumps(entry)
    wrong: dict[str, Any] = {
        "shape": [[5], [-4], [4, -1], [1 << 40, 1 << 40], [2.0, 2], ["4"], "4", None, [[4]], [True] * 4, [1] * 50, {}],
        "dtype": ["F8_E4M3", "X", 7, None, "I64", "f32", ["F32"]],
        "data_offsets": [
            [0, 15],
            [0, 17],
            [-16, 0],
            [16, 0],
            [0],
            [0, 16, 32],
            [1, 17],
            ["0", "16"],
            None,
            16,
            [0, 1 << 60],
        ],
    }
    for key, values in wrong.items():
        for value in values:
            yield f"safetensors with {key} {str(value)[:40]}", parts.safe({"a": {**entry, key: value}}, bytes(16))
        yield f"safetensors without {key}", parts.safe({"a": {k: v for k, v in entry.items() if k != key}}, bytes(16))
    yield "safetensors that overlap", parts.safe({"a": entry, "b": entry}, bytes(16))
    yield "safetensors with a hole", parts.safe({"a": entry, "b": {**second, "data_offsets": [20, 36]}}, bytes(36))
    yield "safetensors with a key twice", parts.safe(None, bytes(32), f'{{"a": {text}, "a": {text}}}'.encode())
    yield (
        "safetensors with a field twice",
        parts.safe(None, bytes(16), f'{{"a": {{"dtype": "I8", {text[1:]}}}'.encode()),
    )
    yield "safetensors with NaN", parts.safe(None, bytes(16), b'{"a": NaN}')
    yield "safetensors with a list", parts.safe([entry], bytes(16))
    yield "safetensors of nothing", parts.safe({})
    yield "safetensors with a number", parts.safe({"a": 5}, bytes(16))
    yield "safetensors nested deeply", parts.safe(None, b"", b'{"a":' + b"[" * 100_000)
    yield "safetensors with 5,000 digits", parts.safe(None, b"", b'{"a":' + b"9" * 5_000 + b"}")
    yield "safetensors that is not UTF-8", parts.safe(None, b"", b'{"\xff\xfe": 1}')
    yield "safetensors with a huge header", struct.pack("<Q", 1 << 62) + b"{}"
    yield "safetensors with a header past the end", struct.pack("<Q", 1000) + b"{}"
    yield "safetensors with metadata that is no text", parts.safe({"__metadata__": {"a": 1}, "a": entry}, bytes(16))
    yield "safetensors with metadata that is a list", parts.safe({"__metadata__": [], "a": entry}, bytes(16))
    yield (
        "safetensors of 30,000 tensors",
        parts.safe({str(i): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(30_000)}),
    )
    sane: dict[str, Any] = {"num_feat": 4, "num_conv": 1, "upscale": 2}
    for name, module, arguments in (
        ("no such module", "os.system", sane),
        ("a billion layers", "SRVGGNetCompact", {**sane, "num_conv": 10**9}),
        ("a million channels", "SRVGGNetCompact", {**sane, "num_feat": 10**6}),
        ("negative channels", "SRVGGNetCompact", {**sane, "num_feat": -4}),
        ("no channels", "SRVGGNetCompact", {**sane, "num_feat": 0}),
        ("another size", "SRVGGNetCompact", {**sane, "num_feat": 4096}),
        ("an unknown argument", "SRVGGNetCompact", {**sane, "self": 1}),
        ("a long text", "SRVGGNetCompact", {**sane, "act_type": "x" * 10**5}),
        ("a table", "SRVGGNetCompact", {**sane, "act_type": {"a": 1}}),
        ("a number as text", "SRVGGNetCompact", {**sane, "num_conv": "1"}),
        ("many steps", "ResidualSR", {"up_factors": [4096] * 8}),
        ("lists in lists", "ResidualSR", {"up_factors": [[2]]}),
        ("a table as activation", "ResidualSR", {"up_act": {"a": 1}}),
        ("a number as activation", "ResidualSR", {"last_act": 3}),
        ("infinity", "ResidualSR", {"res_scale": 1e999}),
    ):
        facts = {"module": module, "arguments": arguments, "architecture": "a", "layout": "b", "values": "c"}
        yield f"metadata with {name}", safetensors.torch.save(parts.good(), {"srfast": json.dumps(facts)})
    for name, value in (("a list", "[]"), ("no JSON", "x"), ("nothing", "{}"), ("a null", "null")):
        yield f"metadata that is {name}", safetensors.torch.save(parts.good(), {"srfast": value})
