"""Capture: from a PyTorch module to a plan of elementary nodes, by ``torch.fx``."""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from srfast.errors import UnsupportedModelError
from srfast.plan import Act, Activate, Add, Affine, Clamp, Conv, Node, Plan, Resize, ResizeMode, Shuffle

_IN_PLACE_OPERATORS = {"iadd", "isub", "imul", "itruediv"}
Value: TypeAlias = Any  # an fx argument: the name of an activation, or a constant


def capture(module: nn.Module, in_channels: int | None = None) -> Plan:
    """Traces ``module`` in eval mode into a plan; the module itself is left as it is.

    Args:
        module: takes one [N, C, H, W] image and returns one.
        in_channels: C; by default that of the first convolution.

    Raises:
        UnsupportedModelError: names the operation that no node covers.
    """
    module = copy.deepcopy(module).eval().cpu()
    try:
        graph = fx.symbolic_trace(module).graph
    except (fx.proxy.TraceError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UnsupportedModelError(f"{type(module).__name__} cannot be traced: {reason}") from error
    if in_channels is None:
        convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        if not convs:
            raise UnsupportedModelError(f"{type(module).__name__} has no convolution; give in_channels")
        in_channels = convs[0].in_channels
    builder = _Builder(module)
    for node in graph.nodes:
        builder.add(node)
    try:
        plan = Plan(tuple(builder.nodes), builder.input, builder.output, in_channels)
        return plan.with_nodes(builder.nodes)
    except ValueError as error:
        raise UnsupportedModelError(f"{type(module).__name__} does not make a plan: {error}") from error


class _Builder:
    """Turns fx nodes into plan nodes, one at a time."""

    def __init__(self, module: nn.Module) -> None:
        self.modules = dict(module.named_modules())
        self.root = module
        self.nodes: list[Node] = []
        self.names: dict[fx.Node, Value] = {}
        self.input = self.output = ""

    def add(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self._placeholder(node)
        elif node.op == "output":
            self._set_output(node)
        elif node.op == "get_attr":
            self.names[node] = operator.attrgetter(str(node.target))(self.root)
        elif node.op == "call_module":
            leaf = self.modules[str(node.target)]
            convert = MODULES.get(type(leaf))
            if convert is None:
                raise UnsupportedModelError(f"no plan node covers {type(leaf).__name__} (module {node.target})")
            self._convert(node, lambda args, kwargs: convert(self, node.name, leaf, args[0]))
            self._rebind(node, bool(getattr(leaf, "inplace", False)))
        else:
            function = FUNCTIONS.get(node.target)
            if function is None:
                name = (
                    node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
                )
                raise UnsupportedModelError(f"no plan node covers the operation {name!r} (at {node.name})")
            self._convert(node, lambda args, kwargs: function(self, node.name, *args, **kwargs))
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            self._rebind(node, name in _IN_PLACE_OPERATORS or name.endswith("_") or bool(node.kwargs.get("inplace")))

    def _placeholder(self, node: fx.Node) -> None:
        if self.input:
            if node.args or node.kwargs:  # an argument with a default
                self.names[node] = node.args[0]
                return
            raise UnsupportedModelError(
                f"the network takes a second input, {node.name!r}; srfast runs one image in, one out"
            )
        self.input = self.names[node] = node.name

    def _set_output(self, node: fx.Node) -> None:
        result = node.args[0]
        if not isinstance(result, fx.Node) or not isinstance(self.names[result], str):
            raise UnsupportedModelError("the network must return one image")
        self.output = self.names[result]

    def _convert(self, node: fx.Node, function: Callable[[Any, Any], Value]) -> None:
        args = fx.map_arg(node.args, lambda n: self.names[n])
        kwargs = fx.map_arg(node.kwargs, lambda n: self.names[n])
        try:
            self.names[node] = function(args, kwargs)
        except (TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise UnsupportedModelError(
                f"the arguments of {node.target} (at {node.name}) are not covered: {reason}"
            ) from error

    def _rebind(self, node: fx.Node, in_place: bool) -> None:
        """After an in-place operation every name of its input means the result."""
        if in_place and isinstance(node.args[0], fx.Node):
            before = self.names[node.args[0]]
            for key, value in self.names.items():
                if isinstance(value, str) and value == before:
                    self.names[key] = self.names[node]

    def emit(self, node: Node) -> str:
        self.nodes.append(node)
        return node.output


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _conv(b: _Builder, name: str, m: nn.Conv2d, x: str) -> str:
    half = m.kernel_size[0] // 2
    square = m.kernel_size[0] == m.kernel_size[1] and m.kernel_size[0] % 2 == 1
    same = m.padding == "same" or (not isinstance(m.padding, str) and _pair(m.padding) == (half, half))
    plain = _pair(m.stride) == (1, 1) and _pair(m.dilation) == (1, 1) and m.groups == 1 and m.padding_mode == "zeros"
    if not (square and same and plain):
        raise UnsupportedModelError(
            f"no plan node covers {m} (at {name}): convolutions are odd, stride 1, zero padding k // 2"
        )
    bias = m.bias.detach() if m.bias is not None else torch.zeros(m.out_channels, dtype=m.weight.dtype)
    return b.emit(Conv(name, x, m.weight.detach(), bias))


def _batch_norm(b: _Builder, name: str, m: nn.BatchNorm2d, x: str) -> str:
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


def _activate(act: Act, slope: Callable[[Any], Tensor] | None = None) -> Callable[[_Builder, str, Any, str], str]:
    return lambda b, name, m, x: b.emit(Activate(name, x, act, slope(m) if slope else None))


def _leaky_relu(b: _Builder, name: str, x: str, negative_slope: float = 0.01, inplace: bool = False) -> str:
    return b.emit(Activate(name, x, "prelu", _number(negative_slope)))


def _add(b: _Builder, name: str, x: Value, y: Value, alpha: float = 1) -> str:
    if isinstance(x, str) and isinstance(y, str):
        if alpha != 1:
            y = b.emit(Affine(f"{name}_alpha", y, _number(alpha), torch.zeros(1)))
        return b.emit(Add(name, x, y))
    if isinstance(x, str):
        return b.emit(Affine(name, x, torch.ones(1), _constant(y, name) * alpha))
    return b.emit(Affine(name, y, _number(alpha), _constant(x, name)))


def _sub(b: _Builder, name: str, x: Value, y: Value, alpha: float = 1) -> str:
    return _add(b, name, x, y, alpha=-alpha)


def _mul(b: _Builder, name: str, x: Value, y: Value) -> str:
    if isinstance(x, str) and isinstance(y, str):
        raise UnsupportedModelError(f"no plan node covers the product of two activations (at {name})")
    if not isinstance(x, str):
        x, y = y, x
    return b.emit(Affine(name, x, _constant(y, name), torch.zeros(1)))


def _div(b: _Builder, name: str, x: Value, y: Value) -> str:
    if not isinstance(x, str) or isinstance(y, str):
        raise UnsupportedModelError(f"no plan node covers division by an activation (at {name})")
    return b.emit(Affine(name, x, 1.0 / _constant(y, name).double(), torch.zeros(1)))


def _number(value: float) -> Tensor:
    """[1] in float64, so that folding starts from the exact constant."""
    return torch.tensor([value], dtype=torch.float64)


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


def _clamp(b: _Builder, name: str, x: str, min: float | None = None, max: float | None = None) -> str:  # noqa: A002
    low, high = (-math.inf if min is None else float(min)), (math.inf if max is None else float(max))
    return b.emit(Clamp(name, x, low, high))


def _shuffle(b: _Builder, name: str, x: str, upscale_factor: int) -> str:
    return b.emit(Shuffle(name, x, upscale_factor))


def _interpolate(
    b: _Builder,
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


def _upsample(b: _Builder, name: str, m: nn.Upsample, x: str) -> str:
    return _interpolate(b, name, x, m.size, m.scale_factor, m.mode, m.align_corners)


MODULES: dict[type[nn.Module], Callable[[_Builder, str, Any, str], Value]] = {
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _batch_norm,
    nn.PReLU: _activate("prelu", lambda m: m.weight.detach()),
    nn.ReLU: _activate("prelu", lambda m: torch.zeros(1)),
    nn.LeakyReLU: _activate("prelu", lambda m: _number(m.negative_slope)),
    nn.Tanh: _activate("tanh"),
    nn.Sigmoid: _activate("sigmoid"),
    nn.PixelShuffle: lambda b, name, m, x: _shuffle(b, name, x, m.upscale_factor),
    nn.Upsample: _upsample,
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
    ((F.interpolate,), _interpolate),
    (("contiguous", "clone", "float"), lambda b, name, x, **_: x),
]
FUNCTIONS: dict[Any, Callable[..., Value]] = {key: function for keys, function in _FUNCTION_NAMES for key in keys}
