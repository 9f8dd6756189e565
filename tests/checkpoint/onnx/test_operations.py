"""Single ONNX operations against onnxruntime; those whose options are not covered are refused, never read as others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srfast.checkpoint import load_model
from srfast.errors import CheckpointError

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
node = onnx.helper.make_node

WEIGHT = np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32) * 0.2
STORED = {
    "w": WEIGHT,
    "even": WEIGHT[:, :, :2, :2].copy(),
    "double": np.array([1, 1, 2, 2], np.float32),
    "triple": np.array([1, 1, 3, 3], np.float32),
    "low": np.float32(0.1),
    "high": np.float32(0.2),
    "axes": np.array([2, 3]),
    "channels": np.array([0.5, 1, 2], np.float32),
    "map": np.ones((1, 3, 1, 1), np.float32),
    "whole": np.arange(1, 4).reshape(1, 3, 1, 1),
    "huge": np.full((1, 3, 1, 1), 1e300),
}
BATCH = ["c", "channels", "channels", "channels", "channels"]


def write(path: Path, nodes: list[Any], opset: int = 18) -> None:
    """A convolution from the input to "c", and the nodes from there to "out"."""
    names = {name for n in nodes for name in n.input} | {"w"}
    free = onnx.helper.make_tensor_value_info("input", 1, [1, 3, None, None])
    result = onnx.helper.make_tensor_value_info("out", 1, None)
    stored = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in STORED.items() if k in names]
    first = node("Conv", ["input", "w"], ["c"], pads=[1, 1, 1, 1])
    graph = onnx.helper.make_graph([first, *nodes], "g", [free], [result], stored)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())


READ: dict[str, list[Any]] = {
    "average of pixels alone": [node("AveragePool", ["c"], ["out"], kernel_shape=[3, 3], pads=[1] * 4)],
    "average with padding": [
        node("AveragePool", ["c"], ["out"], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    ],
    "same padding": [node("Conv", ["c", "w"], ["out"], auto_pad="SAME_UPPER")],
    "dilated maximum": [
        node("MaxPool", ["c"], ["m"], kernel_shape=[3, 3], pads=[1] * 4, dilations=[2, 2]),
        node("ConvTranspose", ["m", "w"], ["out"]),
    ],
    "clip": [node("Clip", ["c", "low", "high"], ["out"])],
    "clip from below": [node("Clip", ["c", "low"], ["out"])],
    "clip from above": [node("Clip", ["c", "", "high"], ["out"])],
    "mean": [node("ReduceMean", ["c", "axes"], ["m"]), node("Add", ["c", "m"], ["out"])],
    "cubic": [node("Resize", ["c", "", "double"], ["out"], mode="cubic")],
    "nearest by 3": [node("Resize", ["c", "", "triple"], ["out"], mode="nearest")],
    "batch": [node("BatchNormalization", BATCH, ["out"])],
    "a number": [node("Constant", [], ["k"], value_float=2.0), node("Mul", ["c", "k"], ["out"])],
    "numbers": [node("Constant", [], ["k"], value_floats=[2.0]), node("Mul", ["c", "k"], ["out"])],
    "a number less the image": [node("Sub", ["low", "c"], ["out"])],
    "a cast of stored numbers": [node("Cast", ["whole"], ["k"], to=1), node("Add", ["c", "k"], ["out"])],
    "a sum of stored numbers": [node("Add", ["map", "map"], ["k"]), node("Add", ["c", "k"], ["out"])],
}


@pytest.mark.parametrize("name", READ)
def test_as_onnxruntime(name: str, tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    write(path, READ[name])
    x = np.random.default_rng(1).random((1, 3, 9, 12), np.float32)
    (expected,) = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": x})
    got = load_model(path).module(torch.from_numpy(x))
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=0, atol=1e-5)


REFUSED: dict[str, tuple[list[Any], str]] = {
    "same padding, even": ([node("Conv", ["c", "even"], ["out"], auto_pad="SAME_UPPER")], "padding SAME"),
    "same padding, strided": ([node("Conv", ["c", "w"], ["out"], auto_pad="SAME_LOWER", strides=[2, 2])], "SAME"),
    "same padding of a pool": (
        [node("MaxPool", ["c"], ["out"], auto_pad="SAME_UPPER", kernel_shape=[3, 3], strides=[2, 2])],
        "padding SAME",
    ),
    "same padding, enlarging": (
        [node("ConvTranspose", ["c", "w"], ["out"], strides=[2, 2], auto_pad="SAME_UPPER")],
        "padding SAME",
    ),
    "whole numbers": ([node("Cast", ["c"], ["i"], to=6), node("Cast", ["i"], ["out"], to=1)], "cuts off fractions"),
    "no axes": ([node("ReduceMean", ["c"], ["out"], noop_with_empty_axes=1)], "has no axes"),
    "computed axes": ([node("ReduceMean", ["c", "c"], ["out"])], "axes of a mean or maximum are computed"),
    "computed bounds": ([node("ReduceMax", ["c"], ["m"]), node("Clip", ["c", "", "m"], ["out"])], "bounds of a Clip"),
    "cubic of the inside": (
        [node("Resize", ["c", "", "double"], ["out"], mode="cubic", exclude_outside=1)],
        "leaves out what is outside",
    ),
    "other axes": ([node("Resize", ["c", "", "double"], ["out"], axes=[0, 2, 3, 1])], "axes of its own"),
    "batch in training": ([node("BatchNormalization", BATCH, ["out", "a", "b"], training_mode=1)], "in eval mode"),
    "a layer of stored numbers": ([node("Relu", ["map"], ["r"]), node("Add", ["c", "r"], ["out"])], "stored numbers"),
    "a number as a mode": ([node("Resize", ["c", "", "double"], ["out"], mode=3)], "n.onnx"),
    "a reshape to nothing": ([node("Reshape", ["input", ""], ["r"]), node("Add", ["c", "r"], ["out"])], "n.onnx"),
    "more than float32 holds": ([node("Mul", ["c", "huge"], ["out"])], "NaN or infinite"),
    "a Constant of text": ([node("Constant", [], ["k"], value_string="x"), node("Mul", ["c", "k"], ["out"])], "holds"),
    "a smaller image": ([node("Conv", ["c", "w"], ["out"], strides=[2, 2], pads=[1] * 4)], "by a whole factor"),
    "one number": ([node("GlobalAveragePool", ["c"], ["out"])], "by a whole factor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    nodes, says = REFUSED[name]
    write(tmp_path / "n.onnx", nodes)
    with pytest.raises(CheckpointError, match=says):
        load_model(tmp_path / "n.onnx")


def test_operands_along_an_axis_of_their_own(tmp_path: Path) -> None:
    """As before opset 7: PyTorch would add them along the width."""
    write(tmp_path / "n.onnx", [node("Add", ["c", "channels"], ["out"], axis=1, broadcast=1)], opset=6)
    with pytest.raises(CheckpointError, match="opset 7 or later"):
        load_model(tmp_path / "n.onnx")
