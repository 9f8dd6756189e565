"""Files of PyTorch's exporter by torch.export (``dynamo=True``) against onnxruntime. float32 on the CPU.

The graphs are stored as text, as ``make_dynamo`` wrote them with PyTorch 2.13 and onnxscript 0.7.2. Weights come from names.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srfast.capture import capture
from srfast.checkpoint import load_model
from srfast.engine import Engine
from srfast.plan.passes import optimise
from tests.checkpoint.onnx.test_exported import run

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
parser = pytest.importorskip("onnx.parser")

GRAPHS = Path(__file__).parent / "graphs"
NAMES = sorted(path.stem for path in GRAPHS.glob("*.txt"))
FIXED = (15, 23)  # rows and columns of the files of one size
GLOBAL = ("parts", "plksr", "rcan")  # with means over the whole image, of which no tiles are
HALF = 10  # ONNX's number for float16
# SPAN multiplies images by 255 first.
GAINS = {("span", "conv_1.weight"): 1 / 255}


def weight(graph: str, name: str, shape: list[int]) -> np.ndarray[Any, Any]:
    """Numbers that keep the sizes of what goes through: of convolutions and normalisations, of slopes."""
    drawn = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) == 4:
        drawn = 0.2 + 0.2 * drawn if shape[0] == 1 else drawn / np.sqrt(np.prod(shape[1:]))
    else:
        drawn = (1.0 if name.endswith(".weight") else 0.2) + 0.1 * drawn
    return drawn * GAINS.get((graph, name), 1.0)


def file_of(name: str, path: Path, half: bool = False) -> Path:
    """The stored graph with weights, rounded to float16 where the graph is of it; written in float32 unless ``half``."""
    model = parser.parse_model((GRAPHS / f"{name}.txt").read_text(encoding="utf-8"))
    graph = model.graph
    for given in list(graph.input)[1:]:
        shape = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
        graph.initializer.append(
            onnx.numpy_helper.from_array(weight(name, given.name, shape).astype(dtype), given.name)
        )
        graph.input.remove(given)
    if not half:
        for tensor in graph.initializer:
            if tensor.data_type == HALF:
                values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        for value in (graph.input[0], graph.output[0]):
            value.type.tensor_type.elem_type = 1
    path.write_bytes(model.SerializeToString())
    return path


def test_all_graphs_are_there() -> None:
    assert len(NAMES) == 18


@pytest.mark.parametrize("name", NAMES)
def test_is_onnxruntimes(name: str, tmp_path: Path) -> None:
    """Whole and in tiles, for other sizes than the file was made with, and odd ones, where it takes any."""
    path = file_of(name, tmp_path / "n.onnx")
    plan = optimise(capture(load_model(path).module))
    assert (plan.halo() is None) == name.startswith(GLOBAL)
    torch.manual_seed(1)
    for size in [FIXED] if name.endswith("_fixed") else [(28, 36), (29, 35)]:
        x = torch.rand(1, 3, *size)
        expected = run(path, x).clamp(0, 1)
        assert expected.std() > 0.05
        for tile in (0,) if name.startswith(GLOBAL) else (0, 16):
            got = Engine(plan, device="cpu", dtype=torch.float32, tile=tile)(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)


def test_half_precision_is_that_of_its_weights(tmp_path: Path) -> None:
    """srfast computes in float32 what the file has in float16."""
    half, wide = file_of("span_half", tmp_path / "half.onnx", half=True), file_of("span_half", tmp_path / "wide.onnx")
    assert onnx.load(str(half)).graph.input[0].type.tensor_type.elem_type == HALF
    x = torch.rand(1, 3, 29, 35, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(load_model(half).module(x), run(wide, x), rtol=0, atol=2e-5)
