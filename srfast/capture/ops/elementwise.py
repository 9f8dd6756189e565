"""What capture knows of PyTorch: for each module class and function, the plan nodes that it becomes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.capture.ops import attention as gates
from srfast.capture.ops.conv import Builder, Value, conv, transposed
from srfast.capture.ops.resize import average_pool, interpolate, max_pool, upsample
from srfast.capture.places import cropped
from srfast.errors import UnsupportedModelError
from srfast.models.norms import PixelNorm2d, RootMeanSquare2d
from srfast.plan import (
    Act,
    Activate,
    Add,
    Affine,
    Clamp,
    Concat,
    GroupNorm,
    InstanceNorm,
    Multiply,
    PixelNorm,
    Shuffle,
    Slice,
    Unshuffle,
)


def _instance_norm(b: Builder, name: str, m: nn.InstanceNorm2d, x: str) -> str:
    if m.track_running_stats:
        return _batch_norm(b, name, m, x)
    scale = torch.ones(1) if m.weight is None else m.weight.detach()
    shift = torch.zeros(1) if m.bias is None else m.bias.detach()
    return b.emit(InstanceNorm(name, x, scale, shift, m.eps))


def _affine(m: nn.GroupNorm | PixelNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a normalisation; one and zero where it has none."""
    return (
        torch.ones(1) if m.weight is None else m.weight.detach(),
        torch.zeros(1) if m.bias is None else m.bias.detach(),
    )


def _cat(b: Builder, name: str, values: Any, dim: int = 0, axis: int | None = None) -> Value:
    if axis is not None:
        dim = axis
    if dim in (1, -3) and any(isinstance(value, gates.Moment) for value in values):
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


def _activate(act: Act, slope: Callable[[Any], Tensor] | None = None) -> Callable[[Builder, str, Any, Value], Value]:
    def convert(b: Builder, name: str, m: Any, x: Value) -> Value:
        values = slope(m) if slope else None
        return b.emit(Activate(name, x, act, values)) if isinstance(x, str) else gates.activate(name, act, values, x)

    return convert


