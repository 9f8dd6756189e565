"""Operation set 21 as exporters write it, and functions of a file's own, against onnxruntime. float32 on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srfast.checkpoint import load_model
from srfast.errors import CheckpointError
from tests.checkpoint.onnx.test_exported import check, node, weight, write

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
OPSET = 21
OWN = "srfast.test"


def like(path: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])


CONV = node("Conv", ["x", "w"], ["c"], pads=[1] * 4)
KINDS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "split in equal parts": (
        [CONV, node("Split", ["c"], ["p", "q"], axis=1, num_outputs=2), node("Mul", ["p", "q"], ["y"])],
        {"w": weight(6, 3, 3, 3)},
    ),
    "split in uneven parts": (
        [CONV, node("Split", ["c", "n"], ["p", "q"], axis=1), node("Conv", ["p", "v"], ["y"], pads=[1] * 4)],
        {"w": weight(8, 3, 3, 3), "n": np.array([5, 3]), "v": weight(3, 5, 3, 3)},
    ),
    "bounds as tensors": ([CONV, node("Clip", ["c", "low", "high"], ["y"])], {"w": weight(3, 3, 3, 3)}),
    "one bound": ([CONV, node("Clip", ["c", "", "high"], ["y"])], {"w": weight(3, 3, 3, 3)}),
    "padding as a tensor": (
        [node("Pad", ["x", "pads", "zero", "axes"], ["p"]), node("Conv", ["p", "w"], ["y"])],
        {"w": weight(3, 3, 3, 3), "pads": np.array([1, 1, 1, 1]), "axes": np.array([2, 3])},
    ),
    "axes of other signs": (
        [node("Pad", ["x", "pads", "", "axes"], ["p"], mode="reflect"), node("Conv", ["p", "w"], ["y"])],
        {"w": weight(3, 3, 5, 5), "pads": np.array([2, 2, 2, 2]), "axes": np.array([-2, -1])},
    ),
    "axes added and taken": (
        [
            CONV,
            node("Unsqueeze", ["c", "first"], ["u"]),
            node("Squeeze", ["u", "first"], ["s"]),
            node("Unsqueeze", ["s", "last"], ["t"]),
            node("Squeeze", ["t", "last"], ["y"]),
        ],
        {"w": weight(3, 3, 3, 3), "first": np.array([1]), "last": np.array([-1])},
    ),
    "a mean over axes": (
        [CONV, node("ReduceMean", ["c", "last"], ["m"], keepdims=1), node("Mul", ["c", "m"], ["y"])],
        {"w": weight(3, 3, 3, 3), "last": np.array([2, 3])},
    ),
    "a whole enlargement": (
        [
            CONV,
            node(
                "Resize", ["c", "", "scales"], ["y"], coordinate_transformation_mode="asymmetric", nearest_mode="floor"
            ),
        ],
        {"w": weight(3, 3, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "an enlargement of two axes": (
        [
            CONV,
            node("Resize", ["c", "", "scales"], ["y"], axes=[2, 3], mode="linear"),
        ],
        {"w": weight(3, 3, 3, 3), "scales": np.array([2, 2], np.float32)},
    ),
    "shapes that keep zeros": (
        [
            node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
            node("Shape", ["c"], ["rows"], start=2, end=3),
            node("Shape", ["c"], ["columns"], start=3, end=4),
            node("Concat", ["n", "parts", "rows", "columns"], ["s0"], axis=0),
            node("Reshape", ["c", "s0"], ["d"], allowzero=1),
            node("Transpose", ["d"], ["e"], perm=[0, 1, 4, 2, 5, 3]),
            node("Mul", ["rows", "two"], ["r2"]),
            node("Mul", ["columns", "two"], ["c2"]),
            node("Concat", ["n", "three", "r2", "c2"], ["s1"], axis=0),
            node("Reshape", ["e", "s1"], ["y"], allowzero=1),
        ],
        {
            "w": weight(12, 3, 3, 3),
            "n": np.array([1]),
            "parts": np.array([3, 2, 2]),
            "two": np.array([2]),
            "three": np.array([3]),
        },
    ),
    "numbers in operations": (
        [
            node("Constant", [], ["gain"], value_float=0.5),
            node("Constant", [], ["shift"], value_floats=[0.25]),
            node("Constant", [], ["axis"], value_ints=[1]),
            CONV,
            node("Mul", ["c", "gain"], ["g"]),
            node("Add", ["g", "shift"], ["h"]),
            node("ReduceMax", ["h", "axis"], ["top"], keepdims=1),
            node("Sub", ["h", "top"], ["y"]),
        ],
        {"w": weight(3, 3, 3, 3)},
    ),
    "normalised groups": (
        [CONV, node("GroupNormalization", ["c", "gain6", "shift6"], ["y"], num_groups=2)],
        {"w": weight(6, 3, 3, 3), "gain6": weight(6) + 1, "shift6": weight(6)},
    ),
}
STORED = {"low": np.float32(-0.05), "high": np.float32(0.1), "zero": np.float32(0)}


@pytest.mark.parametrize("opset", [18, OPSET])
@pytest.mark.parametrize("name", KINDS)
def test_forms_of_the_newer_operation_sets(name: str, opset: int, tmp_path: Path) -> None:
    nodes, stored = KINDS[name]
    if (
        name == "normalised groups" and opset < OPSET
    ):  # a scale for each of the two groups, not for each of the six channels
        stored = stored | {key: stored[key][[1, 4]] for key in ("gain6", "shift6")}
    read = {given for each in nodes for given in each.input}
    stored |= {key: value for key, value in STORED.items() if key in read}
    path = write(tmp_path / "n.onnx", nodes, [1, 3, None, None], opset, **stored)
    loaded, expected = load_model(path), like(path)
    for size in ((24, 36), (16, 20)):
        x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(loaded.module(x), expected(x), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("opset", "scales", "groups", "says"),
    [
        (18, 6, 2, "2 groups has 6 scales"),
        (21, 2, 2, "6 channels in 2 groups has 2 scales"),
        (18, 4, 4, "6 channels do not make 4"),
        (21, 6, 4, "6 channels do not make 4"),
        (18, 0, 0, "6 channels do not make 0"),
    ],
)
def test_scales_that_do_not_fit_the_groups(opset: int, scales: int, groups: int, says: str, tmp_path: Path) -> None:
    nodes = [CONV, node("GroupNormalization", ["c", "gain", "shift"], ["y"], num_groups=groups)]
    stored = {"w": weight(6, 3, 3, 3), "gain": weight(scales) + 1, "shift": weight(scales)}
    with pytest.raises(CheckpointError, match=says):
        load_model(write(tmp_path / "n.onnx", nodes, [1, 3, None, None], opset, **stored))


def test_weights_of_sixteen_bits(tmp_path: Path) -> None:
    """bfloat16 weights, cast in the graph: as 'float' of the file has them."""
    tensor = onnx.TensorProto(data_type=16, dims=[3, 3, 3, 3], name="b")
    tensor.raw_data = (weight(3, 3, 3, 3).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    path = write(
        tmp_path / "n.onnx",
        [node("Cast", ["b"], ["w"], to=1), CONV, node("Relu", ["c"], ["y"])],
        [1, 3, None, None],
        OPSET,
    )
    model = onnx.load(str(path))
    model.graph.initializer.append(tensor)
    onnx.save(model, str(path))
    check(path, [(24, 36)], like=like(path))


def function(
    name: str, inputs: list[str], outputs: list[str], nodes: list[Any], *, opset: int = OPSET, **options: Any
) -> Any:
    imports = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid(OWN, 1)]
    return onnx.helper.make_function(OWN, name, inputs, outputs, nodes, imports, **options)


def with_functions(path: Path, nodes: list[Any], functions: list[Any], **stored: Any) -> Path:
    write(path, nodes, [1, 3, None, None], OPSET, **stored)
    model = onnx.load(str(path))
    model.functions.extend(functions)
    model.opset_import.append(onnx.helper.make_opsetid(OWN, 1))
    path.write_bytes(model.SerializeToString())
    return path


def call(name: str, inputs: list[str], outputs: list[str], **options: Any) -> Any:
    return onnx.helper.make_node(name, inputs, outputs, domain=OWN, **options)


def referring(kind: str, inputs: list[str], outputs: list[str], name: str, to: str, what: int) -> Any:
    """An operation whose attribute is one of the function's."""
    made = node(kind, inputs, outputs)
    made.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=to, type=what))
    return made


