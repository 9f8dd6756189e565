"""Convolutions as capture meets them: modules, functions, and transposed ones; and what all converters share."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from srfast.capture.ops import attention as gates
from srfast.errors import UnsupportedModelError
from srfast.models.subpixel import conv_before_unshuffle, transposed_as_conv
from srfast.plan import Conv, Node, Unshuffle

Value: TypeAlias = Any  # an fx argument: the name of an activation, a constant, or part of a gate


class Builder(Protocol):
    """Where converters put their nodes; returns the name of what the node writes."""

    def emit(self, node: Node) -> str: ...


def pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def conv(b: Builder, name: str, m: nn.Conv2d, x: Value) -> Value:
    if not isinstance(x, str):
        return gates.conv(name, m, x)
    weight, stride = dense_weight(m), pair(m.stride)[0]
    kernel = m.kernel_size[0]
    padding = kernel // 2 if m.padding == "same" else m.padding
    square = kernel == m.kernel_size[1] and not isinstance(padding, str)
    plain = pair(m.dilation) == (1, 1) and m.padding_mode == "zeros" and pair(m.stride) == (stride, stride)
    # The output has exactly 1 / stride of the pixels.
    whole = square and -stride <= 2 * pair(padding)[0] - kernel <= -1 and len(set(pair(padding))) == 1
    if not (square and plain and whole):
        raise UnsupportedModelError(
            f"no plan node covers {m} (at {name}): convolutions are square, undilated, padded with zeros so that the size "
            "stays or is divided by the stride"
        )
    bias = m.bias.detach() if m.bias is not None else torch.zeros(m.out_channels, dtype=weight.dtype)
    if stride > 1:
        x = b.emit(Unshuffle(f"{name}_unshuffled", x, stride))
        return b.emit(Conv(name, x, conv_before_unshuffle(weight, stride, pair(padding)[0]), bias))
    if kernel % 2 == 0:
        raise UnsupportedModelError(f"no plan node covers {m} (at {name}): a convolution of stride 1 has an odd kernel")
    return b.emit(Conv(name, x, weight, bias))


def dense_weight(m: nn.Conv2d) -> Tensor:
    """[O, C, k, k] of a convolution; a grouped one gets zeros between its groups."""
    weight = m.weight.detach()
    if m.groups == 1:
        return weight
    dense = weight.new_zeros(m.out_channels, m.in_channels, *weight.shape[2:])
    rows, columns = m.out_channels // m.groups, m.in_channels // m.groups
    for g in range(m.groups):
        dense[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] = weight[g * rows : (g + 1) * rows]
    return dense


def transposed(b: Builder, name: str, m: nn.ConvTranspose2d, x: str) -> str:
    kernel, stride, padding = m.kernel_size[0], m.stride[0], pair(m.padding)[0]
    square = all(len(set(pair(v))) == 1 for v in (m.kernel_size, m.stride, m.padding, m.output_padding))
    whole = kernel + pair(m.output_padding)[0] - 2 * padding == stride
    if not (square and whole) or m.groups != 1 or pair(m.dilation) != (1, 1):
        raise UnsupportedModelError(
            f"no plan node covers {m} (at {name}): a transposed convolution is square, undilated, without groups, and "
            "multiplies the size by its stride (kernel + output_padding - 2 * padding = stride)"
        )
    weight = transposed_as_conv(m.weight.detach(), stride, padding)
    bias = m.bias.detach() if m.bias is not None else torch.zeros(m.out_channels, dtype=weight.dtype)
    return b.emit(Conv(name, x, weight, bias.repeat_interleave(stride**2), shuffle=stride))
