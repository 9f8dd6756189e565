"""The reference backend: every node in plain torch, the specification of all others."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import singledispatch
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.backends.base import Executable, FunctionExecutable, TilingTraits, release_after
from srfast.kernels.reference import activate, conv_reference, depthwise_reference
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
    ResizeMode,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
)
from srfast.plan.nodes import tensors


@dataclass(frozen=True)
class ReferenceBackend:
    """Runs any plan on any device and floating dtype."""

    name: ClassVar[str] = "reference"

    def device_reasons(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        return [] if dtype.is_floating_point else [f"{dtype} is not a floating type"]

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        return self.device_reasons(device, dtype)

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        plan = placed(plan, device, dtype)
        release = release_after(plan)

        @torch.inference_mode()
        def run(x: Tensor) -> Tensor:
            values = {plan.input: x}
            with torch.autocast(device.type, enabled=False):  # the dtype is the one that was asked for
                for node, unused in zip(plan.nodes, release, strict=True):
                    values[node.output] = run_node(node, values)
                    for name in unused:
                        del values[name]
            return values[plan.output]

        return FunctionExecutable(run, TilingTraits.of(plan))


def placed(plan: Plan, device: torch.device, dtype: torch.dtype) -> Plan:
    """Return the plan with all its weights, those of modules that PyTorch runs too, on a device in a dtype."""
    return plan.with_nodes([placed_node(node, device, dtype) for node in plan.nodes], check=False)


def placed_node(node: Node, device: torch.device, dtype: torch.dtype) -> Node:
    """Return one node so."""
    fields: dict[str, Any] = {name: tensor.to(device, dtype) for name, tensor in tensors(node).items()}
    # A copy: the module is somebody else's, who may go on with it elsewhere or in another dtype.
    if isinstance(node, Eager):
        fields["module"] = copy.deepcopy(node.module).to(device, dtype)
    return replace(node, **fields) if fields else node


@singledispatch
def run_node(node: Node, values: Mapping[str, Tensor]) -> Tensor:
    """Evaluate one node in plain torch.

    Args:
        node: any operation of a plan.
        values: the activations written so far, by name, [N, C, H, W].

    Returns:
        The node's result, in the dtype of its input.
    """
    raise NotImplementedError(f"the reference backend has no {type(node).__name__}")


@run_node.register
def _(node: Conv, values: Mapping[str, Tensor]) -> Tensor:
    sources = [values[name] for name in node.sources]
    return conv_reference(
        torch.cat(sources, 1) if node.more else sources[0],
        node.weight,
        node.bias,
        act=node.act,
        slope=node.slope,
        shuffle=node.shuffle,
        gain=node.gain,
        residual=None if node.residual is None else values[node.residual],
        clamp=node.clamp,
    )


@run_node.register
def _(node: Depthwise, values: Mapping[str, Tensor]) -> Tensor:
    return depthwise_reference(values[node.input], node.weight, node.bias, act=node.act, slope=node.slope)


@run_node.register
def _(node: Eager, values: Mapping[str, Tensor]) -> Tensor:
    given = [values[name].contiguous() for name in node.inputs]  # as networks expect, which view them
    y: Tensor = node.module(*given)
    return y.to(given[0].dtype)


@run_node.register
def _(node: Affine, values: Mapping[str, Tensor]) -> Tensor:
    x = values[node.input]
    return x * node.scale.to(x.dtype).view(1, -1, 1, 1) + node.shift.to(x.dtype).view(1, -1, 1, 1)


@run_node.register
def _(node: Activate, values: Mapping[str, Tensor]) -> Tensor:
    return activate(values[node.input], node.act, node.slope)


@run_node.register
def _(node: Shuffle, values: Mapping[str, Tensor]) -> Tensor:
    return F.pixel_shuffle(values[node.input], node.factor)


@run_node.register
def _(node: Unshuffle, values: Mapping[str, Tensor]) -> Tensor:
    return F.pixel_unshuffle(values[node.input], node.factor)


@run_node.register
def _(node: Pool, values: Mapping[str, Tensor]) -> Tensor:
    return (F.avg_pool2d if node.kind == "average" else F.max_pool2d)(values[node.input], node.factor)


@run_node.register
def _(node: Add, values: Mapping[str, Tensor]) -> Tensor:
    return values[node.input] + values[node.other]


@run_node.register
def _(node: Multiply, values: Mapping[str, Tensor]) -> Tensor:
    return values[node.input] * values[node.other]


@run_node.register
def _(node: Concat, values: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([values[name] for name in node.inputs], 1)


@run_node.register
def _(node: Clamp, values: Mapping[str, Tensor]) -> Tensor:
    return values[node.input].clamp(node.low, node.high)


@run_node.register
def _(node: Resize, values: Mapping[str, Tensor]) -> Tensor:
    return resize(values[node.input], node)


@run_node.register
def _(node: Slice, values: Mapping[str, Tensor]) -> Tensor:
    return values[node.input][:, node.first : node.first + node.count]


@run_node.register
def _(node: GroupNorm, values: Mapping[str, Tensor]) -> Tensor:
    return _group_norm(values[node.input], node)


@run_node.register
def _(node: PixelNorm, values: Mapping[str, Tensor]) -> Tensor:
    return _pixel_norm(values[node.input], node)


@run_node.register
def _(node: InstanceNorm, values: Mapping[str, Tensor]) -> Tensor:
    return _instance_norm(values[node.input], node)


@run_node.register
def _(node: ChannelGate, values: Mapping[str, Tensor]) -> Tensor:
    x = values[node.input]
    return x * channel_gains(x, node)


@run_node.register
def _(node: SpatialGate, values: Mapping[str, Tensor]) -> Tensor:
    x = values[node.input]
    return x * pixel_gains(x, node)


def _instance_norm(x: Tensor, node: InstanceNorm) -> Tensor:
    """Moments in float32 at least: a half-precision sum over an image loses them."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    variance, mean = torch.var_mean(wide, (2, 3), correction=0, keepdim=True)
    y = (wide - mean) * torch.rsqrt(variance + node.eps)
    return (y * node.scale.to(y.dtype).view(1, -1, 1, 1) + node.shift.to(y.dtype).view(1, -1, 1, 1)).to(x.dtype)


