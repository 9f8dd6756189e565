"""ncnn's layers as layers of PyTorch, each with the channels and the size of what it gives.

Numbers of parameters are those of ncnn's docs/developer-guide/operation-param-weight-table.md.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from srfast.checkpoint.formats.graph import MAX_CHANNELS, MAX_FACTOR
from srfast.checkpoint.formats.ncnn.text import Layer
from srfast.checkpoint.formats.ncnn.weights import Weights
from srfast.errors import CheckpointError

MAX_KERNEL = 63
FxGraph: TypeAlias = fx.Graph
FxNode: TypeAlias = fx.Node

_SAME = (-233, -234)  # paddings with which the size stays


@dataclass(frozen=True)
class Blob:
    """What a layer gives.

    Attributes:
        value: a call in the graph, or stored numbers.
        channels: None for the input until a layer tells.
        scale, offset: each side has ``scale * n + offset`` pixels for an input of n; both are 0 for means over the image.
    """

    value: Any
    channels: int | None
    scale: Fraction = Fraction(1)
    offset: int = 0

    @property
    def pooled(self) -> bool:
        """Say whether it is a mean over the image rather than an image."""
        return self.scale == 0


class Graph(Protocol):
    """What the layers write to."""

    fx: FxGraph
    weights: Weights

    def layer(self, module: nn.Module, x: FxNode) -> FxNode:
        """A call of a new submodule."""
        ...

    def constant(self, value: np.ndarray[Any, Any]) -> FxNode | float:
        """A number, or a buffer."""
        ...


Convert: TypeAlias = Callable[[Graph, Layer, list[Blob]], Blob]


def _conv(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x, (out, kernel, stride, padding) = inputs[0], _geometry(at)
    groups = at.whole(7, 1) if at.kind == "ConvolutionDepthWise" else 1
    if at.whole(2, 1) != 1 or at.whole(12, 1) != 1 or at.number(18) or at.whole(19):
        raise CheckpointError("a convolution has gaps, a border of another value or computed weights")
    taps = out * kernel * kernel
    per_group = _divided(at.whole(6), taps, "a convolution's weights")
    channels = _checked(per_group * groups, x, "a convolution")
    if groups < 1 or out % groups:
        raise CheckpointError(f"a convolution of {out} channels has {groups} groups")
    weight, bias = _weight(g, at, (out, per_group, kernel, kernel), out, bias=at.whole(5))
    if padding is None:
        if stride != 1 or kernel % 2 == 0:
            raise CheckpointError("the padding of a convolution depends on the size of the image")
        padding = kernel // 2
    with torch.device("meta"):
        module = nn.Conv2d(channels, out, kernel, stride, padding, groups=groups)
    size = (x.offset + 2 * padding - kernel) // stride + 1
    result = Blob(g.layer(_filled(module, weight, bias), x.value), out, x.scale / stride, size)
    return _activated(g, at, result)


def _deconv(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x, (out, kernel, stride, padding) = inputs[0], _geometry(at)
    extra = at.whole(18)
    plain = (
        at.whole(2, 1) == at.whole(12, 1) == 1
        and at.whole(19, extra) == extra
        and not at.whole(20)
        and not at.whole(21)
    )
    if not plain or at.whole(28) or padding is None or not 0 <= extra < stride:
        raise CheckpointError("a transposed convolution has gaps, a fixed size or computed weights")
    channels = _checked(_divided(at.whole(6), out * kernel * kernel, "a transposed convolution's weights"), x, at.kind)
    weight, bias = _weight(g, at, (out, channels, kernel, kernel), out, bias=at.whole(5))
    with torch.device("meta"):
        module = nn.ConvTranspose2d(channels, out, kernel, stride, padding, extra)
    size = (x.offset - 1) * stride + kernel - 2 * padding + extra
    _check_scale(x.scale * stride)
    # ncnn stores weights of a transposed convolution by output channel, PyTorch by input channel.
    result = Blob(g.layer(_filled(module, weight.transpose(0, 1), bias), x.value), out, x.scale * stride, size)
    return _activated(g, at, result)


def _geometry(at: Layer) -> tuple[int, int, int, int | None]:
    """Channels, kernel, stride and padding; None pads so that the size stays."""
    out, kernel, stride, padding = at.whole(0), at.whole(1), at.whole(3, 1), at.whole(4)
    alike = at.whole(11, kernel) == kernel and at.whole(13, stride) == stride
    pads = {at.whole(14, padding), at.whole(15, padding), at.whole(16, at.whole(14, padding))}
    if not alike or pads != {padding}:
        raise CheckpointError("a convolution is not square, or padded otherwise at different sides")
    if not (1 <= out <= MAX_CHANNELS and 1 <= kernel <= MAX_KERNEL and 1 <= stride <= MAX_FACTOR):
        raise CheckpointError(
            f"a convolution has {out} channels, kernel {kernel} and stride {stride} (at most {MAX_CHANNELS}, {MAX_KERNEL}, "
            f"{MAX_FACTOR})"
        )
    if padding in _SAME:
        return out, kernel, stride, None
    if not 0 <= padding <= MAX_KERNEL:
        raise CheckpointError(f"a convolution has the padding {padding}")
    return out, kernel, stride, padding


def _inner(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x, out = inputs[0], at.whole(0)
    if not x.pooled or not 1 <= out <= MAX_CHANNELS:
        raise CheckpointError("an InnerProduct reads a whole image, not means over one, or is too large")
    channels = _checked(_divided(at.whole(2), out, "an InnerProduct's weights"), x, at.kind)
    weight, bias = _weight(g, at, (out, channels, 1, 1), out, bias=at.whole(1))
    with torch.device("meta"):
        module = nn.Conv2d(channels, out, 1)
    return _activated(g, at, replace(x, value=g.layer(_filled(module, weight, bias), x.value), channels=out))


def _weight(g: Graph, at: Layer, shape: tuple[int, ...], out: int, bias: int) -> tuple[Tensor, Tensor]:
    """Of a layer with weights of a type that the file tells; int8 ones are divided by their scales."""
    if bias not in (0, 1):
        raise CheckpointError(f"it says {bias} to having a bias, expected 0 or 1")
    given = g.weights.tagged(at.name, "weight", int(np.prod(shape)))
    offsets = g.weights.plain(at.name, "bias", out) if bias else np.zeros(out, np.float32)
    term = at.whole(8)
    if term:
        count = at.whole(7, 1) if at.kind == "ConvolutionDepthWise" and term in (1, 101) else out
        count = 1 if at.kind == "ConvolutionDepthWise" and term in (2, 102) else count
        scales = g.weights.plain(at.name, "weight_scale", count)
        g.weights.plain(at.name, "input_scale", 1)  # for 8-bit activations, which srfast does not round
        if term > 100:
            g.weights.plain(at.name, "output_scale", 1)
        if given.dtype == np.int8:
            if not (scales != 0).all():
                raise CheckpointError("its 8-bit weights have a scale of 0")
            each = given.reshape(count, -1).astype(np.float32) / scales[:, None]
            given = each.reshape(-1)
    if given.dtype == np.int8:
        raise CheckpointError("its 8-bit weights have no scales")
    if not np.isfinite(given).all():
        raise CheckpointError("its 8-bit weights are infinite by their scales")
    return torch.from_numpy(np.array(given).reshape(shape)), torch.from_numpy(np.array(offsets))


def _filled(module: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """A module made without memory, with its weight and bias."""
    for name, value in (("weight", weight), ("bias", bias)):
        setattr(module, name, nn.Parameter(value.contiguous(), requires_grad=False))
    return module


def _checked(channels: int, x: Blob, what: str) -> int:
    if x.channels not in (None, channels) or not 1 <= channels <= MAX_CHANNELS:
        raise CheckpointError(
            f"{what} has weights for {channels} channels, but reads {x.channels} (at most {MAX_CHANNELS})"
        )
    return channels


def _divided(count: int, by: int, what: str) -> int:
    if by < 1 or count % by or count < 1:
        raise CheckpointError(f"{what} are {count}, no multiple of {by}")
    return count // by


def _check_scale(scale: Fraction) -> None:
    if not Fraction(1, 64) <= scale <= 64:
        raise CheckpointError(f"it enlarges by {float(scale):g}; at most 64")


def _activated(g: Graph, at: Layer, x: Blob) -> Blob:
    """With the activation that a layer has inside."""
    kind, values = at.whole(9), at.numbers(10)
    if kind == 0:
        return x
    low, high = (*values, 0.0, 0.0)[:2]
    modules: dict[int, Callable[[], nn.Module]] = {
        1: nn.ReLU,
        2: lambda: nn.LeakyReLU(low),
        3: lambda: nn.Hardtanh(low, high),
        4: nn.Sigmoid,
        5: nn.Mish,
    }
    if kind not in modules or (kind == 3 and not low < high):
        raise CheckpointError(f"it has the activation {kind} inside, which is not covered")
    return replace(x, value=g.layer(modules[kind](), x.value))


def _simple(make: Callable[[Layer], nn.Module]) -> Convert:
    return lambda g, at, inputs: replace(inputs[0], value=g.layer(make(at), inputs[0].value))


def _relu(at: Layer) -> nn.Module:
    return nn.LeakyReLU(at.number(0)) if at.number(0) else nn.ReLU()


def _clip(at: Layer) -> nn.Module:
    low, high = at.number(0, -3.4e38), at.number(1, 3.4e38)
    if not low < high:
        raise CheckpointError(f"a Clip has the bounds {low:g} and {high:g}")
    return nn.Hardtanh(low, high)


def _gelu(at: Layer) -> nn.Module:
    return nn.GELU("tanh" if at.whole(0) else "none")


def _vector(g: Graph, at: Layer, what: str, count: int, x: Blob) -> Tensor:
    if not 1 <= count <= MAX_CHANNELS or x.channels not in (None, count):
        raise CheckpointError(f"it has {count} values for {x.channels} channels")
    return torch.from_numpy(np.array(g.weights.plain(at.name, what, count)))


def _prelu(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x, count = inputs[0], at.whole(0)
    slopes = (
        torch.from_numpy(np.array(g.weights.plain(at.name, "slope", 1)))
        if count == 1
        else _vector(g, at, "slope", count, x)
    )
    module = nn.PReLU(count)
    module.weight.data = slopes
    return replace(x, value=g.layer(module, x.value))


def _batch_norm(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x, count = inputs[0], at.whole(0)
    scale, mean, variance, shift = (_vector(g, at, what, count, x) for what in ("slope", "mean", "variance", "bias"))
    module = nn.BatchNorm2d(count, eps=at.number(1, 0.0))
    module.weight.data, module.bias.data, module.running_mean, module.running_var = scale, shift, mean, variance
    return replace(x, value=g.layer(module.eval(), x.value))


def _scale(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    if len(inputs) == 2 and at.whole(0) == -233:
        return _combined(g, operator.mul, inputs)
    x, count = inputs[0], at.whole(0)
    gains = _vector(g, at, "scale", count, x).numpy().reshape(1, -1, 1, 1)
    value = g.fx.call_function(operator.mul, (x.value, g.constant(gains)))
    if at.whole(1):
        shifts = _vector(g, at, "bias", count, x).numpy().reshape(1, -1, 1, 1)
        value = g.fx.call_function(operator.add, (value, g.constant(shifts)))
    return replace(x, value=value)


def _memory(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    width, height, channels = (at.whole(key) for key in (0, 1, 2))
    if (
        at.whole(11)
        or at.whole(21, 1) != 1
        or not 0 <= channels <= MAX_CHANNELS
        or (width, height) not in ((1, 1), (1, 0))
    ):
        raise CheckpointError("it holds stored numbers other than one, or one a channel")
    values = g.weights.plain(at.name, "data", max(1, channels))
    return Blob(values.reshape(1, -1, 1, 1), channels or 1, Fraction(0))


def _combined(g: Graph, function: Callable[[Any, Any], Any], inputs: list[Blob]) -> Blob:
    """Two activations of one size, or one with stored numbers or with means over the image."""
    x, y = inputs
    stored = [isinstance(blob.value, np.ndarray) for blob in inputs]
    one = x if not (x.pooled or stored[0]) else y
    other = y if one is x else x
    alike = (other.scale, other.offset) == (one.scale, one.offset)
    if (
        one.pooled
        or not (alike or other.pooled)
        or (None not in (x.channels, y.channels) and other.channels not in (1, one.channels))
    ):
        raise CheckpointError(
            f"it joins {x.channels} channels at {float(x.scale):g} times the size {x.offset:+d} and {y.channels} at "
            f"{float(y.scale):g} times {y.offset:+d}"
        )
    values = tuple(g.constant(b.value) if isinstance(b.value, np.ndarray) else b.value for b in inputs)
    return replace(one, value=g.fx.call_function(function, values), channels=one.channels or other.channels)


_BINARY: dict[int, Callable[[Any, Any], Any]] = {0: operator.add, 1: operator.sub, 2: operator.mul, 3: operator.truediv}


def _binary(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    kind, number = at.whole(0), at.number(2)
    if at.whole(1):
        if kind not in (0, 1, 2, 3, 7) or (kind == 3 and number == 0) or isinstance(inputs[0].value, np.ndarray):
            raise CheckpointError(f"a BinaryOp {kind} with the number {number:g} is not covered")
        # The number less the blob.
        if kind == 7:
            return replace(inputs[0], value=g.fx.call_function(operator.sub, (number, inputs[0].value)))
        return replace(inputs[0], value=g.fx.call_function(_BINARY[kind], (inputs[0].value, number)))
    if kind not in _BINARY or len(inputs) != 2:
        raise CheckpointError(f"a BinaryOp {kind} of {len(inputs)} blobs is not covered")
    return _combined(g, _BINARY[kind], inputs)


def _eltwise(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    kind, factors = at.whole(0), at.numbers(1)
    if kind not in (0, 1) or len(inputs) < 2 or (factors and (kind != 1 or len(factors) != len(inputs))):
        raise CheckpointError(f"an Eltwise {kind} of {len(inputs)} blobs with {len(factors)} factors is not covered")
    parts = [
        x if f == 1 else replace(x, value=g.fx.call_function(operator.mul, (x.value, f)))
        for x, f in zip(inputs, factors or [1.0] * len(inputs), strict=True)
    ]
    result = parts[0]
    for part in parts[1:]:
        result = _combined(g, operator.mul if kind == 0 else operator.add, [result, part])
    return result


def _concat(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    first = inputs[0]
    alike = all((x.scale, x.offset) == (first.scale, first.offset) and isinstance(x.value, fx.Node) for x in inputs)
    if at.whole(0) != 0 or not alike or any(x.channels is None for x in inputs):
        raise CheckpointError("a Concat joins other than the channels of images of one size")
    channels = sum(x.channels or 0 for x in inputs)
    if channels > MAX_CHANNELS:
        raise CheckpointError(f"a Concat makes {channels} channels (at most {MAX_CHANNELS})")
    return replace(first, value=g.fx.call_function(torch.cat, ([x.value for x in inputs], 1)), channels=channels)


def _crop(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x = inputs[0]
    starts, ends, axes = at.numbers(9), at.numbers(10), at.numbers(11)
    if starts:
        if [int(a) % 3 for a in axes] != [1, 2] or len(set(starts)) != 1 or len(set(ends)) != 1 or len(ends) != 2:
            raise CheckpointError("a Crop cuts rows and columns differently, or channels")
        before, after = int(starts[0]), -int(ends[0])
    else:
        before = at.whole(0)
        reference = inputs[1] if len(inputs) == 2 else None
        if at.whole(1) != before or at.whole(2) or any(at.whole(key) for key in (3, 4, 5, 7, 8)) or reference is None:
            raise CheckpointError("a Crop cuts rows and columns differently, channels, or to a fixed size")
        if reference.scale != x.scale:
            raise CheckpointError("a Crop cuts to the size of a blob of another scale")
        after = x.offset - reference.offset - before
    if before < 0 or after < 0 or before + after > 4096:
        raise CheckpointError(f"a Crop takes {before} and {after} pixels away")
    rows = slice(before, -after if after else None)
    index = (slice(None), slice(None), rows, rows)
    return replace(x, value=g.fx.call_function(operator.getitem, (x.value, index)), offset=x.offset - before - after)


def _interp(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x, factor = inputs[0], at.number(1, 1.0)
    mode = {1: "nearest", 2: "bilinear", 3: "bicubic"}.get(at.whole(0))
    exact = Fraction(factor).limit_denominator(8)
    fixed = any(at.whole(key) for key in (3, 4, 5, 6)) or len(inputs) != 1
    if mode is None or fixed or at.number(2, 1.0) != factor or not 0 < factor <= MAX_FACTOR or float(exact) != factor:
        raise CheckpointError("an Interp is to a fixed size, by different factors, or by no simple one")
    if x.offset and mode != "nearest":
        raise CheckpointError("an Interp smooths what convolutions without padding made smaller")
    _check_scale(x.scale * exact)
    options: dict[str, Any] = {"scale_factor": int(factor) if exact.denominator == 1 else factor, "mode": mode}
    value = g.fx.call_function(F.interpolate, (x.value,), options)
    return replace(x, value=value, scale=x.scale * exact, offset=int(x.offset * exact))


def _shuffle(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x, factor = inputs[0], at.whole(0, 1)
    if at.whole(1) or not 1 <= factor <= MAX_FACTOR or x.channels is None or x.channels % factor**2:
        raise CheckpointError(f"a PixelShuffle by {factor} of {x.channels} channels is not PyTorch's")
    _check_scale(x.scale * factor)
    value = g.fx.call_function(F.pixel_shuffle, (x.value, factor))
    return Blob(value, x.channels // factor**2, x.scale * factor, x.offset * factor)


def _reorg(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x, factor = inputs[0], at.whole(0, 1)
    if at.whole(1) or not 1 <= factor <= MAX_FACTOR or x.offset % factor:
        raise CheckpointError(f"a Reorg by {factor} is not PyTorch's pixel-unshuffle")
    channels = (x.channels or 3) * factor**2
    if channels > MAX_CHANNELS:
        raise CheckpointError(f"a Reorg makes {channels} channels (at most {MAX_CHANNELS})")
    _check_scale(x.scale / factor)
    value = g.fx.call_function(F.pixel_unshuffle, (x.value, factor))
    return Blob(value, channels, x.scale / factor, x.offset // factor)


def _pool(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    x = inputs[0]
    if at.whole(4) and at.whole(0) == 1:
        # Size 0 for each pixel of the image: one value for all of it.
        return Blob(g.layer(nn.AdaptiveAvgPool2d(1), x.value), x.channels, Fraction(0))
    side = at.whole(1)
    alike = all(
        at.whole(key, value) == value for key, value in ((2, side), (11, side), (12, side), (3, 0), (4, 0), (7, 0))
    )
    if not alike or at.whole(0) not in (0, 1) or not 1 <= side <= MAX_FACTOR or x.offset % side:
        raise CheckpointError("a Pooling has squares that overlap or reach over the border")
    _check_scale(x.scale / side)
    module = (nn.AvgPool2d if at.whole(0) else nn.MaxPool2d)(side)
    return replace(x, value=g.layer(module, x.value), scale=x.scale / side, offset=x.offset // side)


def _same(g: Graph, at: Layer, inputs: list[Blob]) -> Blob:
    if at.kind == "Dropout" and at.number(0, 1.0) != 1:
        raise CheckpointError("a Dropout scales what it reads")
    return inputs[0]


OPERATIONS: dict[str, Convert] = {
    "Convolution": _conv,
    "ConvolutionDepthWise": _conv,
    "Deconvolution": _deconv,
    "InnerProduct": _inner,
    "ReLU": _simple(_relu),
    "PReLU": _prelu,
    "Sigmoid": _simple(lambda at: nn.Sigmoid()),
    "TanH": _simple(lambda at: nn.Tanh()),
    "Swish": _simple(lambda at: nn.SiLU()),
    "Mish": _simple(lambda at: nn.Mish()),
    "GELU": _simple(_gelu),
    "Clip": _simple(_clip),
    "BatchNorm": _batch_norm,
    "Scale": _scale,
    "MemoryData": _memory,
    "BinaryOp": _binary,
    "Eltwise": _eltwise,
    "Concat": _concat,
    "Crop": _crop,
    "Interp": _interp,
    "PixelShuffle": _shuffle,
    "Reorg": _reorg,
    "Pooling": _pool,
    "Split": _same,
    "Noop": _same,
    "Dropout": _same,
}