def nested(path: Path) -> Path:
    """Layers that call an activation whose slope is given or left at its default; the same names in each call."""
    act = function(
        "act",
        ["x"],
        ["y"],
        [
            referring("LeakyRelu", ["x"], ["t"], "alpha", "slope", 1),
            node("Neg", ["t"], ["n"]),
            node("Neg", ["n"], ["y"]),
        ],
        attribute_protos=[onnx.helper.make_attribute("slope", 0.3)],
    )
    layer = function(
        "layer",
        ["x", "w", "b"],
        ["y", "x"],
        [node("Conv", ["x", "w", "b"], ["t"], pads=[1] * 4), referring_call("act", ["t"], ["y"], "slope")],
        attributes=["slope"],
    )
    nodes = [
        call("layer", ["x", "w"], ["t", "same"], slope=0.1),
        call("layer", ["t", "v", "b"], ["u", ""]),
        call("act", ["u"], ["a"], slope=-0.5),
        node("Add", ["a", "same"], ["y"]),
    ]
    return with_functions(path, nodes, [act, layer], w=weight(5, 3, 3, 3), v=weight(3, 5, 3, 3), b=weight(3))


def referring_call(name: str, inputs: list[str], outputs: list[str], option: str) -> Any:
    made = call(name, inputs, outputs)
    made.attribute.append(onnx.AttributeProto(name=option, ref_attr_name=option, type=1))
    return made


