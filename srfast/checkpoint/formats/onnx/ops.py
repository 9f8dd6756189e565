"""ONNX operations as layers of PyTorch."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from srfast.checkpoint.formats.graph import MAX_CHANNELS, MAX_FACTOR
from srfast.errors import CheckpointError
from srfast.models.norms import PixelNorm2d

_LARGEST = 8  # denominator of a resize

FxGraph: TypeAlias = fx.Graph
FxNode: TypeAlias = fx.Node


class Graph(Protocol):
    """What the operations write to."""

    fx: FxGraph

    def layer(self, module: nn.Module, x: FxNode) -> FxNode:
        """A call of a new submodule."""
        ...

    def constant(self, value: np.ndarray[Any, Any]) -> FxNode | float:
        """A number, or a buffer."""
        ...


Attributes = dict[str, Any]
Convert = Callable[[Graph, list[Any], Attributes], fx.Node]


def _weights(value: Any, what: str) -> Tensor:
    if not isinstance(value, np.ndarray):
        raise CheckpointError(f"{what} is computed, not stored")
    # Stored numbers may be read by thousands of layers, which share them.
    return torch.from_numpy(value if value.dtype == np.float32 and value.flags.writeable else value.astype(np.float32))


def _geometry(a: Attributes, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Strides, padding and dilation of a convolution or a pool, the padding equal on both sides."""
    strides, dilations = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    pads = a.get("pads", [0, 0, 0, 0])
    given = a.get("kernel_shape", kernel)
    if not len(kernel) == len(strides) == len(dilations) == 2 or list(given) != list(kernel):
        raise CheckpointError(
            f"a layer of kernel {list(kernel)[:4]} says {list(given)[:4]}, with {len(strides)} strides and {len(dilations)} gaps"
        )
    if a.get("auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
        reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        if list(strides) != [1, 1] or any(n % 2 for n in reach):  # depends on the size, or differs between the sides
            raise CheckpointError(f"a layer of kernel {list(kernel)} and strides {list(strides)} has the padding SAME")
        pads = [n // 2 for n in reach] * 2
    if len(kernel) != 2 or pads[:2] != pads[2:] or a.get("ceil_mode", 0):
        raise CheckpointError(f"a layer of kernel {list(kernel)} has the padding {pads}; both sides must be alike")
    return list(strides), pads[:2], list(dilations)


def _loaded(module: nn.Module, **weights: Tensor | None) -> nn.Module:
    for name, value in weights.items():
        if value is not None:
            own = getattr(module, name)
            if own.shape != value.shape:
                raise CheckpointError(f"{name} of {list(value.shape)}, expected {list(own.shape)}")
            own.data = value
    return module


def _conv(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    weight = _weights(inputs[1], "a convolution's weight")
    out, per_group, *kernel = weight.shape
    groups = int(a.get("group", 1))
    if not 0 < groups <= out:
        raise CheckpointError(f"a convolution of {out} channels has {groups} groups")
    channels = per_group * groups
    if channels > MAX_CHANNELS or out > MAX_CHANNELS:
        raise CheckpointError(f"a convolution has {channels} channels in and {out} out (at most {MAX_CHANNELS})")
    module = nn.Conv2d(channels, out, groups=groups, device="meta", **_layer_geometry(a, kernel))
    return r.layer(_filled(module, weight, _bias(inputs, out)), inputs[0])


def _layer_geometry(a: Attributes, kernel: Sequence[int]) -> Any:
    strides, padding, dilations = (tuple(values) for values in _geometry(a, kernel))
    return {"kernel_size": tuple(kernel), "stride": strides, "padding": padding, "dilation": dilations}


def _bias(inputs: list[Any], channels: int) -> Tensor:
    given = inputs[2] if len(inputs) > 2 else None
    return torch.zeros(channels) if given is None else _weights(given, "a bias")


def _filled(module: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    """A module made without memory, with its weight and bias."""
    for name, value in (("weight", weight), ("bias", bias)):
        if getattr(module, name).shape != value.shape:
            raise CheckpointError(f"{name} of {list(value.shape)}, expected {list(getattr(module, name).shape)}")
        setattr(module, name, nn.Parameter(value, requires_grad=False))
    return module


def _transposed(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    weight = _weights(inputs[1], "a convolution's weight")
    channels, out, *kernel = weight.shape
    extra = a.get("output_padding", [0, 0])
    if a.get("group", 1) != 1 or "output_shape" in a:
        raise CheckpointError("a transposed convolution has groups or a fixed size")
    module = nn.ConvTranspose2d(channels, out, output_padding=tuple(extra), device="meta", **_layer_geometry(a, kernel))
    return r.layer(_filled(module, weight, _bias(inputs, out)), inputs[0])


def _batch(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    scale, shift, mean, variance = (_weights(value, "a normalisation's value") for value in inputs[1:5])
    if a.get("training_mode", 0) or not a.get("spatial", 1):
        raise CheckpointError("a BatchNormalization takes the statistics of its input; export the model in eval mode")
    module = nn.BatchNorm2d(scale.numel(), eps=float(a.get("epsilon", 1e-5)))
    return r.layer(_loaded(module, weight=scale, bias=shift, running_mean=mean, running_var=variance).eval(), inputs[0])


def _instance(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    scale, shift = _weights(inputs[1], "a scale"), _weights(inputs[2], "a shift")
    module = nn.InstanceNorm2d(scale.numel(), eps=float(a.get("epsilon", 1e-5)), affine=True)
    return r.layer(_loaded(module, weight=scale, bias=shift), inputs[0])


def _prelu(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    slope = _weights(inputs[1], "a slope")
    if slope.numel() > 1 and (slope.ndim not in (3, 4) or slope.shape[-3] != slope.numel()):
        raise CheckpointError(f"a PReLU has slopes of {list(slope.shape)}; one, or one a channel")
    return r.layer(_loaded(nn.PReLU(slope.numel()), weight=slope.reshape(-1)), inputs[0])


def _simple(make: Callable[[Attributes], nn.Module]) -> Convert:
    return lambda r, inputs, a: r.layer(make(a), inputs[0])


def _binary(function: Callable[[Any, Any], Any]) -> Convert:
    def convert(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
        if "axis" in a:  # before opset 7; PyTorch aligns the last axes
            raise CheckpointError("an operand is repeated along a given axis; export the model with opset 7 or later")
        operands = [r.constant(value) if isinstance(value, np.ndarray) else value for value in inputs]
        return r.fx.call_function(function, tuple(operands))

    return convert


def _clip(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    if any(isinstance(value, fx.Node) for value in inputs[1:]):
        raise CheckpointError("the bounds of a Clip are computed, not stored")
    bounds = [float(v.reshape(-1)[0]) if isinstance(v, np.ndarray) else None for v in (*inputs[1:3], None, None)]
    low, high = a.get("min", bounds[0]), a.get("max", bounds[1])
    return r.fx.call_function(torch.clamp, (inputs[0], low, high))


def resized(r: Graph, x: fx.Node, factor: Fraction, a: Attributes, opset: int) -> fx.Node:
    """A Resize or Upsample by a factor, as PyTorch does it.

    Raises:
        CheckpointError: PyTorch does it in no way, or by no such factor.
    """
    if a.get("exclude_outside", 0) or a.get("antialias", 0):
        raise CheckpointError("a Resize leaves out what is outside of the image, or smooths it")
    former = opset < 11  # then there was one place of pixels alone
    mode = a.get("mode", b"nearest").decode()
    place = "asymmetric" if former else a.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = "floor" if former else a.get("nearest_mode", b"round_prefer_floor").decode()
    centred = place in ("half_pixel", "pytorch_half_pixel")
    whole = factor.denominator == 1
    fits = {
        # Each of these repeats every pixel.
        "nearest": whole and (place, rounding) in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")),
        "linear": centred,
        "cubic": centred and abs(a.get("cubic_coeff_a", -0.75) + 0.75) < 1e-6,
    }
    if not fits.get(mode, False) or not 0 < factor <= MAX_FACTOR or factor.denominator > _LARGEST:
        raise CheckpointError(
            f"a Resize ({mode}, {place}, {float(factor):g}) is not one of PyTorch's by a whole factor up to {MAX_FACTOR}, "
            f"or a fraction such as 1/2 of bilinear or bicubic"
        )
    name = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[mode]
    scale = int(factor) if whole else float(factor)
    return r.fx.call_function(F.interpolate, (x,), {"scale_factor": scale, "mode": name})


def _concat(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    if not all(isinstance(value, fx.Node) for value in inputs):
        raise CheckpointError("a Concat has stored parts")
    return r.fx.call_function(torch.cat, (list(inputs), int(a["axis"])))


def _axes(inputs: list[Any], a: Attributes) -> list[int]:
    given = inputs[1] if len(inputs) > 1 else None
    if isinstance(given, fx.Node):
        raise CheckpointError("the axes of a mean or maximum are computed, not stored")
    axes = a.get("axes", [] if given is None else given.tolist())
    if not axes and a.get("noop_with_empty_axes", 0):
        raise CheckpointError("a mean or maximum has no axes")
    if not a.get("keepdims", 1):
        raise CheckpointError("a mean or maximum drops its dimensions")
    return [int(axis) for axis in axes]


def _mean(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    return r.fx.call_function(torch.mean, (inputs[0],), {"dim": tuple(_axes(inputs, a)), "keepdim": True})


def _maximum(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    return r.fx.call_function(torch.amax, (inputs[0],), {"dim": tuple(_axes(inputs, a)), "keepdim": True})


def _max_pool(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    return r.layer(nn.MaxPool2d(**_layer_geometry(a, a["kernel_shape"])), inputs[0])


def _average_pool(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    geometry = _layer_geometry(a, a["kernel_shape"])
    if geometry.pop("dilation") != (1, 1):
        raise CheckpointError("an AveragePool has gaps between its pixels")
    counted = bool(a.get("count_include_pad", 0))
    return r.layer(nn.AvgPool2d(**geometry, count_include_pad=counted), inputs[0])


def _bounded(function: Callable[..., Any], low: bool) -> Convert:
    """Min or Max: of an image and a number a clamp, of two images as such."""

    def convert(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
        stored = [value for value in inputs if isinstance(value, np.ndarray)]
        if len(inputs) != 2 or any(value.size != 1 for value in stored):
            raise CheckpointError("a Min or Max is of other than two images, or an image and a number")
        if not stored:
            return r.fx.call_function(function, tuple(inputs))
        image = next(value for value in inputs if isinstance(value, fx.Node))
        number = float(stored[0].reshape(-1)[0])
        return r.fx.call_function(torch.clamp, (image, number, None) if low else (image, None, number))

    return convert


def _power(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    if not isinstance(inputs[1], np.ndarray) or inputs[1].size != 1:
        raise CheckpointError("the exponent of a Pow is computed, or differs between channels")
    exponent = float(inputs[1].reshape(-1)[0])
    if exponent == 2:
        return r.fx.call_function(operator.mul, (inputs[0], inputs[0]))
    return r.fx.call_function(torch.pow, (inputs[0], exponent))


def _hard_sigmoid(r: Graph, inputs: list[Any], a: Attributes) -> fx.Node:
    slope, middle = float(a.get("alpha", 0.2)), float(a.get("beta", 0.5))
    if (
        math.isclose(slope, 1 / 6, rel_tol=1e-6) and middle == 0.5
    ):  # PyTorch's, which capture knows at the end of a gate
        return r.layer(nn.Hardsigmoid(), inputs[0])
    scaled = r.fx.call_function(operator.mul, (inputs[0], slope))
    shifted = r.fx.call_function(operator.add, (scaled, middle))
    return r.fx.call_function(torch.clamp, (shifted, 0.0, 1.0))


def group_norm(r: Graph, x: fx.Node, groups: int, channels: int, inputs: list[Any], a: Attributes) -> fx.Node:
    """A GroupNormalization with a scale and a shift for each channel."""
    scale, shift = _weights(inputs[1], "a scale"), _weights(inputs[2], "a shift")
    if not 0 < groups <= channels or channels % groups:
        raise CheckpointError(f"{channels} channels do not make {groups} equal groups")
    if scale.numel() != channels or shift.numel() != channels:
        raise CheckpointError(
            f"a normalisation of {channels} channels in {groups} groups has {scale.numel()} scales and {shift.numel()} shifts"
        )
    module = nn.GroupNorm(groups, channels, eps=float(a.get("epsilon", 1e-5)))
    return r.layer(_loaded(module, weight=scale.reshape(-1), bias=shift.reshape(-1)), x)


def grouped(r: Graph, x: fx.Node, groups: int, channels: int, inputs: list[Any], a: Attributes) -> fx.Node:
    """One with a scale and a shift for each group.

    Operation set 18 has it so, and so do exporters that spell it as an InstanceNormalization of groups that were made channels.
    """
    scale, shift = _weights(inputs[1], "a scale").reshape(-1), _weights(inputs[2], "a shift").reshape(-1)
    if scale.numel() != groups or shift.numel() != groups:
        raise CheckpointError(
            f"a normalisation of {groups} groups has {scale.numel()} scales and {shift.numel()} shifts"
        )
    each = channels // max(groups, 1)
    stored = [None, *(torch.repeat_interleave(value, each).numpy() for value in (scale, shift))]
    return group_norm(r, x, groups, channels, stored, a)


def pixel_norm(r: Graph, x: fx.Node, channels: int, inputs: list[Any], a: Attributes) -> fx.Node:
    """A LayerNormalization over the channels of each pixel."""
    module = PixelNorm2d(channels, eps=float(a.get("epsilon", 1e-5)))
    scale = _weights(inputs[1], "a scale").reshape(-1)
    shift = (
        torch.zeros(channels) if len(inputs) < 3 or inputs[2] is None else _weights(inputs[2], "a shift").reshape(-1)
    )
    return r.layer(_loaded(module, weight=scale, bias=shift), x)


def _called(function: Callable[..., Any]) -> Convert:
    return lambda r, inputs, a: r.fx.call_function(function, (inputs[0],))


OPERATIONS: dict[str, Convert] = {
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
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "Add": _binary(operator.add),
    "Sub": _binary(operator.sub),
    "Mul": _binary(operator.mul),
    "Div": _binary(operator.truediv),
    "Clip": _clip,
    "Concat": _concat,
    "ReduceMean": _mean,
    "ReduceMax": _maximum,
    "Min": _bounded(torch.minimum, low=False),
    "Max": _bounded(torch.maximum, low=True),
    "Pow": _power,
    "Softplus": _simple(lambda a: nn.Softplus()),
    "Mish": _simple(lambda a: nn.Mish()),
    "Elu": _simple(lambda a: nn.ELU(float(a.get("alpha", 1.0)))),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _simple(lambda a: nn.Hardswish()),
    "Swish": _simple(lambda a: nn.SiLU()),
    "Erf": _called(torch.erf),
    "Sqrt": _called(torch.sqrt),
    "Exp": _called(torch.exp),
    "Abs": _called(torch.abs),
    "Neg": lambda r, inputs, a: r.fx.call_function(operator.mul, (inputs[0], -1.0)),
    "Reciprocal": _called(torch.reciprocal),
}
# Those that look at each pixel by itself.
POINTWISE = frozenset(OPERATIONS) - {
    "Conv",
    "ConvTranspose",
    "InstanceNormalization",
    "GlobalAveragePool",
    "MaxPool",
    "AveragePool",
    "ReduceMean",
    "ReduceMax",
}
