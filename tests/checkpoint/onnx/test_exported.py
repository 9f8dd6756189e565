"""Networks as exporters write them: padded and cropped by computed sizes, of one size, shuffled by reshapes, in fp16."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.capture import capture
from srfast.checkpoint import load_model
from srfast.engine import Engine
from srfast.errors import CheckpointError
from srfast.models import RRDBNet, SRVGGNetCompact
from srfast.models.bordered import Bordered
from srfast.plan.passes import optimise
from tests.helpers.networks.small import randomise

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
node = onnx.helper.make_node


class Player(nn.Module):
    """A network as those of video players: padded to a multiple with mirrored pixels, a plain body, cropped."""

    def __init__(
        self, factor: int = 2, scale: int = 2, multiple: int = 2, channels: int = 3, base: bool = False
    ) -> None:
        super().__init__()
        self.factor, self.scale, self.multiple, self.base = factor, scale, multiple, base
        self.first = nn.Conv2d(channels * factor**2, 8, 3, padding=1)
        self.gate = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, channels * (factor * scale) ** 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        m = self.multiple
        y = F.pad(x, (0, (m - width % m) % m, 0, (m - height % m) % m), "reflect")
        y = F.relu(self.first(F.pixel_unshuffle(y, self.factor)))
        y = (y + self.first.bias.mean()) * torch.tanh(self.gate(y))
        y = F.pixel_shuffle(self.last(y), self.factor * self.scale)[:, :, : height * self.scale, : width * self.scale]
        return y + F.interpolate(x, scale_factor=self.scale, mode="nearest") if self.base else y


class Mirrored(nn.Module):
    """A mirrored border, which unpadded convolutions use up."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.LeakyReLU(0.1), nn.Conv2d(6, 12, 3), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(F.pad(x, (2, 2, 2, 2), "reflect"))
        return y