def _leaky_relu(b: Builder, name: str, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    slope = _scalar(negative_slope, name)
    return _activate("prelu", lambda _: _number(slope))(b, name, None, x)


def _hard_sigmoid(b: Builder, name: str, x: Value, inplace: bool = False) -> Value:
    """``clamp(x / 6 + 1 / 2, 0, 1)``, or the end of a gate."""
    if not isinstance(x, str):
        return gates.activate(name, "hardsigmoid", None, x)
    line = b.emit(Affine(f"{name}_line", x, _number(1 / 6), _number(1 / 2)))
    return b.emit(Clamp(name, line, 0.0, 1.0))


def _root_mean_square(b: Builder, name: str, m: RootMeanSquare2d, x: str) -> str:
    return b.emit(PixelNorm(name, x, m.scale.detach(), m.offset.detach(), m.eps, centred=False))


def _hard_tanh(b: Builder, name: str, m: nn.Hardtanh, x: str) -> str:
    return _clamp(b, name, x, m.min_val, m.max_val)  # ReLU6 is one of them


def _gelu(b: Builder, name: str, x: str, approximate: str = "none") -> str:
    if approximate != "none":
        raise UnsupportedModelError(f"no plan node covers gelu(approximate={approximate!r}) (at {name}): the exact one")
    return b.emit(Activate(name, x, "gelu"))


def _add(b: Builder, name: str, x: Value, y: Value, alpha: float = 1) -> Value:
    if isinstance(x, gates.GATES) and isinstance(y, gates.GATES) and alpha == 1:
        return gates.add(name, x, y)
    if isinstance(x, str) and isinstance(y, str):
        if alpha != 1:
            y = b.emit(Affine(f"{name}_alpha", y, _number(alpha), torch.zeros(1)))
        return b.emit(Add(name, x, y))
    if isinstance(x, str):
        return b.emit(Affine(name, x, torch.ones(1), _constant(y, name) * alpha))
    return b.emit(Affine(name, y, _number(alpha), _constant(x, name)))


def _sub(b: Builder, name: str, x: Value, y: Value, alpha: float = 1) -> Value:
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
    # The reciprocal in float64: rounded to float32 only once, when the weights that take it in are.
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


def _scalar(value: Value, name: str) -> float:
    if isinstance(value, Tensor) and value.numel() == 1:
        return float(value.detach())
    if isinstance(value, (int, float)):
        return float(value)
    raise UnsupportedModelError(f"no plan node covers {value!r} in place of a number (at {name})")


def _clamp(b: Builder, name: str, x: str, min: Value = None, max: Value = None) -> str:  # noqa: A002
    low, high = (-math.inf if min is None else _scalar(min, name)), (math.inf if max is None else _scalar(max, name))
    if math.isnan(low) or math.isnan(high):
        raise UnsupportedModelError(f"no plan node covers a clamp to {low}..{high} (at {name}): bounds are numbers")
    return b.emit(Clamp(name, x, low if low < high else high, high))  # PyTorch gives the upper bound where they cross


def item(b: Builder, name: str, x: Value, index: Any) -> Value:
    """A crop of an activation, ``x[:, :, a:-b, a:-b]``, some of its channels, ``x[:, a:b]``, or part of a gate."""
    if not isinstance(x, str):
        return gates.item(b, name, x, index)
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(part is Ellipsis for part in parts):
        at = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (5 - len(parts))
    parts += [slice(None)] * (4 - len(parts))
    channels, spans = parts[1], [_crop(part) for part in parts]
    if isinstance(channels, slice) and isinstance(channels.stop, int) and channels.step is None:
        first, last = channels.start or 0, channels.stop
        if (
            len(parts) == 4
            and isinstance(first, int)
            and 0 <= first < last
            and [spans[i] for i in (0, 2, 3)] == [(0, 0)] * 3
        ):
            return b.emit(Slice(name, x, first, last - first))
    crop = spans[2]
    if len(parts) > 4 or spans[:2] != [(0, 0)] * 2 or crop is None or crop != spans[3]:
        raise UnsupportedModelError(
            f"no plan node covers indexing by {index} (at {name}): crops by the same rows and columns, or channels from a "
            "number to another"
        )
    # An identity that only says where its pixels lie; the first folding pass removes it, and the place is kept.
    return x if crop == (0, 0) else b.emit(Affine(name, x, torch.ones(1), torch.zeros(1)), cropped(b.place(x), *crop))


def _crop(part: Any) -> tuple[int, int] | None:
    """How many a slice leaves out at the beginning and at the end; None where that depends on the size."""
    if not isinstance(part, slice) or part.step not in (None, 1):
        return None
    first, last = part.start or 0, part.stop
    whole = isinstance(first, int) and first >= 0 and (last is None or (isinstance(last, int) and last < 0))
    return (first, -(last or 0)) if whole else None


def _pad(b: Builder, name: str, x: str, pad: Any, mode: str = "constant", value: float | None = None) -> str:
    """With negative numbers, which crop."""
    sides = [-int(side) for side in pad]
    if mode != "constant" or len(sides) != 4 or sides[:2] != sides[2:] or min(sides) < 0:
        raise UnsupportedModelError(
            f"no plan node covers 'pad' by {list(pad)}, {mode!r} (at {name}): negative numbers, which crop rows and columns "
            "alike; srfast.models.Bordered takes an image with a mirrored border"
        )
    return b.emit(Affine(name, x, torch.ones(1), torch.zeros(1)), cropped(b.place(x), sides[0], sides[1]))


def _dropout(b: Builder, name: str, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training and p:
        raise UnsupportedModelError(
            f"no plan node covers dropout in training (at {name}), which draws random numbers: call eval(), and give "
            "F.dropout training=self.training, as its default is True"
        )
    return x


def _unchanged(b: Builder, name: str, x: Value, memory_format: Any = None) -> Value:
    return x


def _shuffle(b: Builder, name: str, x: str, upscale_factor: int) -> str:
    return b.emit(Shuffle(name, x, upscale_factor))


def _unshuffle(b: Builder, name: str, x: str, downscale_factor: int) -> str:
    return b.emit(Unshuffle(name, x, downscale_factor))


MODULES: dict[type[nn.Module], Callable[[Builder, str, Any, str], Value]] = {
    nn.Conv2d: conv,
    nn.ConvTranspose2d: transposed,
    nn.BatchNorm2d: _batch_norm,
    nn.InstanceNorm2d: _instance_norm,
    nn.AvgPool2d: lambda b, name, m, x: average_pool(
        b, name, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad, m.divisor_override
    ),
    nn.MaxPool2d: lambda b, name, m, x: max_pool(
        b, name, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    ),
    nn.AdaptiveAvgPool2d: lambda b, name, m, x: gates.pooled(name, x, m.output_size),
    nn.SiLU: _activate("silu"),
    nn.Mish: _activate("mish"),
    nn.GroupNorm: lambda b, name, m, x: b.emit(GroupNorm(name, x, *_affine(m), m.eps, m.num_groups)),
    PixelNorm2d: lambda b, name, m, x: b.emit(PixelNorm(name, x, *_affine(m), m.eps)),
    RootMeanSquare2d: _root_mean_square,
    nn.GELU: lambda b, name, m, x: _gelu(b, name, x, m.approximate),
    nn.Hardtanh: _hard_tanh,
    nn.ReLU6: _hard_tanh,
    nn.PReLU: _activate("prelu", lambda m: m.weight.detach()),
    nn.ReLU: _activate("prelu", lambda m: torch.zeros(1)),
    nn.LeakyReLU: _activate("prelu", lambda m: _number(m.negative_slope)),
    nn.Tanh: _activate("tanh"),
    nn.Sigmoid: _activate("sigmoid"),
    nn.Hardsigmoid: lambda b, name, m, x: _hard_sigmoid(b, name, x),
    nn.PixelShuffle: lambda b, name, m, x: _shuffle(b, name, x, m.upscale_factor),
    nn.PixelUnshuffle: lambda b, name, m, x: _unshuffle(b, name, x, m.downscale_factor),
    nn.Upsample: upsample,
    nn.UpsamplingNearest2d: upsample,
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
    ((F.hardsigmoid,), _hard_sigmoid),
    ((F.leaky_relu,), _leaky_relu),
    ((F.pixel_shuffle, torch.pixel_shuffle), _shuffle),
    ((F.pixel_unshuffle, torch.pixel_unshuffle), _unshuffle),
    ((F.interpolate,), interpolate),
    ((F.silu,), lambda b, name, x, inplace=False: _activate("silu")(b, name, None, x)),
    ((F.gelu,), _gelu),
    ((F.mish,), lambda b, name, x, inplace=False: _activate("mish")(b, name, None, x)),
    ((F.avg_pool2d,), average_pool),
    ((F.max_pool2d,), max_pool),
    ((F.adaptive_avg_pool2d,), lambda b, name, x, output_size: gates.pooled(name, x, output_size)),
    ((torch.cat, torch.concat), _cat),
    ((torch.mean, "mean"), gates.mean),
    ((torch.var, "var"), gates.spread("variance")),
    ((torch.std, "std"), gates.spread("deviation")),
    ((torch.var_mean,), gates.spread("variance", with_mean=True)),
    ((torch.std_mean,), gates.spread("deviation", with_mean=True)),
    ((torch.sqrt, "sqrt"), gates.root),
    ((torch.amax, "amax"), gates.amax),
    ((torch.max, "max"), gates.max_with_index),
    ((operator.getitem,), item),
    ((F.pad,), _pad),
    ((F.dropout, F.dropout2d), _dropout),
    ((torch.clone, torch.detach, "contiguous", "clone", "detach", "float"), _unchanged),
]
FUNCTIONS: dict[Any, Callable[..., Value]] = {key: function for keys, function in _FUNCTION_NAMES for key in keys}

# What eager PyTorch gives in the memory of the input, and what it copies only where format or dtype ask for it.
SAME_TENSOR = {nn.Identity, nn.Dropout, nn.Dropout2d, F.dropout, F.dropout2d, torch.detach, "detach"}
PERHAPS_COPIES = {"contiguous", "float"}
# Parts of a tensor in its memory: what is changed in them in place is changed in the tensor.
VIEWS = {operator.getitem}
