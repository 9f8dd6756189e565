"""A plan as an ncnn network: the .param and .bin that realesrgan-ncnn-vulkan, Upscayl and Video2X load.

Numbers of parameters are those of ncnn's docs/developer-guide/operation-param-weight-table.md.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from srfast._files import whole_file
from srfast.errors import UnsupportedModelError
from srfast.plan import Activate, Add, Affine, Clamp, Concat, Conv, Depthwise, Multiply, Node, Plan, Resize, Shuffle

MAGIC = 7767517
INPUT, OUTPUT = "data", "output"  # the blobs that those programs ask for
# What stands before a convolution's weights and tells their type.
_FLOAT_TAG, _HALF_TAG = 0, 0x01306B47
_LIMIT = 3.402823466e38  # in place of infinity


def export_ncnn(plan: Plan, path: Path, dtype: torch.dtype = torch.float32, overwrite: bool = False) -> None:
    """Write the plan as two files, which appear under their names only when they are whole.

    The network takes an RGB image in 0..1 of any size as the blob ``data`` and gives the enlarged one as ``output``.

    Args:
        plan: optimised, in float32.
        path: the .param file; the .bin file is put beside it.
        dtype: float32 or float16, of the convolutions' weights.
        overwrite: replace files that exist.

    Raises:
        UnsupportedModelError: an operation that ncnn has no layer for, or a network that cannot run in the tiles of any size
            that those programs cut images into.
        ValueError: another dtype.
        OutputError: a file exists or cannot be written.
    """
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"ncnn files are written in float32 or float16, not {str(dtype).removeprefix('torch.')}")
    text, numbers = network(plan, dtype)
    with whole_file(path.with_suffix(".bin"), overwrite) as data, whole_file(path, overwrite) as lines:
        data.write_bytes(numbers)
        lines.write_text(text)


def network(plan: Plan, dtype: torch.dtype = torch.float32) -> tuple[str, bytes]:
    """The content of the two files.

    Raises:
        UnsupportedModelError: see ``export_ncnn``.
    """
    _check(plan)
    writer = _Writer(plan, dtype)
    for node in plan.nodes:
        convert = WRITERS.get(type(node))
        if convert is None:
            raise UnsupportedModelError(
                f"no layer of ncnn is written for {type(node).__name__.lower()} (at {node.output}); 'srfast export' to a .onnx "
                "file covers more"
            )
        writer.names[node.output] = convert(writer, node)
    return writer.text(writer.names[plan.output]), b"".join(writer.numbers)


def _check(plan: Plan) -> None:
    """Those programs run a network in tiles with ten pixels around them, whose sizes are any."""
    wrong = ""
    if plan.border:
        wrong = f"takes a mirrored border of {plan.border} pixels, which they do not give it"
    elif plan.alignment > 1:
        wrong = f"takes sides that are multiples of {plan.alignment}, which their tiles are not"
    elif any(node.sees_whole_image for node in plan.nodes):
        wrong = "looks at the whole image at once, and they run it in tiles"
    elif not plan.nodes:
        wrong = "gives its image back as it is"
    if wrong:
        raise UnsupportedModelError(
            f"the network cannot be an ncnn file for realesrgan-ncnn-vulkan, Upscayl and Video2X: it {wrong};",
            "'srfast export' to a .onnx file writes it",
        )


@dataclass
class _Layer:
    kind: str
    inputs: list[str]
    output: str
    params: list[str]


class _Writer:
    """Collects layers and their numbers."""

    def __init__(self, plan: Plan, dtype: torch.dtype) -> None:
        self.half = dtype == torch.float16
        self.layers: list[_Layer] = []
        self.numbers: list[bytes] = []
        self.names = {plan.input: INPUT}
        self.channels = {name: shape.channels for name, shape in plan.shapes().items()}

    def layer(self, kind: str, inputs: Sequence[str], *params: str) -> str:
        output = f"b{len(self.layers) + 1}"
        self.layers.append(_Layer(kind, list(inputs), output, list(params)))
        return output

    def plain(self, values: Tensor) -> None:
        """Numbers without a type before them, which are float32."""
        self.numbers.append(values.detach().float().cpu().contiguous().numpy().astype("<f4").tobytes())

    def tagged(self, values: Tensor) -> None:
        """Weights of a convolution, filled up to four bytes."""
        array = values.detach().float().cpu().contiguous().numpy()
        if self.half:
            with np.errstate(over="ignore"):
                halves = array.astype("<f2")
            if not np.isfinite(halves).all():
                raise UnsupportedModelError("a weight is too large for float16; export in float32")
            data = struct.pack("<I", _HALF_TAG) + halves.tobytes()
        else:
            data = struct.pack("<I", _FLOAT_TAG) + array.astype("<f4").tobytes()
        self.numbers.append(data + b"\0" * (-len(data) % 4))

    def text(self, result: str) -> str:
        """The .param file. A blob has one reader, so those with more go through a Split."""
        counts = Counter(name for layer in self.layers for name in layer.inputs)
        # Who loads the file reads it, too.
        counts[result] += 1
        lines, blobs = [f"Input in 0 1 {INPUT}"], 1
        parts: dict[str, list[str]] = {}

        def split(name: str) -> None:
            nonlocal blobs
            if counts[name] > 1:
                parts[name] = [f"{name}_{i}" for i in range(counts[name])]
                lines.append(f"Split split_{name} 1 {counts[name]} {name} {' '.join(parts[name])}")
                blobs += counts[name]

        def read(name: str) -> str:
            return parts[name].pop() if name in parts else name

        split(INPUT)
        for index, layer in enumerate(self.layers):
            inputs = [read(name) for name in layer.inputs]
            last = layer.output == result and counts[result] == 1
            output = OUTPUT if last else layer.output
            words = [layer.kind, f"{layer.kind.lower()}_{index}", str(len(inputs)), "1", *inputs, output, *layer.params]
            lines.append(" ".join(words))
            blobs += 1
            split(layer.output)
        if counts[result] > 1:
            lines.append(f"Noop result 1 1 {read(result)} {OUTPUT}")
            blobs += 1
        return "\n".join([str(MAGIC), f"{len(lines)} {blobs}", *lines, ""])


def _number(value: float) -> str:
    return f"{max(-_LIMIT, min(_LIMIT, float(value))):.9g}"


def _sums(w: _Writer, node: Conv | Depthwise, x: str) -> str:
    """The convolution with its bias and activation."""
    out, kernel = node.weight.shape[0], node.kernel
    # 0 outputs, 1 kernel, 4 padding, 5 whether there is a bias, 6 number of weights, 7 groups, 9 and 10 the activation.
    params = [f"0={out}", f"1={kernel}", f"4={kernel // 2}", "5=1", f"6={node.weight.numel()}"]
    kind = "Convolution"
    if isinstance(node, Depthwise):
        kind = "ConvolutionDepthWise"
        params.append(f"7={out}")
    single = node.act == "prelu" and node.slope is not None and node.slope.numel() == 1
    if single and node.slope is not None:
        # ncnn writes parameter 10 as -23310 where it is a list, of one number here.
        slope = float(node.slope)
        params += ["9=1"] if slope == 0 else ["9=2", f"-23310=1,{_number(slope)}"]
    y = w.layer(kind, [x], *params)
    w.tagged(node.weight)
    w.plain(node.bias)
    return y if node.act == "none" or single else _activation(w, node.act, node.slope, y)


def _depthwise(w: _Writer, node: Depthwise) -> str:
    return _sums(w, node, w.names[node.input])


def _conv(w: _Writer, node: Conv) -> str:
    sources = [w.names[name] for name in node.sources]
    x = w.layer("Concat", sources, "0=0") if len(sources) > 1 else sources[0]
    y = _sums(w, node, x)
    if node.shuffle > 1:
        y = w.layer("PixelShuffle", [y], f"0={node.shuffle}")
    if node.gain != 1:
        y = w.layer("BinaryOp", [y], "0=2", "1=1", f"2={_number(node.gain)}")
    if node.residual is not None:
        y = w.layer("BinaryOp", [y, w.names[node.residual]], "0=0")
    return _clip(w, y, *node.clamp) if node.clamp is not None else y


def _activation(w: _Writer, act: str, slope: Tensor | None, x: str) -> str:
    if act == "prelu" and slope is not None:
        if slope.numel() == 1:
            return w.layer("ReLU", [x], f"0={_number(float(slope))}")
        w.plain(slope)
        return w.layer("PReLU", [x], f"0={slope.numel()}")
    return w.layer({"tanh": "TanH", "sigmoid": "Sigmoid", "silu": "Swish", "mish": "Mish", "gelu": "GELU"}[act], [x])


def _clip(w: _Writer, x: str, low: float, high: float) -> str:
    return w.layer("Clip", [x], f"0={_number(low)}", f"1={_number(high)}")


def _affine(w: _Writer, node: Affine) -> str:
    count = w.channels[node.input]
    w.plain(node.scale.reshape(-1).expand(count))
    w.plain(node.shift.reshape(-1).expand(count))
    return w.layer("Scale", [w.names[node.input]], f"0={count}", "1=1")


def _two(kind: int) -> Callable[[_Writer, Any], str]:
    def convert(w: _Writer, node: Add | Multiply) -> str:
        if w.channels[node.input] != w.channels[node.other]:
            raise UnsupportedModelError(
                f"no layer of ncnn is written for images of different channels (at {node.output})"
            )
        return w.layer("BinaryOp", [w.names[node.input], w.names[node.other]], f"0={kind}")

    return convert


def _resize(w: _Writer, node: Resize) -> str:
    mode = {"nearest": 1, "bilinear": 2, "bicubic": 3}[node.mode]
    factor = _number(float(node.factor))
    return w.layer("Interp", [w.names[node.input]], f"0={mode}", f"1={factor}", f"2={factor}")


WRITERS: dict[type[Node], Callable[[_Writer, Any], str]] = {
    Conv: _conv,
    Depthwise: _depthwise,
    Affine: _affine,
    Activate: lambda w, node: _activation(w, node.act, node.slope, w.names[node.input]),
    Shuffle: lambda w, node: w.layer("PixelShuffle", [w.names[node.input]], f"0={node.factor}"),
    Add: _two(0),
    Multiply: _two(2),
    Concat: lambda w, node: w.layer("Concat", [w.names[name] for name in node.inputs], "0=0"),
    Clamp: lambda w, node: _clip(w, w.names[node.input], node.low, node.high),
    Resize: _resize,
}