class Both(nn.Module):
    """A mirrored border of one pixel that is continued to a multiple of four, and cropped again."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, 48, 3, padding=1), nn.PixelShuffle(4))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        right, bottom = ((4 - (side + 2) % 4) % 4 for side in (width, height))
        y: Tensor = self.body(F.pad(x, (1, 1 + right, 1, 1 + bottom), "reflect"))
        return y[:, :, 1 : height + 1, 1 : width + 1]


class Parts(nn.Module):
    """Split channels, group and pixel normalisation, Mish, GELU, zero padding as a layer, a resize to a computed size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 16, 3))
        self.norm, self.layer = nn.GroupNorm(4, 8), nn.LayerNorm(16)
        self.last = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(self.first(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        a, b = torch.split(y, [8, 8], 1)
        y = self.last(torch.cat([F.mish(self.norm(a)), F.gelu(b)], 1))
        return F.interpolate(y, size=(x.shape[2] * 2, x.shape[3] * 2), mode="bilinear") + F.interpolate(
            x, scale_factor=2, mode="nearest"
        )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "spanf3": lambda: Player(2, 2, 2),
    "multiple of 4": lambda: Player(2, 1, 4),
    "with the image added": lambda: Player(2, 2, 2, base=True),
    "gray": lambda: Player(2, 2, 2, channels=1),
    "mirrored": Mirrored,
    "border and multiple": Both,
    "parts": Parts,
    "compact": lambda: SRVGGNetCompact(num_feat=6, num_conv=1, upscale=2),
    "rrdb_x1": lambda: RRDBNet(scale=1, num_feat=6, num_block=1, num_grow_ch=4),
}


def exported(module: nn.Module, path: Path, size: tuple[int, int], opset: int, **options: Any) -> Path:
    module = module.eval()
    channels = options.pop("channels", 3)
    dtype = options.pop("dtype", torch.float32)
    names = {"input_names": ["input"], "output_names": ["output"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = torch.rand(1, channels, *size, dtype=dtype)
        torch.onnx.export(module, (x,), str(path), dynamo=False, opset_version=opset, **names, **options)
    return path


def free() -> dict[str, Any]:
    return {"dynamic_axes": {"input": {2: "h", 3: "w"}, "output": {2: "H", 3: "W"}}}


def run(path: Path, x: Tensor) -> Tensor:
    (y,) = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": x.numpy()})
    return torch.from_numpy(y)


def check(
    path: Path, sizes: list[tuple[int, int]], channels: int = 3, like: Any = None, tolerance: float = 2e-5
) -> None:
    """The module, and the engine whole and in tiles, against onnxruntime (or ``like``), float32 on the CPU."""
    loaded = load_model(path)
    plan = optimise(capture(loaded.module))
    for size in sizes:
        x = torch.rand(1, channels, *size)
        expected = run(path, x) if like is None else like(x)
        assert expected.shape[2:] == (size[0] * loaded.scale, size[1] * loaded.scale)
        if isinstance(loaded.module, Bordered) or plan.alignment == 1:
            torch.testing.assert_close(loaded.module(x), expected, rtol=0, atol=tolerance)
        for tile in (0, 16):
            got = Engine(plan, device="cpu", dtype=torch.float32, tile=tile)(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            torch.testing.assert_close(got, expected.clamp(0, 1), rtol=0, atol=tolerance)


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
@pytest.mark.parametrize("name", NETWORKS)
def test_of_free_size(name: str, opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = randomise(NETWORKS[name]())
    if name == "parts" and opset < 17:
        pytest.skip("before opset 17 a LayerNormalization is written as ten operations")
    channels = 1 if name == "gray" else 3
    exported(module, tmp_path / "n.onnx", (12, 16), opset, channels=channels, **free())
    if name == "parts":
        loaded = load_model(tmp_path / "n.onnx")
        for size in ((24, 36), (25, 37)):
            x = torch.rand(1, 3, *size)
            torch.testing.assert_close(loaded.module(x), run(tmp_path / "n.onnx", x), rtol=0, atol=2e-5)
        return
    sizes = [(28, 36), (29, 35)] if name != "rrdb_x1" else [(28, 36), (44, 20)]
    check(tmp_path / "n.onnx", sizes, channels)


@pytest.mark.parametrize("opset", [9, 10])
def test_of_the_oldest_operation_sets(opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = randomise(SRVGGNetCompact(num_feat=6, num_conv=1, upscale=2))
    exported(module, tmp_path / "n.onnx", (16, 24), opset, **free())
    check(tmp_path / "n.onnx", [(28, 36)], like=lambda x: module(x).detach())


@pytest.mark.parametrize("name", ["spanf3", "compact", "rrdb_x1"])
def test_of_one_size_takes_any(name: str, tmp_path: Path) -> None:
    """An exporter folds all sizes; the network reads others as well, as its module does."""
    torch.manual_seed(0)
    module = randomise(NETWORKS[name]())
    exported(module, tmp_path / "n.onnx", (16, 24), 17)
    check(tmp_path / "n.onnx", [(16, 24), (28, 36)], like=lambda x: module(x).detach())


def test_of_one_odd_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = randomise(Player())
    exported(module, tmp_path / "n.onnx", (15, 23), 17)
    check(tmp_path / "n.onnx", [(15, 23), (28, 36), (29, 36)], like=lambda x: module(x).detach())


@pytest.mark.parametrize("name", ["spanf3", "compact"])
def test_half_precision_in_and_out(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = randomise(NETWORKS[name]())
    exported(module.half(), tmp_path / "n.onnx", (16, 24), 17, dtype=torch.float16, **free())
    kinds = onnx.load(str(tmp_path / "n.onnx")).graph
    assert kinds.input[0].type.tensor_type.elem_type == kinds.output[0].type.tensor_type.elem_type == 10
    rounded = module.float()  # whose weights are those of the file
    check(tmp_path / "n.onnx", [(28, 36)], like=lambda x: rounded(x).detach())


def write(path: Path, nodes: list[Any], dims: list[Any], opset: int = 10, kind: int = 1, **stored: Any) -> Path:
    given = onnx.helper.make_tensor_value_info("x", kind, dims)
    out = onnx.helper.make_tensor_value_info("y", kind, None)
    weights = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()]
    graph = onnx.helper.make_graph(nodes, "g", [given], [out], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def weight(*shape: int) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(0).standard_normal(shape) * 0.1).astype(np.float32)


def test_pixel_shuffle_by_reshapes_of_one_size(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4),
        node("Reshape", ["c", "s0"], ["d"]),
        node("Transpose", ["d"], ["e"], perm=[0, 1, 4, 2, 5, 3]),
        node("Reshape", ["e", "s1"], ["y"]),
    ]
    w, b = weight(12, 3, 3, 3), weight(12)
    path = write(
        tmp_path / "n.onnx",
        nodes,
        [1, 3, 64, 64],
        w=w,
        b=b,
        s0=np.array([1, 3, 2, 2, 64, 64]),
        s1=np.array([1, 3, 128, 128]),
    )
    model = load_model(path)
    assert model.scale == 2

    def expected(x: Tensor) -> Tensor:
        return F.pixel_shuffle(F.conv2d(x, torch.from_numpy(w), torch.from_numpy(b), padding=1), 2)

    check(path, [(64, 64), (29, 37)], like=expected)
    assert [type(n).__name__ for n in optimise(capture(model.module)).nodes] == ["Conv"]


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
def test_both_orders_of_pixels(mode: str, tmp_path: Path) -> None:
    """And the other way, whose channels the next convolution reads in their order; no convolution is added."""
    nodes = [
        node("SpaceToDepth", ["x"], ["s"], blocksize=2),
        node("Conv", ["s", "w"], ["c"], pads=[1] * 4),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "v"], ["d"], pads=[1] * 4),
        node("DepthToSpace", ["d"], ["y"], blocksize=4, mode=mode),
    ]
    path = write(tmp_path / "n.onnx", nodes, [1, 3, None, None], 13, w=weight(8, 12, 3, 3), v=weight(48, 8, 3, 3))
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    check(path, [(28, 36)], like=lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0]))
    kinds = [type(n).__name__ for n in optimise(capture(load_model(path).module)).nodes]
    assert kinds.count("Conv") == 2


def test_colours_in_another_order(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["x", "bgr"], ["g"], axis=1),
        node("Conv", ["g", "w"], ["c"], pads=[1] * 4),
        node("Slice", ["c", "a", "b", "axis"], ["y"]),
    ]
    stored = {
        "bgr": np.array([2, 1, 0]),
        "w": weight(6, 3, 3, 3),
        "a": np.array([1]),
        "b": np.array([4]),
        "axis": np.array([1]),
    }
    path = write(tmp_path / "n.onnx", nodes, [1, 3, None, None], 13, **stored)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    check(path, [(28, 37)], like=lambda x: torch.from_numpy(session.run(None, {"x": x.numpy()})[0]))


