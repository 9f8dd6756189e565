"""ONNX files that a loader must refuse: damaged, lying about sizes, growing without end, or reaching out of their folder."""

# ruff: noqa: B023 (each change is made at once, before the loop goes on)

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Case = tuple[str, dict[str, bytes]]
# Clears the screen, rings, goes to the beginning of the line, begins another, and turns the direction of writing.
EVIL = "a\x1b[2J\x07\r\nb\x9b31m\u202e"
HUGE = (1 << 62, 1 << 31, 10**9, 70_000)


def sound() -> Any:
    """A small network that is read: two convolutions with a slope between, and a pixel shuffle."""
    random_numbers = np.random.default_rng(0)

    def numbers(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(random_numbers.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="first", kernel_shape=[3, 3], pads=[1] * 4, group=1),
        helper.make_node("PRelu", ["c", "s"], ["p"], name="slope"),
        helper.make_node("Conv", ["p", "v"], ["d"], name="last", kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1]),
        helper.make_node("DepthToSpace", ["d"], ["y"], name="shuffle", blocksize=2, mode="CRD"),
    ]
    stored = [numbers("w", 4, 3, 3, 3), numbers("b", 4), numbers("s", 4, 1, 1), numbers("v", 12, 4, 3, 3)]
    return model(nodes, stored)


