"""ONNX files of convolutional networks, as modules of plain PyTorch layers; nothing outside the file is read."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from srfast.errors import CheckpointError, MissingDependencyError

MAX_NODES = 5_000  # RRDBNet-23 has 1,300
MAX_CHANNELS = 2048
MAX_FACTOR = 16  # of one enlargement
_FLOATS = {1: np.float32, 10: np.float16, 11: np.float64}
_INTEGERS = {6: np.int32, 7: np.int64}
_BFLOAT16 = 16


def read_onnx(path: Path) -> nn.Module:
    """The network as a traced module, float32.

    Raises:
        CheckpointError: the file is damaged, refers to other files, or has an operation that is not covered.
        MissingDependencyError: the package onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(f"reading {path} needs the package onnx: pip install onnx ({error})") from error
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf has many of its own
        raise CheckpointError(f"{path} is not a valid ONNX file: {type(error).__name__}") from error
    try:
        return _Reader(model.graph).module()
    except (CheckpointError, ValueError, IndexError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path}: {' '.join(str(error).split())[:300]}") from error


class _Reader:
    """Builds an fx graph, one ONNX node at a time."""

    def __init__(self, graph: Any) -> None:
        if len(graph.node) > MAX_NODES:
            raise CheckpointError(f"it has {len(graph.node)} operations (at most {MAX_NODES})")
        self.graph = graph
        self.constants = {tensor.name: _array(tensor) for tensor in graph.initializer}
        self.root = nn.Module()
        self.fx = fx.Graph()
        self.values: dict[str, fx.Node] = {}
        self.layers = 0

    def module(self) -> nn.Module:
        inputs = [value for value in self.graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise CheckpointError(
                f"it has {len(inputs)} inputs and {len(self.graph.output)} outputs, not one image each"
            )
        self.values[inputs[0].name] = self.fx.placeholder("input")
        for node in self.graph.node:
            self.add(node)
        self.fx.output(self.values[self.graph.output[0].name])
        return fx.GraphModule(self.root, self.fx).float()

    def add(self, node: Any) -> None:
        attributes = {a.name: _attribute(a) for a in node.attribute}
        if node.op_type == "Constant":
            self.constants[node.output[0]] = attributes["value"]
            return
        inputs = [self.values.get(name, self.constants.get(name)) if name else None for name in node.input]
        convert = _OPERATIONS.get(node.op_type)
        if convert is None or node.domain not in ("", "ai.onnx"):
            raise CheckpointError(f"no layer covers the operation {node.op_type!r} (at {node.name or node.output[0]})")
        self.values[node.output[0]] = convert(self, inputs, attributes)

    def layer(self, module: nn.Module, x: fx.Node) -> fx.Node:
        """A call of a new submodule."""
        name = f"layer{self.layers}"
        self.layers += 1
        self.root.add_module(name, module)
        return self.fx.call_module(name, (x,))

    def constant(self, value: np.ndarray[Any, Any]) -> fx.Node | float:
        """A number, or a buffer."""
        if value.size == 1:
            return float(value.reshape(-1)[0])
        name = f"constant{self.layers}"
        self.layers += 1
        self.root.register_buffer(name, torch.from_numpy(value.astype(np.float32)))
        return self.fx.get_attr(name)


def _array(tensor: Any) -> np.ndarray[Any, Any]:
    """The numbers of an initializer, which must all be in the file."""
    name, dims = tensor.name[:60], list(tensor.dims)
    if tensor.data_location == 1:
        raise CheckpointError(f"tensor {name!r} lies in another file; export the model with its weights inside")
    if any(not 0 <= n < 1 << 40 for n in dims) or len(dims) > 8:
        raise CheckpointError(f"tensor {name!r} has the shape {str(dims)[:60]}")
    kinds = _FLOATS | _INTEGERS
    if tensor.data_type not in kinds and tensor.data_type != _BFLOAT16:
        raise CheckpointError(
            f"tensor {name!r} has the ONNX type {tensor.data_type}; float, float16 and bfloat16 are read"
        )
    given: np.ndarray[Any, Any]
    if tensor.data_type == _BFLOAT16:
        given = torch.frombuffer(bytearray(tensor.raw_data), dtype=torch.bfloat16).float().numpy()
    elif tensor.HasField("raw_data"):
        given = np.frombuffer(tensor.raw_data, dtype=kinds[tensor.data_type])
    else:
        fields = {1: tensor.float_data, 11: tensor.double_data, 6: tensor.int32_data, 7: tensor.int64_data}
        if tensor.data_type not in fields:
            raise CheckpointError(f"tensor {name!r} has its numbers in an unusual place; export the model again")
        given = np.asarray(fields[tensor.data_type], dtype=kinds[tensor.data_type])
    if given.size != math.prod(dims):
        raise CheckpointError(f"tensor {name!r} of {dims} has {given.size} numbers")
    if given.dtype.kind == "f" and not np.isfinite(given).all():
        raise CheckpointError(f"tensor {name!r} has NaN or infinite values; it cannot give an image")
    return given.reshape(dims)


def _attribute(attribute: Any) -> Any:
    kinds = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints"}
    if attribute.type == 4:
        return _array(attribute.t)
    if attribute.type not in kinds:
        raise CheckpointError(
            f"attribute {attribute.name[:60]!r} holds something other than numbers; subgraphs are not read"
        )
    value = getattr(attribute, kinds[attribute.type])
    return list(value) if attribute.type in (6, 7) else value


Attributes = dict[str, Any]
Convert = Callable[[_Reader, list[Any], Attributes], fx.Node]


def _weights(value: Any, what: str) -> Tensor:
    if not isinstance(value, np.ndarray):
        raise CheckpointError(f"{what} is computed, not stored")
    return torch.from_numpy(value.astype(np.float32))


def _geometry(a: Attributes, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, padding and dilation of a convolution or a pool, the padding equal on both sides."""
    strides, dilations = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    pads = a.get("pads", [0, 0, 0, 0])
    if a.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER") and strides == [1, 1]:
        pads = [k // 2 for k in kernel] * 2
    if len(kernel) != 2 or pads[:2] != pads[2:] or a.get("ceil_mode", 0):
        raise CheckpointError(f"a layer of kernel {list(kernel)} has the padding {pads}; both sides must be alike")
    return list(strides), pads[:2], list(dilations)


def _loaded(module: nn.Module, **weights: Tensor | None) -> nn.Module:
    for name, value in weights.items():
        if value is not None:
            own = getattr(module, name)
            if own.shape != value.shape:
                raise CheckpointError(f"{name} of {list(value.shape)}, expected {list(own.shape)}")
            own.data = value.clone()
    return module


def _conv(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    x, weight, bias = inputs[0], _weights(inputs[1], "a convolution's weight"), inputs[2] if len(inputs) > 2 else None
    out, per_group, *kernel = weight.shape
    strides, padding, dilations = _geometry(a, kernel)
    groups = int(a.get("group", 1))
    if not 0 < groups <= out:
        raise CheckpointError(f"a convolution of {out} channels has {groups} groups")
    if per_group * groups > MAX_CHANNELS or out > MAX_CHANNELS:
        raise CheckpointError(
            f"a convolution has {per_group * groups} channels in and {out} out (at most {MAX_CHANNELS})"
        )
    shape: Any = {
        "kernel_size": tuple(kernel),
        "stride": tuple(strides),
        "padding": tuple(padding),
        "dilation": tuple(dilations),
    }
    with torch.device("meta"):
        module = nn.Conv2d(per_group * groups, out, **shape, groups=groups)
    zero = torch.zeros(out)
    return r.layer(_filled(module, weight, zero if bias is None else _weights(bias, "a bias")), x)


def _filled(module: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """A module made without memory, with its weight and bias."""
    for name, value in (("weight", weight), ("bias", bias)):
        if getattr(module, name).shape != value.shape:
            raise CheckpointError(f"{name} of {list(value.shape)}, expected {list(getattr(module, name).shape)}")
        setattr(module, name, nn.Parameter(value.clone(), requires_grad=False))
    return module


def _transposed(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    weight = _weights(inputs[1], "a convolution's weight")
    channels, out, *kernel = weight.shape
    strides, padding, dilations = _geometry(a, kernel)
    extra = a.get("output_padding", [0, 0])
    if a.get("group", 1) != 1 or "output_shape" in a:
        raise CheckpointError("a transposed convolution has groups or a fixed size")
    shape: Any = {
        "kernel_size": tuple(kernel),
        "stride": tuple(strides),
        "padding": tuple(padding),
        "dilation": tuple(dilations),
    }
    with torch.device("meta"):
        module = nn.ConvTranspose2d(channels, out, **shape, output_padding=tuple(extra))
    bias = _weights(inputs[2], "a bias") if len(inputs) > 2 and inputs[2] is not None else torch.zeros(out)
    return r.layer(_filled(module, weight, bias), inputs[0])


def _batch(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    scale, shift, mean, variance = (_weights(value, "a normalisation's value") for value in inputs[1:5])
    module = nn.BatchNorm2d(scale.numel(), eps=float(a.get("epsilon", 1e-5)))
    return r.layer(_loaded(module, weight=scale, bias=shift, running_mean=mean, running_var=variance).eval(), inputs[0])


def _instance(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    scale, shift = _weights(inputs[1], "a scale"), _weights(inputs[2], "a shift")
    module = nn.InstanceNorm2d(scale.numel(), eps=float(a.get("epsilon", 1e-5)), affine=True)
    return r.layer(_loaded(module, weight=scale, bias=shift), inputs[0])


def _prelu(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    slope = _weights(inputs[1], "a slope")
    if slope.numel() > 1 and (slope.ndim not in (3, 4) or slope.shape[-3] != slope.numel()):
        raise CheckpointError(f"a PReLU has slopes of {list(slope.shape)}; one, or one a channel")
    return r.layer(_loaded(nn.PReLU(slope.numel()), weight=slope.reshape(-1)), inputs[0])


def _simple(make: Callable[[Attributes], nn.Module]) -> Convert:
    return lambda r, inputs, a: r.layer(make(a), inputs[0])


def _binary(function: Callable[[Any, Any], Any]) -> Convert:
    def convert(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
        operands = [r.constant(value) if isinstance(value, np.ndarray) else value for value in inputs]
        return r.fx.call_function(function, tuple(operands))

    return convert


def _clip(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    bounds = [float(v.reshape(-1)[0]) if isinstance(v, np.ndarray) else None for v in (*inputs[1:3], None, None)]
    low, high = a.get("min", bounds[0]), a.get("max", bounds[1])
    return r.fx.call_function(torch.clamp, (inputs[0], low, high))


def _depth_to_space(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    if a.get("mode", b"DCR") != b"CRD" or not 1 <= a["blocksize"] <= MAX_FACTOR:
        raise CheckpointError(f"a DepthToSpace is not PyTorch's pixel shuffle (mode CRD, factor 1 to {MAX_FACTOR})")
    return r.fx.call_function(F.pixel_shuffle, (inputs[0], int(a["blocksize"])))


def _resize(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    scales = next((v for v in inputs[1:] if isinstance(v, np.ndarray) and v.dtype.kind == "f" and v.size == 4), None)
    scales = np.asarray(a["scales"]) if "scales" in a else scales
    if scales is None or scales[0] != 1 or scales[1] != 1 or scales[2] != scales[3]:
        raise CheckpointError("a Resize has no fixed scales, or different ones for height and width")
    mode = a.get("mode", b"nearest").decode()
    place = a.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = a.get("nearest_mode", b"round_prefer_floor").decode()
    fits = {
        # Each of these repeats every pixel.
        "nearest": (place, rounding) in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")),
        "linear": place in ("half_pixel", "pytorch_half_pixel"),
        "cubic": place in ("half_pixel", "pytorch_half_pixel") and abs(a.get("cubic_coeff_a", -0.75) + 0.75) < 1e-6,
    }
    if not fits.get(mode, False) or scales[2] not in range(1, MAX_FACTOR + 1):
        raise CheckpointError(
            f"a Resize ({mode}, {place}, {scales[2]:g}) is not one of PyTorch's by a whole factor up to {MAX_FACTOR}"
        )
    name = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[mode]
    return r.fx.call_function(F.interpolate, (inputs[0],), {"scale_factor": int(scales[2]), "mode": name})


def _concat(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    if not all(isinstance(value, fx.Node) for value in inputs):
        raise CheckpointError("a Concat has stored parts")
    return r.fx.call_function(torch.cat, (list(inputs), int(a["axis"])))


def _axes(inputs: list[Any], a: Attributes) -> list[int]:
    axes = a.get("axes", inputs[1].tolist() if len(inputs) > 1 and isinstance(inputs[1], np.ndarray) else [])
    if not a.get("keepdims", 1):
        raise CheckpointError("a mean or maximum drops its dimensions")
    return [int(axis) for axis in axes]


def _mean(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    return r.fx.call_function(torch.mean, (inputs[0],), {"dim": tuple(_axes(inputs, a)), "keepdim": True})


def _maximum(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    return r.fx.call_function(torch.amax, (inputs[0],), {"dim": tuple(_axes(inputs, a)), "keepdim": True})


def _pool(make: Callable[..., nn.Module]) -> Convert:
    def convert(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
        strides, padding, _ = _geometry(a, a["kernel_shape"])
        return r.layer(make(tuple(a["kernel_shape"]), tuple(strides), tuple(padding)), inputs[0])

    return convert


def _same(r: _Reader, inputs: list[Any], a: Attributes) -> fx.Node:
    node: fx.Node = inputs[0]
    return node


_OPERATIONS: dict[str, Convert] = {
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "BatchNormalization": _batch,
    "InstanceNormalization": _instance,
    "PRelu": _prelu,
    "Relu": _simple(lambda a: nn.ReLU()),
    "LeakyRelu": _simple(lambda a: nn.LeakyReLU(float(a.get("alpha", 0.01)))),
    "Tanh": _simple(lambda a: nn.Tanh()),
    "Sigmoid": _simple(lambda a: nn.Sigmoid()),
    "Gelu": _simple(lambda a: nn.GELU(a.get("approximate", b"none").decode())),
    "GlobalAveragePool": _simple(lambda a: nn.AdaptiveAvgPool2d(1)),
    "MaxPool": _pool(nn.MaxPool2d),
    "AveragePool": _pool(nn.AvgPool2d),
    "Add": _binary(operator.add),
    "Sub": _binary(operator.sub),
    "Mul": _binary(operator.mul),
    "Div": _binary(operator.truediv),
    "Clip": _clip,
    "DepthToSpace": _depth_to_space,
    "Resize": _resize,
    # The operation before Resize.
    "Upsample": lambda r, i, a: _resize(
        r, i, {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor", **a}
    ),
    "Concat": _concat,
    "ReduceMean": _mean,
    "ReduceMax": _maximum,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _same,
}