def _group_norm(x: Tensor, node: GroupNorm) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()
    scale, shift = (values.to(wide.dtype).expand(x.shape[1]) for values in (node.scale, node.shift))
    return F.group_norm(wide, node.groups, scale, shift, node.eps).to(x.dtype)


def _pixel_norm(x: Tensor, node: PixelNorm) -> Tensor:
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if node.centred:
        variance, mean = torch.var_mean(wide, 1, correction=0, keepdim=True)
        y = (wide - mean) * torch.rsqrt(variance + node.eps)
    else:
        y = wide / (torch.sqrt(wide.square().mean(1, keepdim=True)) + node.eps)
    return (y * node.scale.to(y.dtype).view(1, -1, 1, 1) + node.shift.to(y.dtype).view(1, -1, 1, 1)).to(x.dtype)


def channel_gains(x: Tensor, node: ChannelGate) -> Tensor:
    """[N, C, 1, 1] gains of a squeeze-excitation, computed in float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    before, after = node.inset
    inner = x[:, :, before : x.shape[2] - after, before : x.shape[3] - after]
    if node.moment == "mean":
        moment = inner.mean((2, 3), dtype=dtype)
    else:
        variance, mean = torch.var_mean(inner.to(dtype), (2, 3), correction=0)
        moment = torch.sqrt(variance) + mean
    hidden = F.linear(moment, node.squeeze.to(dtype), node.squeeze_bias.to(dtype))
    hidden = F.prelu(hidden, node.slope.to(dtype))
    sums = F.linear(hidden, node.expand.to(dtype), node.expand_bias.to(dtype))
    gains = torch.sigmoid(sums) if node.curve == "sigmoid" else F.hardsigmoid(sums)
    return gains.to(x.dtype)[:, :, None, None]


def pixel_gains(x: Tensor, node: SpatialGate) -> Tensor:
    """[N, 1, H, W] gains of a spatial attention."""
    moments = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
    padding = node.weight.shape[-1] // 2
    return torch.sigmoid(F.conv2d(moments, node.weight.to(x.dtype), node.bias.to(x.dtype), padding=padding))


def resize(x: Tensor, node: Resize) -> Tensor:
    """``interpolate``, with weights that do not depend on where a pixel is.

    ``interpolate`` computes them from each position in floating point, so that for factors such as 3 a tile would differ from
    the whole image in the last bit.
    """
    if node.mode == "nearest":
        return F.interpolate(x, scale_factor=int(node.factor), mode="nearest")
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    if not isinstance(node.factor, int):
        return _resampled(_resampled(wide, node, 2), node, 3).to(x.dtype)
    taps = resize_weights(node.factor, node.mode)
    return _stretched(_stretched(wide, taps, 2), taps, 3).to(x.dtype)


def _resampled(x: Tensor, node: Resize, dim: int) -> Tensor:
    """By a fraction p / q: p results come from q pixels, each with weights of its own."""
    factor, length = Fraction(node.factor), x.shape[dim]
    count = length // factor.denominator  # whole groups, as the plan's alignment has it
    phases = []
    for phase in range(factor.numerator):
        position = (phase + Fraction(1, 2)) / factor - Fraction(1, 2)
        first = math.floor(position)
        taps = range(first - 1, first + 3)
        distances = [abs(float(position - tap)) for tap in taps]
        weights = [max(0.0, 1 - d) if node.mode == "bilinear" else _cubic(d) for d in distances]
        # Beyond the border stands the pixel at it, as in PyTorch.
        starts = torch.arange(count, device=x.device) * factor.denominator
        terms = [
            x.index_select(dim, (starts + tap).clamp_(0, length - 1)) * w
            for tap, w in zip(taps, weights, strict=True)
            if w
        ]
        phases.append(sum(terms[1:], terms[0]))
    return torch.stack(phases, dim + 1).flatten(dim, dim + 1)


def resize_weights(factor: int, mode: ResizeMode) -> list[list[float]]:
    """For each pixel that comes from one, the weights of that one and its neighbours, from -reach to reach."""
    if mode == "nearest":
        return [[1.0]] * factor
    reach = 1 if mode == "bilinear" else 2
    phases = []
    for phase in range(factor):
        position = (phase + 0.5) / factor - 0.5
        distances = [abs(position - tap) for tap in range(-reach, reach + 1)]
        phases.append([max(0.0, 1 - d) if mode == "bilinear" else _cubic(d) for d in distances])
    return phases


def _cubic(d: float, a: float = -0.75) -> float:
    """Keys 1981 (https://doi.org/10.1109/TASSP.1981.1163711), with PyTorch's parameter."""
    if d < 1:
        return ((a + 2) * d - (a + 3)) * d * d + 1
    return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a if d < 2 else 0.0


def _stretched(x: Tensor, taps: list[list[float]], dim: int) -> Tensor:
    reach, length = len(taps[0]) // 2, x.shape[dim]
    index = torch.arange(-reach, length + reach, device=x.device).clamp_(0, length - 1)
    padded = x.index_select(dim, index)
    parts = []
    # All pixels of one phase take the same weights, so each phase is a weighted sum of shifted images.
    for weights in taps:
        terms = [padded.narrow(dim, i, length) * w for i, w in enumerate(weights) if w]
        parts.append(sum(terms[1:], terms[0]))
    return torch.stack(parts, dim + 1).flatten(dim, dim + 1)