def test_functions_of_the_file(tmp_path: Path) -> None:
    path = nested(tmp_path / "n.onnx")
    w, v, b = (torch.from_numpy(weight(*shape)) for shape in ((5, 3, 3, 3), (3, 5, 3, 3), (3,)))

    def expected(x: torch.Tensor) -> torch.Tensor:
        t = torch.nn.functional.leaky_relu(torch.conv2d(x, w, padding=1), 0.1)
        u = torch.nn.functional.leaky_relu(torch.conv2d(t, v, b, padding=1), 0.3)
        return torch.nn.functional.leaky_relu(u, -0.5) + x

    check(path, [(24, 36)], like=expected)


@pytest.mark.parametrize("count", [15, 17])
def test_how_deep_functions_call_each_other(count: int, tmp_path: Path) -> None:
    """16 calls in each other are read, more are not, though these would end."""
    inner = [function(f"f{n}", ["x"], ["y"], [call(f"f{n + 1}", ["x"], ["y"])]) for n in range(count)]
    last = function(f"f{count}", ["x"], ["y"], [node("Relu", ["x"], ["y"])])
    path = with_functions(tmp_path / "n.onnx", [CONV, call("f0", ["c"], ["y"])], [*inner, last], w=weight(3, 3, 3, 3))
    if count < 16:
        kernel = torch.from_numpy(weight(3, 3, 3, 3))
        check(path, [(24, 36)], like=lambda x: torch.relu(torch.conv2d(x, kernel, padding=1)))
        return
    with pytest.raises(CheckpointError, match="more than 16 deep"):
        load_model(path)


def bombs() -> dict[str, tuple[list[Any], list[Any]]]:
    """Calls, and functions that are small in the file and not when they are written out."""
    big = onnx.numpy_helper.from_array(np.zeros(1 << 20, np.float32), "z")
    doubling = [
        function(f"f{n}", ["x"], ["y"], [call(f"f{n + 1}", ["x"], ["t"]), call(f"f{n + 1}", ["t"], ["y"])])
        for n in range(14)
    ]
    many = [f"i{n}" for n in range(20_000)]
    return {
        "itself": ([call("f", ["x"], ["y"])], [function("f", ["x"], ["y"], [call("f", ["x"], ["y"])])]),
        "doubling": (
            [call("f0", ["x"], ["y"])],
            [*doubling, function("f14", ["x"], ["y"], [node("Relu", ["x"], ["y"])])],
        ),
        "doubling of nothing": ([call("f0", ["x"], ["y"])], [*doubling, function("f14", ["x"], ["y"], [])]),
        "constants": (
            [call("f", ["x"], [f"y{n}"]) for n in range(200)],
            [function("f", ["x"], ["y"], [node("Constant", [], ["c"], value=big), node("Relu", ["x"], ["y"])])],
        ),
        "names": ([call("f", ["x"], [f"y{n}"]) for n in range(4000)], [function("f", many, ["y"], [])]),
        "more than it takes": (
            [call("f", ["x", "x"], ["y"])],
            [function("f", ["x"], ["y"], [node("Relu", ["x"], ["y"])])],
        ),
        "another operation set": (
            [call("f", ["x"], ["y"])],
            [function("f", ["x"], ["y"], [node("Relu", ["x"], ["y"])], opset=9)],
        ),
        "nothing written": ([call("f", ["x"], ["y"])], [function("f", ["x"], ["y"], [])]),
        "a strange name": ([call("f", ["x"], ["y"])], [function("\x1b[2J", ["x"], ["y"], [], opset=9)]),
    }


@pytest.mark.parametrize("name", bombs())
def test_functions_that_do_not_end_are_refused(name: str, tmp_path: Path) -> None:
    nodes, functions = bombs()[name]
    path = with_functions(tmp_path / "n.onnx", nodes, functions)
    started = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert time.process_time() - started < 5  # CPU seconds: of a second that is allowed, and what a busy machine adds
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
