"""Names, keys and texts of a file never reach a terminal as they are: every message that quotes one is provoked, and read."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from srfast.checkpoint import load_model
from srfast.cli import main
from srfast.errors import SrfastError, escaped
from srfast.models import SRVGGNetCompact
from tests.helpers.hostile import ncnn_hostile
from tests.helpers.hostile.attempts import is_plain

# Clears the screen, sets the title, rings, goes back, begins lines in four ways, and turns the direction of writing.
EVIL = "a\x1b[2J\x1b]0;x\x07\b\rb\nc\x85\u2028d\x9b31m\u202e\u200b"


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return SRVGGNetCompact(num_feat=4, num_conv=1, upscale=2).state_dict()


def renamed_keys() -> Iterator[dict[Any, Any]]:
    """Networks whose keys are strange, or whose tensors under strange keys are."""
    good = state()
    yield {EVIL: torch.zeros(3)}
    yield {**good, EVIL: torch.zeros(3)}
    yield {f"{EVIL}.{key}": value for key, value in good.items()} | {EVIL: torch.zeros(3)}
    yield {**{f"{EVIL}.{key}": value for key, value in good.items()}, "other": torch.zeros(3)}
    for value in (
        float("nan") * torch.ones(3),
        torch.zeros(3, dtype=torch.complex64),
        torch.zeros(0),
        torch.zeros(1).to_sparse(),
    ):
        yield {**good, EVIL: value}
    yield {EVIL: {EVIL: good}, f"{EVIL}2": {EVIL: good}}
    yield {"state_dict": {EVIL: {EVIL: torch.zeros(2)}}}
    for key in good:
        yield {**good, key: torch.zeros(2, 3, 5, 7, 1), EVIL: torch.zeros(2)}
        yield {(f"{key}{EVIL}" if k == key else k): v for k, v in good.items()}
        yield {(key.replace("weight", EVIL) if k == key else k): v for k, v in good.items()}
    for prefix in (
        "conv_first",
        "block_1.c1_r.sk",
        "body.0.rdb1.conv1",
        "gblocks.0",
        "feats.0",
        "unet1.conv1.conv.0",
        "head.0",
    ):
        yield {
            f"{prefix}.weight": torch.zeros(4, 3, 3, 3),
            f"{prefix}.{EVIL}": torch.zeros(2),
            f"body.{EVIL}.weight": torch.zeros(2),
        }
    yield {1: torch.zeros(1), EVIL: torch.zeros(1)}


def safetensors_headers() -> Iterator[bytes]:
    whole = safetensors.torch.save(state())
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    data = whole[8 + length :]

    def packed(changed: Any) -> bytes:
        text = json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + data

    key = next(iter(header))
    for entry in (
        {"dtype": EVIL, "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [EVIL], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [EVIL, 4]},
        {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]},
        {EVIL: 1},
    ):
        yield packed({**header, EVIL: entry})
        yield packed({**header, key: entry})
    yield packed({(EVIL if k == key else k): v for k, v in header.items()})
    facts = {"module": "SRVGGNetCompact", "arguments": {}, "architecture": "a", "layout": "b", "values": "c"}
    for changed in (
        {"module": EVIL},
        {"arguments": {EVIL: 1}},
        {"arguments": {"act_type": EVIL}},
        {"arguments": {"num_feat": EVIL}},
        {"architecture": EVIL, "arguments": {"num_feat": 9}},
        {"layout": EVIL, "arguments": {"num_feat": 9}},
        {"values": EVIL, "arguments": {"num_feat": 9}},
    ):
        yield packed({"__metadata__": {"srfast": json.dumps(facts | changed)}, **header})
    yield packed({"__metadata__": {"srfast": EVIL}, **header})
    yield packed({"__metadata__": {"ncnn.param": f"7767517\n1 1\n{EVIL} {EVIL} 0 1 {EVIL}"}, **header})
    yield packed({"__metadata__": {EVIL: 3}, **header})
    yield struct.pack("<Q", 40) + json.dumps({EVIL: 1}).encode()


def pickles(folder: Path) -> Iterator[bytes]:
    for content in renamed_keys():
        path = folder / "made.pth"
        torch.save(content, path)
        yield path.read_bytes()
    name = EVIL.replace("\n", "").encode()
    yield b"\x80\x02c" + name + b"\n" + name + b"\n."
    yield from (b"\x80\x02", f"<{EVIL}".encode(), EVIL.encode() * 30, b"\x89HDF" + EVIL.encode())


def ncnn(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    for _, files in ncnn_hostile.names():
        yield files[".param"], files[".bin"]
    for name, files in ncnn_hostile.lines():
        if ncnn_hostile.EVIL[:9] in name or repr(ncnn_hostile.EVIL[:9]) in name:
            yield files[".param"], files[".bin"]


def onnx(folder: Path) -> Iterator[bytes]:
    pytest.importorskip("onnx")
    from tests.helpers.hostile import onnx_files

    def every(change: Callable[[Any], object]) -> Iterator[bytes]:
        """The change with each name of the file strange, and all of them."""
        for places in (("node",), ("tensor",), ("attribute",), ("value",), ("node", "tensor", "attribute", "value")):
            model = onnx_files.sound()
            if "node" in places:
                for node in model.graph.node:
                    node.name = EVIL
            if "tensor" in places:
                names = {tensor.name: f"{EVIL}{tensor.name}" for tensor in model.graph.initializer}
                for tensor in model.graph.initializer:
                    tensor.name = names[tensor.name]
                for node in model.graph.node:
                    node.input[:] = [names.get(name, name) for name in node.input]
            if "value" in places:
                for node in model.graph.node:
                    node.output[:] = [f"{name}{EVIL}" for name in node.output]
            change(model)
            if "attribute" in places:
                model.graph.node[0].attribute.add(name=EVIL)
            yield model.SerializeToString()

    changes: list[Callable[[Any], object]] = [
        lambda m: setattr(m.graph.node[0], "op_type", EVIL),
        lambda m: setattr(m.graph.node[1], "domain", EVIL),
        lambda m: m.graph.node[0].input.__setitem__(0, EVIL),
        lambda m: m.graph.initializer[0].dims.__setitem__(0, 9),
        lambda m: m.graph.initializer[0].dims.__setitem__(0, -9),
        lambda m: setattr(m.graph.initializer[0], "data_type", 8),
        lambda m: m.graph.initializer[0].ClearField("raw_data"),
        lambda m: onnx_files._filled(m.graph.initializer[0], float("nan")),
        lambda m: onnx_files._outside(m, EVIL),
        lambda m: onnx_files._option(m.graph.node[0], "pads", EVIL),
        lambda m: onnx_files._option(m.graph.node[3], "mode", EVIL),
        lambda m: m.graph.node[2].attribute.add(name=EVIL),
        lambda m: setattr(m.graph.output[0], "name", EVIL),
        lambda m: setattr(m.graph.input[0], "name", EVIL),
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 2),
        lambda m: setattr(m.graph.node[1], "op_type", "Softmax"),
        lambda m: setattr(m.graph.node[1], "op_type", "Constant"),
        lambda m: m.graph.node[3].output.__setitem__(0, EVIL),
    ]
    for change in changes:
        yield from every(change)


def refusal(path: Path) -> str | None:
    try:
        load_model(path)
    except SrfastError as error:
        return str(error)
    return None


def looked_at(path: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """1 for a file that is refused, whose message is plain in Python and on the command line."""
    text = refusal(path)
    assert text is None or is_plain(text), repr(text)
    for command in (["inspect", str(path)], ["inspect", str(path), "--keys"]):
        main(command)
        out, err = capsys.readouterr()
        assert all(line.isprintable() for line in (out + err).replace("\t", " ").split("\n")), repr(out + err)
    return int(text is not None)


@pytest.mark.parametrize("kind", ["pickles", "safetensors", "ncnn", "onnx"])
def test_messages_are_plain(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    refused = count = 0
    if kind == "ncnn":
        for text, numbers in ncnn(tmp_path):
            (folder / "n.param").write_bytes(text)
            (folder / "n.bin").write_bytes(numbers)
            refused, count = refused + looked_at(folder / "n.param", capsys), count + 1
    else:
        suffix = {"pickles": ".pth", "safetensors": ".safetensors", "onnx": ".onnx"}[kind]
        files = {"pickles": pickles, "onnx": onnx, "safetensors": lambda _: safetensors_headers()}[kind]
        for data in files(tmp_path):
            (folder / f"n{suffix}").write_bytes(data)
            refused, count = refused + looked_at(folder / f"n{suffix}", capsys), count + 1
    assert count >= 20
    assert refused > 0.7 * count


def test_names_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a\x1b[2J\x07.pth", "a\x9b.onnx", "a\u202e.safetensors", "a\x1b.param"):
        (tmp_path / name).write_bytes(b"nothing")
        assert looked_at(tmp_path / name, capsys) == 1
        assert looked_at(tmp_path / f"absent{name}", capsys) == 1


def test_the_guard_itself() -> None:
    assert escaped("a\x1b\x9b\u202e\ud800") == "a\\x1b\\x9b\\u202e\\ud800"
    assert not is_plain("a\x1bb")
    assert not is_plain("\n\n\n")