def model(nodes: list[Any], stored: list[Any], dims: Any = (1, 3, None, None), kind: int = 1) -> Any:
    """A file of these nodes from "x" to "y"."""
    given = helper.make_tensor_value_info("x", kind, None if dims is None else list(dims))
    graph = helper.make_graph(nodes, "g", [given], [helper.make_tensor_value_info("y", 1, None)], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def case(name: str, content: Any) -> Case:
    return name, {".onnx": content if isinstance(content, bytes) else content.SerializeToString()}


def changed(name: str, change: Callable[[Any], object]) -> Case:
    found = sound()
    change(found)
    return case(name, found)


def damaged() -> Iterator[Case]:
    data = sound().SerializeToString()
    for part in range(1, 97, 2):
        yield case(f"cut at {part}%", data[: max(1, len(data) * part // 100)])
    noise = random.Random(0)
    for size in (10, 100, 1000, 5000):
        for turn in range(3):
            yield case(f"noise {size} {turn}", noise.randbytes(size))
    for first in range(0, 200, 8):
        yield case(f"ones at {first}", data[:first] + b"\xff" * 40 + data[first + 40 :])
    yield case("text", b"hello " * 100)
    yield case("a group that never ends", b"\x3b" * 1000)
    yield case("wire type 7", b"\x3f" * 1000)
    yield case("a field longer than the file", b"\x3a\xff\xff\xff\xff\x0f" + bytes(100))
    yield case("a number without end", b"\x3a" + b"\xff" * 1000)


def tensors() -> Iterator[Case]:
    count = len(sound().graph.initializer)
    for index in range(count):
        for size in (*HUGE, -1, -(1 << 62), 5):
            yield changed(
                f"tensor {index} with a side of {size}", lambda m: m.graph.initializer[index].dims.__setitem__(0, size)
            )
        yield changed(f"tensor {index} with 100 sides", lambda m: m.graph.initializer[index].dims.extend([1] * 100))
        yield changed(f"tensor {index} without numbers", lambda m: m.graph.initializer[index].ClearField("raw_data"))
        yield changed(f"tensor {index} with half of them", lambda m: _halved(m.graph.initializer[index]))
        for value in (float("nan"), float("inf"), -float("inf")):
            yield changed(f"tensor {index} of {value}", lambda m: _filled(m.graph.initializer[index], value))
        for kind in (0, 4, 5, 8, 12, 13, 14, 15, 17, 18, 19, 20, 21, 22, 23, 99, -1):
            yield changed(
                f"tensor {index} of type {kind}", lambda m: setattr(m.graph.initializer[index], "data_type", kind)
            )
    for location in (
        "/etc/passwd",
        "../secret",
        "../../../../etc/passwd",
        "sub/weights",
        "a\\b",
        "C:\\x",
        ".",
        "..",
        "",
        "nowhere",
        "a\0b",
        EVIL,
        "x" * 5000,
        "file:///etc/passwd",
        "http://localhost/x",
        "~/x",
    ):
        yield changed(f"tensor in {location[:30]!r}", lambda m: _outside(m, location=location))
    for offset, length in (
        ("-1", "432"),
        ("0", "-5"),
        ("0", str(1 << 60)),
        (str(1 << 60), "432"),
        ("x", "y"),
        ("0", "9" * 5000),
    ):
        yield changed(f"tensor at {offset[:9]} of {length[:9]}", lambda m: _outside(m, "case.onnx", offset, length))
    yield changed("a sparse tensor", lambda m: m.graph.sparse_initializer.add())


def _halved(tensor: Any) -> None:
    tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]


def _filled(tensor: Any, value: float) -> None:
    tensor.raw_data = np.full(len(tensor.raw_data) // 4, value, np.float32).tobytes()


def _outside(found: Any, location: str, offset: str | None = None, length: str | None = None) -> None:
    tensor = found.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=value)


def nodes() -> Iterator[Case]:
    for kind in [
        "Loop",
        "If",
        "Scan",
        "SequenceMap",
        "SequenceAt",
        "Optional",
        "RandomNormal",
        "RandomUniform",
        "Bernoulli",
        "Multinomial",
        "StringNormalizer",
        "StringConcat",
        "RegexFullMatch",
        "ImageDecoder",
        "TfIdfVectorizer",
        "LabelEncoder",
        "NonZero",
        "Unique",
        "Compress",
        "Scatter",
        "GridSample",
        "Einsum",
        "DeformConv",
        "Attention",
        "QuantizeLinear",
        "PythonOp",
        "__import__",
        "os.system",
    ]:
        yield changed(f"a {kind}", lambda m: setattr(m.graph.node[1], "op_type", kind))
    for domain in ("com.evil", "ai.onnx.ml", "ai.onnx.training", "com.microsoft", EVIL):
        yield changed(f"a node of {domain[:20]!r}", lambda m: setattr(m.graph.node[0], "domain", domain))
    for index in range(4):
        node = sound().graph.node[index]
        for at in range(len(node.input)):
            yield changed(
                f"node {index} reads nothing at {at}", lambda m: m.graph.node[index].input.__setitem__(at, "nowhere")
            )
            yield changed(
                f"node {index} reads itself at {at}",
                lambda m: m.graph.node[index].input.__setitem__(at, node.output[0]),
            )
            yield changed(
                f"node {index} reads the result at {at}", lambda m: m.graph.node[index].input.__setitem__(at, "y")
            )
        yield changed(f"node {index} reads nothing at all", lambda m: m.graph.node[index].ClearField("input"))
        yield changed(
            f"node {index} is another with control characters", lambda m: setattr(m.graph.node[index], "op_type", EVIL)
        )
        yield changed(f"node {index} reads {EVIL!r}", lambda m: m.graph.node[index].input.__setitem__(0, EVIL))
        yield changed(
            f"node {index} has a graph",
            lambda m: m.graph.node[index].attribute.append(helper.make_attribute("g", m.graph)),
        )
        if node.op_type == "Conv":
            yield changed(f"node {index} has a text", lambda m: _option(m.graph.node[index], "pads", "x"))
        yield changed(f"node {index} has no type", lambda m: m.graph.node[index].attribute.add(name=EVIL))
    for name in ("kernel_shape", "pads", "strides", "dilations", "group"):
        for value in (*HUGE, -1, -(1 << 62)):
            if name == "kernel_shape":
                continue
            given = value if name == "group" else [value] * (4 if name == "pads" else 2)
            yield changed(f"{name} of {value}", lambda m: _option(m.graph.node[0], name, given))
        yield changed(f"{name} of many numbers", lambda m: _option(m.graph.node[0], name, [1] * 100_000))
        yield changed(f"{name} as a fraction", lambda m: _option(m.graph.node[0], name, 0.5))
    for size in (*HUGE, 0, -1, 100, 3):
        yield changed(f"a block of {size}", lambda m: _option(m.graph.node[3], "blocksize", size))


def _option(node: Any, name: str, value: Any) -> None:
    kept = [a for a in node.attribute if a.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])


def graphs() -> Iterator[Case]:
    yield changed("no input", lambda m: m.graph.ClearField("input"))
    yield changed("two inputs", lambda m: m.graph.input.append(helper.make_tensor_value_info("z", 1, [1, 3, 4, 4])))
    yield changed("no output", lambda m: m.graph.ClearField("output"))
    yield changed("two outputs", lambda m: m.graph.output.append(m.graph.output[0]))
    yield changed("an output that nothing writes", lambda m: setattr(m.graph.output[0], "name", EVIL))
    yield changed("no nodes", lambda m: m.graph.ClearField("node"))
    yield changed("no graph", lambda m: m.ClearField("graph"))
    yield changed("no weights", lambda m: m.graph.ClearField("initializer"))
    yield changed("the nodes in another order", _reversed)
    for dims in (
        [],
        [3],
        [1, 3, 4],
        [1, 3, 4, 4, 4],
        [1] * 1000,
        [1, 1 << 40, 8, 8],
        [1 << 40, 3, 8, 8],
        [1, 3, 1 << 40, 1 << 40],
        [1, 3, -4, 8],
        [1, 5, None, None],
    ):
        whole = sound()
        del whole.graph.input[:]
        whole.graph.input.append(helper.make_tensor_value_info("x", 1, dims or [0]))
        yield case(f"an input of {str(dims)[:30]}", whole)
    for kind in (0, 2, 6, 7, 8, 9, 14, 17, 99):
        whole = sound()
        whole.graph.input[0].type.tensor_type.elem_type = kind
        yield case(f"an input of type {kind}", whole)
    sequence = sound()
    del sequence.graph.input[:]
    sequence.graph.input.append(helper.make_tensor_sequence_value_info("x", 1, [1, 3, 8, 8]))
    yield case("an input of a sequence", sequence)
    many = sound()
    many.graph.node.extend([many.graph.node[1]] * 6_000)
    yield case("6,000 nodes", many)
    data = sound().SerializeToString()
    yield case("a million empty nodes", b"\x3a\x80\x89\x7a" + b"\x0a\x00" * 1_000_000 + data)
    yield case("a million empty tensors", b"\x3a\x80\x89\x7a" + b"\x2a\x00" * 1_000_000 + data)
    yield case("a million operation sets", data + b"\x42\x00" * 1_000_000)
    yield case("a million notes", data + b"\x72\x00" * 1_000_000)
    node = b"\x0a\x00" * 500_000  # empty names of inputs
    yield case(
        "half a million inputs of a node", b"\x3a" + _length(len(node) + 4) + b"\x0a" + _length(len(node)) + node
    )
    nested = b""
    for _ in range(3_000):  # attributes that hold graphs of one node with such an attribute
        inner = b"\x0a" + _length(len(nested)) + nested
        inner = b"\x32" + _length(len(inner)) + inner
        nested = b"\x2a" + _length(len(inner)) + inner
    yield case(
        "3,000 graphs inside of each other",
        b"\x3a" + _length(len(nested) + 8) + b"\x0a" + _length(len(nested)) + nested,
    )
    many_names = sound()
    many_names.graph.input[0].name = many_names.graph.node[0].input[0] = "x" * 3_000_000
    many_names.graph.node[1].op_type = "y" * 3_000_000
    yield case("names of millions of letters", many_names)


def _reversed(found: Any) -> None:
    turned = list(found.graph.node)[::-1]
    del found.graph.node[:]
    found.graph.node.extend(turned)


def _length(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 127
        out.append(low | (128 if value else 0))
        if not value:
            return bytes(out)


def growing() -> Iterator[Case]:
    """Arithmetic that would take all memory or time."""

    def stored(**values: Any) -> list[Any]:
        return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]

    def chain(kind: str, count: int, start: str, *more: str, **options: Any) -> list[Any]:
        names = [start, *(f"t{i}" for i in range(count))]
        return [helper.make_node(kind, [a, *(more or (a,))], [b], **options) for a, b in itertools.pairwise(names)]

    def end(name: str) -> list[Any]:
        return [helper.make_node("Mul", ["x", name], ["y"])]

    one = np.ones(4, np.float32)
    yield case("doubled 60 times", model([*chain("Concat", 60, "a", axis=0), *end("t59")], stored(a=one)))
    yield case("doubled images", model([*chain("Concat", 60, "x", axis=1), *end("t59")], []))
    yield case(
        "multiplied 3,000 times",
        model([*chain("Mul", 3_000, "a"), *end("t2999")], stored(a=np.full(1 << 16, 1.5, np.float32))),
    )
    yield case("squared until infinite", model([*chain("Mul", 20, "a"), *end("t19")], stored(a=np.float32(1e30))))
    yield case(
        "an outer product",
        model(
            [helper.make_node("Mul", ["a", "b"], ["c"]), *end("c")],
            stored(a=np.ones((1 << 16, 1), np.float32), b=np.ones((1, 1 << 16), np.float32)),
        ),
    )
    for size in HUGE[:3]:
        sizes = np.array([size, size])
        yield case(
            f"zeros of {size}", model([helper.make_node("ConstantOfShape", ["s"], ["c"]), *end("c")], stored(s=sizes))
        )
        yield case(
            f"expanded to {size}",
            model([helper.make_node("Expand", ["a", "s"], ["c"]), *end("c")], stored(a=np.float32(1), s=sizes)),
        )
        yield case(
            f"a range to {size}",
            model(
                [helper.make_node("Range", ["z", "l", "o"], ["c"]), *end("c")],
                stored(z=np.int64(0), l=np.int64(size), o=np.int64(1)),
            ),
        )
        yield case(
            f"a Tile by {size}",
            model([helper.make_node("Tile", ["x", "s"], ["y"])], stored(s=np.array([1, 1, size, size]))),
        )
        yield case(
            f"a Pad by {size}",
            model(
                [helper.make_node("Pad", ["x", "s"], ["q"], mode="reflect"), helper.make_node("Relu", ["q"], ["y"])],
                stored(s=np.array([0, 0, size, size] * 2)),
            ),
        )
        yield case(
            f"zeros around by {size}",
            model(
                [helper.make_node("Pad", ["x", "s"], ["q"]), helper.make_node("Conv", ["q", "w"], ["y"])],
                stored(s=np.array([0, 0, size, size] * 2), w=np.ones((3, 3, 3, 3), np.float32)),
            ),
        )
        yield case(
            f"a Resize by {size}",
            model(
                [helper.make_node("Resize", ["x", "", "s"], ["y"])], stored(s=np.array([1, 1, size, size], np.float32))
            ),
        )
        yield case(
            f"a Resize to {size}",
            model([helper.make_node("Resize", ["x", "", "", "s"], ["y"])], stored(s=np.array([1, 3, size, size]))),
        )
        yield case(
            f"a Reshape to {size}",
            model([helper.make_node("Reshape", ["x", "s"], ["y"])], stored(s=np.array([1, size, size, 1]))),
        )
        yield case(
            f"a Slice from {size}",
            model([helper.make_node("Slice", ["x", "a", "b"], ["y"])], stored(a=np.array([size]), b=np.array([size]))),
        )
    yield case(
        "a range of no steps",
        model([helper.make_node("Range", ["z", "l", "z"], ["c"]), *end("c")], stored(z=np.int64(0), l=np.int64(5))),
    )
    yield case(
        "a Gather of many",
        model(
            [helper.make_node("Gather", ["a", "i"], ["c"]), *end("c")],
            stored(a=np.ones((1, 1 << 12), np.float32), i=np.zeros(1 << 16, np.int64)),
        ),
    )
    yield case(
        "channels 100,000 times",
        model([helper.make_node("Gather", ["x", "i"], ["y"], axis=1)], stored(i=np.zeros(100_000, np.int64))),
    )
    yield case(
        "a Split into 5,000",
        model(
            [
                helper.make_node("Split", ["x"], [f"o{i}" for i in range(5_000)], axis=1),
                helper.make_node("Relu", ["o0"], ["y"]),
            ],
            [],
        ),
    )
    shapes = [
        helper.make_node("Shape", ["x"], ["t0"]),
        *[helper.make_node("Concat", [f"t{i}"] * 2, [f"t{i + 1}"], axis=0) for i in range(30)],
    ]
    yield case("sizes doubled 30 times", model([*shapes, *end("t30")], []))
    powers = [
        helper.make_node("Shape", ["x"], ["t0"]),
        *[helper.make_node("Mul", [f"t{i}"] * 2, [f"t{i + 1}"]) for i in range(200)],
    ]
    yield case("sizes squared 200 times", model([*powers, helper.make_node("Reshape", ["x", "t200"], ["y"])], []))
    products = [helper.make_node("Mul", [f"t{i}"] * 2, [f"t{i + 1}"]) for i in range(1, 40)]
    yield case(
        "a product with itself 40 times, and an unknown end",
        model([helper.make_node("Relu", ["x"], ["t1"]), *products, helper.make_node("Loop", ["t40"], ["y"])], []),
    )
    moves = [
        helper.make_node("Unsqueeze", ["x", "i"], ["t0"]),
        *[helper.make_node("Unsqueeze", [f"t{i}", "i"], [f"t{i + 1}"]) for i in range(4_000)],
    ]
    yield case("4,000 new axes", model([*moves, *end("t4000")], stored(i=np.array([0]))))
    turns = [
        helper.make_node("Transpose", ["x"], ["t0"], perm=[0, 1, 3, 2]),
        *[helper.make_node("Transpose", [f"t{i}"], [f"t{i + 1}"], perm=[1, 0, 2, 3]) for i in range(1_000)],
    ]
    yield case("1,001 transposes", model([*turns, helper.make_node("Relu", ["t1000"], ["y"])], []))
    wide = [helper.make_node("Conv", ["x", "w"], ["y"])]
    yield case("a convolution of 5,000 channels", model(wide, stored(w=np.ones((5_000, 3, 1, 1), np.float32))))
    heavy = [helper.make_node("Conv", [f"t{i}" if i else "x", "w"], [f"t{i + 1}"], pads=[1] * 4) for i in range(4_000)]
    yield case(
        "one weight 4,000 times",
        model([*heavy, helper.make_node("Loop", ["t4000"], ["y"])], stored(w=np.ones((3, 3, 3, 3), np.float32))),
    )
    crops = [helper.make_node("Slice", [f"t{i}" if i else "x", "a", "b", "c"], [f"t{i + 1}"]) for i in range(2_000)]
    yield case(
        "2,000 crops",
        model(
            [*crops, helper.make_node("Relu", ["t2000"], ["y"])],
            stored(a=np.array([1]), b=np.array([-1]), c=np.array([2])),
        ),
    )


FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    "damaged": damaged,
    "tensors": tensors,
    "nodes": nodes,
    "graphs": graphs,
    "growing": growing,
}
