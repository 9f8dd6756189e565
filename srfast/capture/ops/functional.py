"""Layers called as functions with their weights as arguments, as ``torch.compile`` and functional code do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.capture.ops.conv import Builder, Value
from srfast.capture.ops.elementwise import FUNCTIONS as ELEMENTWISE
from srfast.capture.ops.elementwise import MODULES
from srfast.errors import UnsupportedModelError
from srfast.plan import Activate


def _weights(name: str, **values: Any) -> dict[str, Tensor]:
    """Those that are given; all must be constants."""
    for what, value in values.items():
        if value is not None and not isinstance(value, Tensor):
            raise UnsupportedModelError(f"no plan node covers a computed {what} (at {name}); weights are constants")
    return {what: value.detach() for what, value in values.items() if value is not None}


def _through(b: Builder, name: str, x: Value, make: Callable[[], nn.Module], weights: dict[str, Tensor]) -> Value:
    """As the module of this kind, which is made without memory and then given the weights, and no others."""
    # One description of each layer is enough, the module's; the meta device gives one without allocating its weights.
    with torch.device("meta"):
        module = make()
    for what, _ in list(module.named_parameters()):
        setattr(module, what, None)
    for what, value in weights.items():
        is_buffer = what.startswith("running")
        setattr(module, what, value if is_buffer else nn.Parameter(value, requires_grad=False))
    return MODULES[type(module)](b, name, module, x)


def _conv(
    b: Builder,
    name: str,
    x: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return _convolution(b, name, x, weight, bias, nn.Conv2d, options)


def _transposed(
    b: Builder,
    name: str,
    x: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Value:
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options |= {"output_padding": output_padding}
    return _convolution(b, name, x, weight, bias, nn.ConvTranspose2d, options)


def _convolution(
    b: Builder, name: str, x: Value, weight: Any, bias: Any, kind: type[nn.Module], options: dict[str, Any]
) -> Value:
    weights = _weights(name, weight=weight, bias=bias)
    # [outputs, inputs of a group, k, k], and of a transposed convolution [inputs, outputs of a group, k, k].
    first, second, *kernel = weights["weight"].shape
    second *= options["groups"]
    channels = (first, second) if kind is nn.ConvTranspose2d else (second, first)
    options = {**options, "kernel_size": tuple(kernel), "bias": bias is not None}
    return _through(b, name, x, lambda: kind(*channels, **options), weights)


def _batch_norm(
    b: Builder,
    name: str,
    x: Value,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if training:
        raise UnsupportedModelError(f"no plan node covers batch normalisation in training (at {name}); call eval()")
    if running_mean is None or running_var is None:
        raise UnsupportedModelError(f"no plan node covers batch normalisation without running statistics (at {name})")
    weights = _weights(name, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    count = weights["running_mean"].numel()
    return _through(b, name, x, lambda: nn.BatchNorm2d(count, eps=eps, affine=weight is not None), weights)


def _instance_norm(
    b: Builder,
    name: str,
    x: Value,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if not use_input_stats:
        return _batch_norm(b, name, x, running_mean, running_var, weight, bias, eps=eps)
    if running_mean is not None or running_var is not None:
        raise UnsupportedModelError(f"no plan node covers instance normalisation in training (at {name}); call eval()")
    weights = _weights(name, weight=weight, bias=bias)
    count = max((values.numel() for values in weights.values()), default=1)
    return _through(b, name, x, lambda: nn.InstanceNorm2d(count, eps=eps, affine=bool(weights)), weights)


def _prelu(b: Builder, name: str, x: Value, weight: Any) -> Value:
    if not isinstance(x, str):
        raise UnsupportedModelError(f"no plan node covers prelu as a function inside a gate (at {name})")
    return b.emit(Activate(name, x, "prelu", _weights(name, weight=weight)["weight"].reshape(-1)))


FUNCTIONS: dict[Any, Callable[..., Value]] = {
    **ELEMENTWISE,
    torch.conv2d: _conv,
    F.conv2d: _conv,
    torch.conv_transpose2d: _transposed,
    F.conv_transpose2d: _transposed,
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    torch.prelu: _prelu,
    F.prelu: _prelu,
}
