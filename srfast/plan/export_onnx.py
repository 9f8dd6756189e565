"""A plan as an ONNX file: the folded and fused network, for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srfast._files import whole_file
from srfast.errors import MissingDependencyError, UnsupportedModelError
from srfast.plan import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Clamp,
    Concat,
    Conv,
    Depthwise,
    Eager,
    GroupNorm,
    InstanceNorm,
    Multiply,
    Node,
    PixelNorm,
    Plan,
    Pool,
    Resize,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
)

OPSET = 18


def export_onnx(plan: Plan, path: Path, dtype: torch.dtype = torch.float32, overwrite: bool = False) -> None:
    """Writes the plan; the file appears under its name only when it is whole.

    The input is called ``input``, [N, C, H, W] in 0..1, RGB, with N, H and W free (H and W multiples of the plan's alignment, and
    above its border, which the file mirrors itself); the output ``output``.

    Args:
        plan: optimised, in float32.
        path: the .onnx file.
        dtype: float32 or float16, of input, output and weights.
        overwrite: replace a file that exists.

    Raises:
        ValueError: another dtype.
        OutputError: the file exists or cannot be written.
        MissingDependencyError: the package onnx is not installed.
    """
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"ONNX files are written in float32 or float16, not {str(dtype).removeprefix('torch.')}")
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError(f"writing ONNX needs the package onnx: pip install onnx ({error})") from error
    model = _Writer(onnx, dtype).model(plan)
    onnx.checker.check_model(model)
    with whole_file(path, overwrite) as partial:
        partial.write_bytes(model.SerializeToString())


class _Writer:
    """Collects ONNX nodes and initializers."""

    def __init__(self, onnx: Any, dtype: torch.dtype) -> None:
        self.onnx = onnx
        self.numpy = np.float16 if dtype == torch.float16 else np.float32
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.channels: dict[str, int] = {}
        self.count = 0

    def model(self, plan: Plan) -> Any:
        helper, proto = self.onnx.helper, self.onnx.TensorProto
        names = {plan.input: "input"}
        if plan.border:
            pads = self.constant([0, 0, plan.border, plan.border] * 2, np.int64)
            names[plan.input] = self.op("Pad", ["input", pads], mode="reflect")
        self.channels = {name: shape.channels for name, shape in plan.shapes().items()}
        for node in plan.nodes:
            out = "output" if node.output == plan.output and not plan.border else node.output
            x = names[node.input]
            WRITERS[type(node)](self, node, x, out, names)
            names[node.output] = out
        if plan.border:
            _cropped(self, names[plan.output], plan.scale * plan.border, plan.scale * plan.border, "output")
        elif plan.output == plan.input:
            self.op("Identity", ["input"], "output")
        kind = proto.FLOAT16 if self.numpy is np.float16 else proto.FLOAT
        shape = ["batch", plan.in_channels, "height", "width"]
        out_shape = ["batch", plan.out_channels, "out_height", "out_width"]
        graph = helper.make_graph(
            self.nodes,
            "srfast",
            [helper.make_tensor_value_info("input", kind, shape)],
            [helper.make_tensor_value_info("output", kind, out_shape)],
            self.initializers,
        )
        # The oldest format that has this operation set, for older readers.
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="srfast"
        )

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def op(self, kind: str, inputs: list[str], out: str | None = None, **attributes: Any) -> str:
        out = out or self.name()
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [out], **attributes))
        return out

    def constant(self, value: Tensor | list[Any], dtype: Any = None) -> str:
        array = value.detach().cpu().double().numpy() if isinstance(value, Tensor) else np.asarray(value)
        name = self.name()
        self.initializers.append(
            self.onnx.numpy_helper.from_array(np.array(array, dtype or self.numpy, order="C"), name)
        )
        return name

    def chain(self, x: str, out: str, steps: list[Callable[[str, str | None], str]]) -> None:
        """Steps one after another; the last writes ``out``."""
        for index, step in enumerate(steps):
            x = step(x, out if index == len(steps) - 1 else None)


Names = dict[str, str]


def _conv(w: _Writer, node: Conv, x: str, out: str, names: Names) -> None:
    if node.more:
        x = w.op("Concat", [names[name] for name in node.sources], axis=1)
    half = node.kernel // 2
    inputs = [x, w.constant(node.weight), w.constant(node.bias)]
    steps: list[Callable[[str, str | None], str]] = [
        lambda x, o: w.op("Conv", inputs, o, kernel_shape=[node.kernel] * 2, pads=[half] * 4)
    ]
    if node.act != "none":
        steps.append(lambda x, o: _activation(w, node.act, node.slope, x, o))
    if node.shuffle > 1:
        steps.append(lambda x, o: w.op("DepthToSpace", [x], o, blocksize=node.shuffle, mode="CRD"))
    if node.gain != 1:
        steps.append(lambda x, o: w.op("Mul", [x, w.constant([node.gain])], o))
    if node.residual is not None:
        other = names[node.residual]
        steps.append(lambda x, o: w.op("Add", [x, other], o))
    if node.clamp is not None:
        low, high = node.clamp
        steps.append(lambda x, o: _clip(w, x, o, low, high))
    w.chain(x, out, steps)


def _depthwise(w: _Writer, node: Depthwise, x: str, out: str, names: Names) -> None:
    inputs, kernel = [x, w.constant(node.weight), w.constant(node.bias)], node.kernel
    shape: dict[str, Any] = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "group": len(node.bias)}
    if node.act == "none":
        w.op("Conv", inputs, out, **shape)
    else:
        _activation(w, node.act, node.slope, w.op("Conv", inputs, **shape), out)


def _clip(w: _Writer, x: str, out: str | None, low: float, high: float) -> str:
    bounds = [w.constant(torch.tensor(v)) if np.isfinite(v) else "" for v in (low, high)]
    return w.op("Clip", [x, *bounds], out)


def _activation(w: _Writer, act: str, slope: Tensor | None, x: str, out: str | None) -> str:
    if act == "prelu" and slope is not None:
        if slope.numel() == 1:
            value = float(slope)
            return w.op("Relu", [x], out) if value == 0 else w.op("LeakyRelu", [x], out, alpha=value)
        # Runtimes align a PRelu's slopes from the right, so a vector would be taken for one along the width.
        return w.op("PRelu", [x, w.constant(slope.reshape(-1, 1, 1))], out)
    if act == "silu":
        return w.op("Mul", [x, w.op("Sigmoid", [x])], out)
    if act == "mish":
        return w.op("Mul", [x, w.op("Tanh", [w.op("Softplus", [x])])], out)
    if act == "gelu":
        # Gelu is an operation of its own only from opset 20 on.
        erf = w.op("Erf", [w.op("Mul", [x, w.constant([0.5**0.5])])])
        return w.op("Mul", [w.op("Mul", [x, w.constant([0.5])]), w.op("Add", [erf, w.constant([1.0])])], out)
    return w.op({"tanh": "Tanh", "sigmoid": "Sigmoid"}[act], [x], out)


def _affine(w: _Writer, node: Affine, x: str, out: str, names: Names) -> None:
    scale, shift = (w.constant(v.reshape(1, -1, 1, 1)) for v in (node.scale, node.shift))
    w.op("Add", [w.op("Mul", [x, scale]), shift], out)


def _unshuffle(w: _Writer, node: Unshuffle, x: str, out: str, names: Names) -> None:
    """A convolution of stride r with one tap for each phase: SpaceToDepth of ONNX orders channels in another way."""
    r = node.factor
    channels = w.channels[node.input]
    weight = torch.zeros(channels * r * r, channels, r, r)
    index = torch.arange(channels * r * r)
    # Output channel c r^2 + y r + x takes pixel (y, x) of each square of channel c, as PyTorch's pixel_unshuffle orders
    # them.
    weight[index, index // (r * r), index // r % r, index % r] = 1
    w.op("Conv", [x, w.constant(weight)], out, kernel_shape=[r, r], strides=[r, r])


def _resize(w: _Writer, node: Resize, x: str, out: str, names: Names) -> None:
    scales = w.constant([1.0, 1.0, float(node.factor), float(node.factor)], np.float32)
    if node.mode == "nearest":
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    else:
        how = {
            "mode": {"bilinear": "linear", "bicubic": "cubic"}[node.mode],
            "coordinate_transformation_mode": "half_pixel",
        }
    w.op("Resize", [x, "", scales], out, **how)


def _pool(w: _Writer, node: Pool, x: str, out: str, names: Names) -> None:
    kind = "AveragePool" if node.kind == "average" else "MaxPool"
    w.op(kind, [x], out, kernel_shape=[node.factor] * 2, strides=[node.factor] * 2)


def _instance(w: _Writer, node: InstanceNorm, x: str, out: str, names: Names) -> None:
    channels = w.channels[node.input]
    values = [w.constant(v.expand(channels)) for v in (node.scale, node.shift)]
    w.op("InstanceNormalization", [x, *values], out, epsilon=node.eps)


def _slice(w: _Writer, node: Slice, x: str, out: str, names: Names) -> None:
    ends = [node.first], [node.first + node.count], [1]
    w.op("Slice", [x, *(w.constant(list(v), np.int64) for v in ends)], out)


def _group_norm(w: _Writer, node: GroupNorm, x: str, out: str, names: Names) -> None:
    """Each group as one channel, whose pixels are in a row."""
    rows = w.op("Reshape", [x, w.constant([0, node.groups, -1], np.int64)])
    ones, zeros = (w.constant(torch.full((node.groups,), v)) for v in (1.0, 0.0))
    normal = w.op("InstanceNormalization", [rows, ones, zeros], epsilon=node.eps)
    y = w.op("Reshape", [normal, w.op("Shape", [x])])
    scale, shift = (w.constant(v.reshape(1, -1, 1, 1)) for v in (node.scale, node.shift))
    w.op("Add", [w.op("Mul", [y, scale]), shift], out)


def _pixel_norm(w: _Writer, node: PixelNorm, x: str, out: str, names: Names) -> None:
    axes, eps = w.constant([1], np.int64), w.constant([node.eps])
    centred = w.op("Sub", [x, w.op("ReduceMean", [x, axes])]) if node.centred else x
    variance = w.op("ReduceMean", [w.op("Mul", [centred, centred]), axes])
    if node.centred:
        deviation = w.op("Sqrt", [w.op("Add", [variance, eps])])
    else:
        deviation = w.op("Add", [w.op("Sqrt", [variance]), eps])
    scale, shift = (w.constant(v.reshape(1, -1, 1, 1)) for v in (node.scale, node.shift))
    w.op("Add", [w.op("Mul", [w.op("Div", [centred, deviation]), scale]), shift], out)


def _cropped(w: _Writer, x: str, before: int, after: int, out: str | None = None) -> str:
    """Less rows and columns at the top and left, and at the others."""
    if before == after == 0 and out is None:
        return x
    # ONNX has no open end: the largest number stands for it.
    ends = [-after if after else np.iinfo(np.int64).max] * 2
    return w.op("Slice", [x, *(w.constant(v, np.int64) for v in ([before] * 2, ends, [2, 3]))], out)


def _channel_gate(w: _Writer, node: ChannelGate, x: str, out: str, names: Names) -> None:
    inner = _cropped(w, x, *node.inset)
    moment = w.op("GlobalAveragePool", [inner])
    if node.moment == "contrast":
        away = w.op("Sub", [inner, moment])
        variance = w.op("GlobalAveragePool", [w.op("Mul", [away, away])])
        moment = w.op("Add", [w.op("Sqrt", [variance]), moment])
    hidden = w.op("Conv", [moment, w.constant(node.squeeze[:, :, None, None]), w.constant(node.squeeze_bias)])
    hidden = _activation(w, "prelu", node.slope, hidden, None)
    gains = w.op("Conv", [hidden, w.constant(node.expand[:, :, None, None]), w.constant(node.expand_bias)])
    if node.curve == "sigmoid":
        gains = w.op("Sigmoid", [gains])
    else:
        gains = w.op("HardSigmoid", [gains], alpha=1 / 6, beta=0.5)
    w.op("Mul", [x, gains], out)


def _spatial_gate(w: _Writer, node: SpatialGate, x: str, out: str, names: Names) -> None:
    axes = w.constant([1], np.int64)
    moments = w.op("Concat", [w.op("ReduceMean", [x, axes]), w.op("ReduceMax", [x, axes])], axis=1)
    kernel = node.weight.shape[-1]
    gains = w.op(
        "Conv",
        [moments, w.constant(node.weight), w.constant(node.bias)],
        kernel_shape=[kernel] * 2,
        pads=[kernel // 2] * 4,
    )
    w.op("Mul", [x, w.op("Sigmoid", [gains])], out)


def _eager(w: _Writer, node: Eager, x: str, out: str, names: dict[str, str]) -> None:
    raise UnsupportedModelError(f"PyTorch runs a part of this network ({node.what}), which has no form in ONNX")


WRITERS: dict[type[Node], Callable[..., object]] = {
    Conv: _conv,
    Depthwise: _depthwise,
    Affine: _affine,
    Activate: lambda w, n, x, out, names: _activation(w, n.act, n.slope, x, out),
    Shuffle: lambda w, n, x, out, names: w.op("DepthToSpace", [x], out, blocksize=n.factor, mode="CRD"),
    Unshuffle: _unshuffle,
    Pool: _pool,
    Add: lambda w, n, x, out, names: w.op("Add", [x, names[n.other]], out),
    Multiply: lambda w, n, x, out, names: w.op("Mul", [x, names[n.other]], out),
    Concat: lambda w, n, x, out, names: w.op("Concat", [names[name] for name in n.inputs], out, axis=1),
    Clamp: lambda w, n, x, out, names: _clip(w, x, out, n.low, n.high),
    Resize: _resize,
    InstanceNorm: _instance,
    GroupNorm: _group_norm,
    PixelNorm: _pixel_norm,
    Slice: _slice,
    ChannelGate: _channel_gate,
    SpatialGate: _spatial_gate,
    Eager: _eager,
}
