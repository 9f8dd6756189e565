"""ONNX out (against onnxruntime) and in (against the module), and hostile ONNX files."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from srfast.capture import capture
from srfast.checkpoint import load_model
from srfast.errors import CheckpointError, OutputError
from srfast.models import SRUGAN, ResidualSR, RRDBNet, SRResNet, SRVGGNetCompact, edsr, msrresnet
from srfast.plan.export_onnx import export_onnx
from srfast.plan.passes import optimise
from tests.helpers.networks.small import randomise

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


def test_a_graph_has_its_own_activations(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    export_onnx(optimise(capture(SRVGGNetCompact(num_feat=6, num_conv=1, upscale=2))), path)
    for hint in ({"act": "leakyrelu"}, {"res_scale": 0.3}):
        with pytest.raises(CheckpointError, match="its own activations"):
            load_model(path, **hint)  # type: ignore[arg-type]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "rrdb_x4": lambda: RRDBNet(num_feat=8, num_block=1, num_grow_ch=4),
    "rrdb_x2": lambda: RRDBNet(scale=2, num_feat=6, num_block=1, num_grow_ch=4),
    "srresnet": lambda: SRResNet(4, channels=8, num_blocks=2),
    "compact_x3": lambda: SRVGGNetCompact(num_feat=6, num_conv=2, upscale=3),
    "compact_relu": lambda: SRVGGNetCompact(num_feat=6, num_conv=1, upscale=2, act_type="relu"),
    "msrresnet_x3": lambda: msrresnet(3, channels=6, num_blocks=1),
    "edsr": lambda: edsr(2, channels=6, num_blocks=1),
    "tanh": lambda: ResidualSR(channels=6, num_blocks=1, head="tanh", output_scale=(0.5,) * 3, output_shift=(0.5,) * 3),
    "instance": lambda: ResidualSR((2,), channels=6, num_blocks=1, norm="instance_affine", act="silu", nearest=True),
    "separable": lambda: ResidualSR((2,), channels=6, num_blocks=1, separable=True, act="prelu_channels"),
    "ugan": lambda: SRUGAN(4, channels=4, growth=2, blocks=1),
}


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return randomise(NETWORKS[request.param]())


def run(path: Path, x: torch.Tensor) -> torch.Tensor:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"input": x.numpy()})
    return torch.from_numpy(result)


def test_out_and_in_again(network: nn.Module, tmp_path: Path) -> None:
    plan = optimise(capture(network))
    path = tmp_path / "n.onnx"
    export_onnx(plan, path)
    loaded = load_model(path)
    assert (loaded.scale, loaded.file_kind) == (plan.scale, "ONNX")
    again = optimise(capture(loaded.module))
    assert (again.halo(), again.scale, again.alignment) == (plan.halo(), plan.scale, plan.alignment)
    for height, width in ((4, 12), (8, 4)):  # the sizes are free
        x = torch.rand(2, 3, height, width)
        with torch.no_grad():
            expected = network(x)
        torch.testing.assert_close(run(path, x), expected, rtol=0, atol=2e-5)
        torch.testing.assert_close(loaded.module(x), expected, rtol=0, atol=2e-5)


def test_half(network: nn.Module, tmp_path: Path) -> None:
    export_onnx(optimise(capture(network)), tmp_path / "n.onnx", torch.float16)
    x = torch.rand(1, 3, 8, 12)
    with torch.no_grad():
        expected = network(x)
    got = run(tmp_path / "n.onnx", x.half())
    assert got.dtype == torch.float16
    assert (got.float() - expected).abs().max() < 0.02 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(load_model(tmp_path / "n.onnx").module(x), expected, rtol=0, atol=0.02)


def test_files_of_other_programs(network: nn.Module, tmp_path: Path) -> None:
    """What torch.onnx.export writes, with the layers and names of the module."""
    path = tmp_path / "t.onnx"
    x = torch.rand(1, 3, 8, 8)
    free = {"input": {2: "h", 3: "w"}}
    names: Any = {"input_names": ["input"], "dynamic_axes": free, "dynamo": False, "opset_version": 17}
    if getattr(network, "unshuffle", 1) > 1:
        pytest.skip("torch.onnx.export writes a pixel-unshuffle of free size as reshapes of computed sizes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (x,), str(path), **names)
    y = torch.rand(1, 3, 8, 12)
    with torch.no_grad():
        expected = network(y)
    loaded = load_model(path)
    torch.testing.assert_close(loaded.module(y), expected, rtol=0, atol=1e-5)
    assert optimise(capture(loaded.module)).halo() == optimise(capture(network)).halo()


def test_existing_files_stay(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        export_onnx(optimise(capture(SRVGGNetCompact(num_feat=4, num_conv=0))), path)
    assert path.read_text() == "mine"
    with pytest.raises(ValueError, match="bfloat16"):
        export_onnx(optimise(capture(SRVGGNetCompact(num_feat=4, num_conv=0))), tmp_path / "b.onnx", torch.bfloat16)


def _first(model: Any, kind: str) -> Any:
    return next(node for node in model.graph.node if node.op_type == kind)


def _external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = 1
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    tensor.ClearField("raw_data")


def _set(model: Any, name: str, value: Any) -> None:
    setattr(model.graph.initializer[0], name, value)


def _values(model: Any, fill: float) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = np.full(len(tensor.raw_data) // 4, fill, np.float32).tobytes()


DAMAGE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "another file": (_external, "lies in another file"),
    "NaN": (lambda m: _values(m, float("nan")), "NaN"),
    "infinity": (lambda m: _values(m, float("inf")), "NaN or infinite"),
    "negative size": (lambda m: m.graph.initializer[0].dims.__setitem__(0, -4), "shape"),
    "huge size": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 1 << 50), "shape"),
    "wrong size": (lambda m: m.graph.initializer[0].dims.__setitem__(0, 5), "numbers"),
    "text": (lambda m: _set(m, "data_type", 8), "type 8"),
    "no numbers": (lambda m: m.graph.initializer[0].ClearField("raw_data"), "0 numbers"),
    "unknown operation": (lambda m: setattr(_first(m, "Conv"), "op_type", "Loop"), "'Loop'"),
    "unknown domain": (lambda m: setattr(_first(m, "Conv"), "domain", "com.evil"), "operation"),
    "missing weight": (lambda m: _first(m, "Conv").input.__setitem__(1, "nowhere"), "reads 'nowhere', which nothing"),
    "missing bias": (lambda m: _first(m, "Conv").input.__setitem__(2, "nowhere"), "reads 'nowhere', which nothing"),
    "missing input": (lambda m: _first(m, "Conv").input.__setitem__(0, "nowhere"), "reads 'nowhere', which nothing"),
    "no output": (lambda m: m.graph.ClearField("output"), "0 outputs"),
    "two outputs": (lambda m: m.graph.output.append(m.graph.output[0]), "2 outputs"),
    "no input": (lambda m: m.graph.ClearField("input"), "0 inputs"),
    "a billion pixels": (lambda m: _first(m, "DepthToSpace").attribute[0].__setattr__("i", 10**9), "shuffle"),
    "groups": (lambda m: _first(m, "Conv").attribute.append(onnx.helper.make_attribute("group", 100)), "groups"),
    "negative groups": (
        lambda m: _first(m, "Conv").attribute.append(onnx.helper.make_attribute("group", -1)),
        "groups",
    ),
    "uneven padding": (lambda m: _first(m, "Conv").attribute[1].ints.__setitem__(0, 7), "padding"),
    "a subgraph": (lambda m: _first(m, "Conv").attribute.append(onnx.helper.make_attribute("g", m.graph)), "subgraphs"),
    "10,000 operations": (lambda m: m.graph.node.extend([m.graph.node[0]] * 10_000), "operations"),
    "nothing": (lambda m: m.Clear(), "not a valid ONNX"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged(name: str, tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    export_onnx(optimise(capture(SRVGGNetCompact(num_feat=4, num_conv=1, upscale=2))), path)
    model = onnx.load(str(path))
    change, says = DAMAGE[name]
    change(model)
    path.write_bytes(model.SerializeToString() or b"\x08")
    with pytest.raises(CheckpointError, match=says):
        load_model(path)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.999])
def test_cut_off(share: float, tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    export_onnx(optimise(capture(SRVGGNetCompact(num_feat=4, num_conv=1, upscale=2))), path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError):
        load_model(path)


def test_a_dictionary_of_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    path.write_text("hello " * 100)
    with pytest.raises(CheckpointError, match="not a valid ONNX"):
        load_model(path)


def test_the_package_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert importlib.util.find_spec("onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    path = tmp_path / "n.onnx"
    path.write_bytes(b"\x08\x08")
    with pytest.raises(Exception, match="pip install onnx"):
        load_model(path)
