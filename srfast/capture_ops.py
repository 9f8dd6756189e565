"""What capture knows of PyTorch: for each module class and function, the plan nodes that it becomes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast import capture_gates as gates
from srfast.capture_convs import Builder, Value, conv, pair, transposed
from srfast.errors import UnsupportedModelError
from srfast.plan import (
    Act,
    Activate,
    Add,
    Affine,
    Clamp,
    Concat,
    InstanceNorm,
    Multiply,
    Pool,
    Resize,
    ResizeMode,
    Shuffle,
    Unshuffle,
)


def _instance_norm(b: Builder, name: str, m: nn.InstanceNorm2d, x: str) -> str:
    if m.track_running_stats:
        return _batch_norm(b, name, m, x)
    scale = torch.ones(1) if m.weight is None else m.weight.detach()
    shift = torch.zeros(1) if m.bias is None else m.bias.detach()
    return b.emit(InstanceNorm(name, x, scale, shift, m.eps))


def _pool(kind: str) -> Callable[[Builder, str, Any, str], str]:
    def convert(b: Builder, name: str, m: nn.AvgPool2d | nn.MaxPool2d, x: str) -> str:
        return _pool_function(kind)(b, name, x, m.kernel_size, m.stride, m.padding)

    return convert


def _pool_function(kind: str) -> Callable[..., str]:
    def convert(b: Builder, name: str, x: str, kernel_size: Any, stride: Any = None, padding: Any = 0, **_: Any) -> str:
        size = pair(kernel_size)
        if len(set(size)) > 1 or pair(stride or kernel_size) != size or pair(padding) != (0, 0):
            raise UnsupportedModelError(
                f"no plan node covers pooling of {kernel_size} with stride {stride} and padding {padding} (at {name}): "
                "the squares neither overlap nor reach over the border"
            )
        return b.emit(Pool(name, x, size[0], "average" if kind == "average" else "max"))

    return convert


def _cat(b: Builder, name: str, values: Any, dim: int = 0, axis: int | None = None) -> Value:
    if axis is not None:
        dim = axis
    if any(isinstance(value, gates.Moment) for value in values):
        return gates.cat(name, values)
    if dim not in (1, -3) or not all(isinstance(value, str) for value in values):
        raise UnsupportedModelError(
            f"no plan node covers cat along dimension {dim} (at {name}): channels (1) of activations"
        )
    return b.emit(Concat(name, values[0], tuple(values[1:])))


def _batch_norm(b: Builder, name: str, m: nn.BatchNorm2d | nn.InstanceNorm2d, x: str) -> str:
    """(x - mean) / sqrt(var + eps) * weight + bias, in float64."""
    if m.running_mean is None or m.running_var is None:
        raise UnsupportedModelError(
            f"{m} (at {name}) keeps no running statistics, so it is no fixed function of its input"
        )
    scale = 1.0 / torch.sqrt(m.running_var.double() + m.eps)
    if m.weight is not None:
        scale = scale * m.weight.detach().double()
    shift = -m.running_mean.double() * scale
    if m.bias is not None:
        shift = shift + m.bias.detach().double()
    return b.emit(Affine(name, x, scale, shift))


def _activate(
    act: Act | Literal["silu", "gelu"], slope: Callable[[Any], Tensor] | None = None
) -> Callable[[Builder, str, Any, Value], Value]:
    def convert(b: Builder, name: str, m: Any, x: Value) -> Value:
        values = slope(m) if slope else None
        return b.emit(Activate(name, x, act, values)) if isinstance(x, str) else gates.activate(name, act, values, x)

    return convert


def _leaky_relu(b: Builder, name: str, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return _activate("prelu", lambda _: _number(negative_slope))(b, name, None, x)


def _hard_tanh(b: Builder, name: str, m: nn.Hardtanh, x: str) -> str:
    return b.emit(Clamp(name, x, float(m.min_val), float(m.max_val)))  # ReLU6 is one of them


def _gelu(b: Builder, name: str, x: str, approximate: str = "none") -> str:
    if approximate != "none":
        raise UnsupportedModelError(f"no plan node covers gelu(approximate={approximate!r}) (at {name}): the exact one")
    return b.emit(Activate(name, x, "gelu"))


def _add(b: Builder, name: str, x: Value, y: Value, alpha: float = 1) -> str:
    if isinstance(x, str) and isinstance(y, str):
        if alpha != 1:
            y = b.emit(Affine(f"{name}_alpha", y, _number(alpha), torch.zeros(1)))
        return b.emit(Add(name, x, y))
    if isinstance(x, str):
        return b.emit(Affine(name, x, torch.ones(1), _constant(y, name) * alpha))
    return b.emit(Affine(name, y, _number(alpha), _constant(x, name)))


def _sub(b: Builder, name: str, x: Value, y: Value, alpha: float = 1) -> str:
    return _add(b, name, x, y, alpha=-alpha)


def _mul(b: Builder, name: str, x: Value, y: Value) -> str:
    if isinstance(x, gates.GATES) or isinstance(y, gates.GATES):
        return b.emit(gates.multiply(name, x, y))
    if isinstance(x, str) and isinstance(y, str):
        return b.emit(Multiply(name, x, y))
    if not isinstance(x, str):
        x, y = y, x
    return b.emit(Affine(name, x, _constant(y, name), torch.zeros(1)))


def _div(b: Builder, name: str, x: Value, y: Value) -> str:
    if not isinstance(x, str) or isinstance(y, str):
        raise UnsupportedModelError(f"no plan node covers division by an activation (at {name})")
    return b.emit(Affine(name, x, 1.0 / _constant(y, name).double(), torch.zeros(1)))


def _number(value: float) -> Tensor:
    return torch.tensor([float(value)], dtype=torch.float64)


def _constant(value: Value, name: str) -> Tensor:
    """A number, or a tensor that varies over channels only, as [1] or [C]."""
    if isinstance(value, (int, float)):
        return _number(value)
    if not isinstance(value, Tensor):
        raise UnsupportedModelError(f"no plan node covers a constant of type {type(value).__name__} (at {name})")
    value = value.detach()
    shape = [1] * (4 - value.ndim) + list(value.shape)
    if value.ndim > 4 or any(n != 1 for i, n in enumerate(shape) if i != 1):
        raise UnsupportedModelError(f"no plan node covers a constant of shape {list(value.shape)} (at {name})")
    flat: Tensor = value.reshape(-1)
    return flat


def _clamp(b: Builder, name: str, x: str, min: float | None = None, max: float | None = None) -> str:  # noqa: A002
    low, high = (-math.inf if min is None else float(min)), (math.inf if max is None else float(max))
    return b.emit(Clamp(name, x, low, high))


def _shuffle(b: Builder, name: str, x: str, upscale_factor: int) -> str:
    return b.emit(Shuffle(name, x, upscale_factor))


def _interpolate(
    b: Builder,
    name: str,
    x: str,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> str:
    factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
    whole = size is None and factors[0] == factors[1] and factors[0] is not None and float(factors[0]).is_integer()
    modes: dict[str, ResizeMode] = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}
    if not whole or mode not in modes or align_corners:
        raise UnsupportedModelError(
            f"no plan node covers interpolate(size={size}, scale_factor={scale_factor}, mode={mode!r}, "
            f"align_corners={align_corners}) (at {name}): whole scale factors, nearest, bilinear or bicubic"
        )
    return b.emit(Resize(name, x, int(factors[0]), modes[mode]))


def _upsample(b: Builder, name: str, m: nn.Upsample, x: str) -> str:
    return _interpolate(b, name, x, m.size, m.scale_factor, m.mode, m.align_corners)


MODULES: dict[type[nn.Module], Callable[[Builder, str, Any, str], Value]] = {
    nn.Conv2d: conv,
    nn.ConvTranspose2d: transposed,
    nn.BatchNorm2d: _batch_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.AvgPool2d: _pool("average"),
    nn.MaxPool2d: _pool("max"),
    nn.AdaptiveAvgPool2d: lambda b, name, m, x: gates.pooled(name, x, m.output_size),
    nn.SiLU: _activate("silu"),
    nn.GELU: lambda b, name, m, x: _gelu(b, name, x, m.approximate),
    nn.Hardtanh: _hard_tanh,
    nn.ReLU6: _hard_tanh,
    nn.PReLU: _activate("prelu", lambda m: m.weight.detach()),
    nn.ReLU: _activate("prelu", lambda m: torch.zeros(1)),
    nn.LeakyReLU: _activate("prelu", lambda m: _number(m.negative_slope)),
    nn.Tanh: _activate("tanh"),
    nn.Sigmoid: _activate("sigmoid"),
    nn.PixelShuffle: lambda b, name, m, x: _shuffle(b, name, x, m.upscale_factor),
    nn.PixelUnshuffle: lambda b, name, m, x: b.emit(Unshuffle(name, x, m.downscale_factor)),
    nn.Upsample: _upsample,
    nn.UpsamplingNearest2d: _upsample,
    nn.Identity: lambda b, name, m, x: x,
    nn.Dropout: lambda b, name, m, x: x,
    nn.Dropout2d: lambda b, name, m, x: x,
}

_RELU = _activate("prelu", lambda m: torch.zeros(1))
_FUNCTION_NAMES: list[tuple[tuple[Any, ...], Callable[..., Value]]] = [
    ((operator.add, operator.iadd, torch.add, "add", "add_"), _add),
    ((operator.sub, operator.isub, torch.sub, "sub", "sub_"), _sub),
    ((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _mul),
    ((operator.truediv, operator.itruediv, torch.div, "div", "div_"), _div),
    ((torch.clamp, torch.clamp_, torch.clip, "clamp", "clamp_", "clip"), _clamp),
    ((torch.relu, F.relu, "relu", "relu_"), lambda b, name, x, inplace=False: _RELU(b, name, None, x)),
    ((torch.tanh, F.tanh, "tanh", "tanh_"), lambda b, name, x: _activate("tanh")(b, name, None, x)),
    ((torch.sigmoid, F.sigmoid, "sigmoid", "sigmoid_"), lambda b, name, x: _activate("sigmoid")(b, name, None, x)),
    ((F.leaky_relu,), _leaky_relu),
    ((F.pixel_shuffle, torch.pixel_shuffle), _shuffle),
    ((F.pixel_unshuffle, torch.pixel_unshuffle), lambda b, name, x, f: b.emit(Unshuffle(name, x, f))),
    ((F.interpolate,), _interpolate),
    ((F.silu,), lambda b, name, x, inplace=False: _activate("silu")(b, name, None, x)),
    ((F.gelu,), _gelu),
    ((F.avg_pool2d,), _pool_function("average")),
    ((F.max_pool2d,), _pool_function("max")),
    ((F.adaptive_avg_pool2d,), lambda b, name, x, output_size: gates.pooled(name, x, output_size)),
    ((torch.cat, torch.concat), _cat),
    ((torch.mean, "mean"), gates.mean),
    ((torch.amax, "amax"), gates.amax),
    ((torch.max, "max"), gates.max_with_index),
    ((operator.getitem,), gates.item),
    ((F.dropout, F.dropout2d), lambda b, name, x, *_, **__: x),
    (("contiguous", "clone", "float"), lambda b, name, x, **_: x),
]
FUNCTIONS: dict[Any, Callable[..., Value]] = {key: function for keys, function in _FUNCTION_NAMES for key in keys}