def _beside(path: Path) -> Path:
    module = randomise(SRVGGNetCompact(num_feat=6, num_conv=1, upscale=2))
    exported(module, path, (16, 24), 17, **free())
    model = onnx.load(str(path))
    onnx.save_model(model, str(path), save_as_external_data=True, location="weights.data", size_threshold=0)
    return path


def test_weights_in_a_file_beside_it(tmp_path: Path) -> None:
    path = _beside(tmp_path / "n.onnx")
    assert (tmp_path / "weights.data").exists()
    check(path, [(28, 36)])


@pytest.mark.parametrize("what", ["missing", "a link", "short", "a folder"])
def test_a_file_beside_it_is_a_plain_whole_one(what: str, tmp_path: Path) -> None:
    path = _beside(tmp_path / "n.onnx")
    file = tmp_path / "weights.data"
    data = file.read_bytes()
    file.unlink()
    if what == "a link":
        (tmp_path / "other").write_bytes(data)
        file.symlink_to(tmp_path / "other")
    elif what == "short":
        file.write_bytes(data[:-1])
    elif what == "a folder":
        file.mkdir()
    with pytest.raises(CheckpointError, match=r"weights\.data"):
        load_model(path)


STRANGE: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "a border of repeated pixels": (
        [node("Pad", ["x", "p"], ["q"], mode="edge")],
        {"p": [0, 0, 1, 1, 0, 0, 1, 1]},
        "mirrored",
    ),
    "a border on one side": (
        [node("Pad", ["x", "p"], ["q"], mode="reflect")],
        {"p": [0, 0, 3, 0, 0, 0, 0, 0]},
        "no border",
    ),
    "a border of channels": (
        [node("Pad", ["x", "p"], ["q"], mode="reflect")],
        {"p": [0, 1, 0, 0, 0, 1, 0, 0]},
        "a Pad of",
    ),
    "zeros before an activation": (
        [node("Pad", ["x", "p"], ["z"]), node("Relu", ["z"], ["q"])],
        {"p": [0, 0, 1, 1, 0, 0, 1, 1]},
        "padded with zeros",
    ),
    "every other row": (
        [node("Slice", ["x", "a", "b", "axis", "two"], ["q"])],
        {"a": [0], "b": [99], "axis": [2], "two": [2]},
        "in steps",
    ),
    "rows from one side": (
        [node("Slice", ["x", "a", "b", "axis"], ["q"])],
        {"a": [5], "b": [9999], "axis": [2]},
        "no crop",
    ),
    "the number of pixels": (
        [node("Size", ["x"], ["n"]), node("Cast", ["n"], ["f"], to=1), node("Mul", ["x", "f"], ["q"])],
        {},
        "computes with the size",
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_no_plan_has_is_named(name: str, tmp_path: Path) -> None:
    nodes, stored, says = STRANGE[name]
    nodes = [*nodes, node("Conv", ["q", "w"], ["y"], pads=[1] * 4)]
    path = write(
        tmp_path / "n.onnx",
        nodes,
        [1, 3, None, None],
        13,
        w=weight(3, 3, 3, 3),
        **{k: np.array(v) for k, v in stored.items()},
    )
    with pytest.raises(CheckpointError, match=says):
        load_model(path)


def test_whole_numbers_are_no_image(tmp_path: Path) -> None:
    nodes = [node("Cast", ["x"], ["f"], to=1), node("Conv", ["f", "w"], ["y"], pads=[1] * 4)]
    with pytest.raises(CheckpointError, match=r"type 2, not float or float16"):
        load_model(write(tmp_path / "n.onnx", nodes, [1, 3, None, None], 13, 2, w=weight(3, 3, 3, 3)))


def test_what_is_padded_is_not_read_beside_the_image(tmp_path: Path) -> None:
    """A convolution of the image itself has zeros at its border, which in the padded image lie elsewhere."""

    class Beside(Player):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + self.extra(x)

    module = Beside(2, 1, 2)
    module.extra = nn.Conv2d(3, 3, 3, padding=1)
    exported(module, tmp_path / "n.onnx", (10, 12), 17, **free())
    with pytest.raises(CheckpointError, match="reads the image beside"):
        load_model(tmp_path / "n.onnx")
