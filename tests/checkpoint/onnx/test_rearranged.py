"""Networks that begin with a pixel-unshuffle, as exporters write it: read back for images of any size."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.checkpoint import load_model
from srfast.errors import CheckpointError
from srfast.models import RRDBNet
from srfast.plan.export_onnx import export_onnx
from srfast.plan.passes import optimise
from tests.helpers.networks.small import randomise

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


class Viewed(nn.Module):
    """The pixel-unshuffle of BasicSR, by views of the sizes that the input has."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(3 * factor**2, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        r = self.factor
        n, c, height, width = x.size()
        x = x.view(n, c, height // r, r, width // r, r).permute(0, 1, 3, 5, 2, 4)
        x = x.reshape(n, c * r * r, height // r, width // r)
        return self.last(F.interpolate(self.conv(x), scale_factor=2 * r, mode="nearest"))


NETWORKS = {
    "x1": lambda: RRDBNet(scale=1, num_feat=6, num_block=1, num_grow_ch=4),
    "x2": lambda: RRDBNet(scale=2, num_feat=6, num_block=1, num_grow_ch=4),
    "viewed2": lambda: Viewed(2),
    "viewed4": lambda: Viewed(4),
}


def _exported(module: nn.Module, path: Path, free: bool) -> None:
    axes = {"dynamic_axes": {"input": {0: "n", 2: "h", 3: "w"}}} if free else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.rand(1, 3, 8, 12)
        torch.onnx.export(module, (x,), str(path), dynamo=False, input_names=["input"], output_names=["output"], **axes)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_what_pytorch_exports_is_read(name: str, free: bool, tmp_path: Path) -> None:
    module = randomise(NETWORKS[name]())
    _exported(module, tmp_path / "n.onnx", free)
    loaded = load_model(tmp_path / "n.onnx")
    plan = optimise(capture(loaded.module))
    assert plan.in_channels == 3
    for height, width in ((4, 4), (20, 8), (12, 44)):
        x = torch.rand(2, 3, height, width)
        y = ReferenceBackend().compile(plan, x.device, x.dtype)(x)
        with torch.no_grad():
            torch.testing.assert_close(y, module(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", [1, 2])
def test_what_srfast_exports_takes_any_size(scale: int, tmp_path: Path) -> None:
    module = randomise(RRDBNet(scale=scale, num_feat=6, num_block=1, num_grow_ch=4))
    plan = optimise(capture(module))
    export_onnx(plan, tmp_path / "n.onnx")
    session = runtime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
    for size in ((1, 3, 4, 8), (2, 3, 20, 12), (1, 3, 36, 4)):
        x = torch.rand(size)
        (y,) = session.run(None, {"input": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(y), module(x), rtol=0, atol=1e-6)
    assert load_model(tmp_path / "n.onnx").scale == scale


def _graph(
    path: Path, nodes: list[tuple[str, list[str], dict[str, object]]], dims: list[object], **constants: list[int]
) -> Path:
    """A file of ``nodes``, each of which writes "t0", "t1", ..., and a convolution of 12 channels at the end."""
    helper, proto = onnx.helper, onnx.TensorProto
    made = [helper.make_node(kind, inputs, [f"t{i}"], **a) for i, (kind, inputs, a) in enumerate(nodes)]
    made.append(helper.make_node("Conv", [f"t{len(nodes) - 1}", "weight"], ["output"], kernel_shape=[1, 1]))
    stored = [onnx.numpy_helper.from_array(np.array(v, np.int64), k) for k, v in constants.items()]
    stored.append(onnx.numpy_helper.from_array(np.ones((3, 12, 1, 1), np.float32), "weight"))
    given = helper.make_tensor_value_info("input", proto.FLOAT, dims)
    out = helper.make_tensor_value_info("output", proto.FLOAT, [1, 3, "h", "w"])
    onnx.save(helper.make_model(helper.make_graph(made, "g", [given], [out], stored)), str(path))
    return path


FREE = [1, 3, "h", "w"]


@pytest.mark.parametrize(
    ("nodes", "dims", "constants", "message"),
    [
        ([("Transpose", ["input"], {"perm": [0, 1, 3, 2]})], FREE, {}, "no pixel-unshuffle"),
        ([("Reshape", ["input", "shape"], {})], FREE, {"shape": [1, 12, -1, 7]}, "a Reshape makes"),
        ([("Reshape", ["input", "shape"], {})], FREE, {"shape": [1 << 40, 1 << 40]}, "a Reshape makes"),
        (
            [("Reshape", ["input", "shape"], {})],
            [1, 3, 1 << 20, 1 << 20],
            {"shape": [1, 12, -1, 2]},
            "its input has the shape",
        ),
        ([("Shape", ["input"], {}), ("Gather", ["t0", "many"], {})], FREE, {"many": [0] * 100}, "more than 64"),
        ([("Shape", ["input"], {}), ("Pad", ["t0", "t0"], {})], FREE, {}, "of stored numbers"),
        ([("Unsqueeze", ["input", "axis"], {}) for _ in range(70)], FREE, {"axis": [0]}, "no pixel-unshuffle"),
    ],
)
def test_other_rearrangements_are_refused(nodes, dims, constants, message: str, tmp_path: Path) -> None:
    path = _graph(tmp_path / "n.onnx", nodes, dims, **constants)
    with pytest.raises(CheckpointError, match=message):
        load_model(path)
