"""Convolutions as capture meets them: modules, functions, and transposed ones; and what all converters share."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srfast.capture.ops import attention as gates
from srfast.capture.places import Place, convolved
from srfast.capture.places import transposed as enlarged
from srfast.errors import UnsupportedModelError
from srfast.models.subpixel import conv_before_unshuffle, transposed_as_conv
from srfast.plan import Affine, Conv, Depthwise, Node, Unshuffle

Value: TypeAlias = Any  # an fx argument: the name of an activation, a constant, or part of a gate


class Builder(Protocol):
    """Where converters put their nodes."""

    def emit(self, node: Node, place: Place | None = None) -> str:
        """Returns the name of what the node writes; ``place`` is told where its pixels lie elsewhere than those it reads."""
        ...

    def place(self, name: str) -> Place:
        """Where the pixels of an activation lie."""
        ...


def pair(value: Any) -> tuple[int, int]:
    """Return a layer's setting for both axes, (vertical, horizontal), of a number or of two."""
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def conv(b: Builder, name: str, m: nn.Conv2d, x: Value) -> Value:
    """Emit a convolution; of a pooled value it is a part of a gate."""
    if not isinstance(x, str):
        return gates.conv(name, m, x)
    stride = pair(m.stride)[0]
    depthwise = m.groups == m.in_channels == m.out_channels > 1 and stride == 1
    weight = m.weight.detach() if depthwise else dense_weight(m)
    kernel = m.kernel_size[0]
    padding = kernel // 2 if m.padding == "same" else m.padding
    square = kernel == m.kernel_size[1] and not isinstance(padding, str)
    plain = pair(m.dilation) == (1, 1) and m.padding_mode == "zeros" and pair(m.stride) == (stride, stride)
    if not (square and plain and len(set(pair(padding))) == 1):
        raise UnsupportedModelError(
            f"no plan node covers {m} (at {name}): convolutions are square, undilated, padded with zeros on all sides alike"
        )
    try:
        place, padding = convolved(b.place(x), kernel, stride, pair(padding)[0])
    except ValueError as error:
        raise UnsupportedModelError(f"no plan node covers {m} (at {name}): {error}") from error
    bias = m.bias.detach() if m.bias is not None else torch.zeros(m.out_channels, dtype=weight.dtype)
    if stride > 1:
        # Its phases may begin at any pixel; the convolution's own shift puts them where the module has them.
        x = b.emit(Unshuffle(f"{name}_unshuffled", x, stride), place)
        return b.emit(Conv(name, x, conv_before_unshuffle(weight, stride, padding), bias), place)
    # An even kernel is an odd one with a row and a column of zeros at its end.
    if kernel % 2 == 0:
        weight = F.pad(weight, (0, 1, 0, 1))
    if depthwise and kernel == 1:
        return b.emit(Affine(name, x, weight.reshape(-1), bias), place)
    return b.emit((Depthwise if depthwise else Conv)(name, x, weight, bias), place)


def dense_weight(m: nn.Conv2d) -> Tensor:
    """[O, C, k, k] of a convolution; a grouped one gets zeros between its groups."""
    weight = m.weight.detach()
    if m.groups == 1:
        return weight
    # The kernels have no groups but of single channels: zeros between others are multiplied.
    dense = weight.new_zeros(m.out_channels, m.in_channels, *weight.shape[2:])
    rows, columns = m.out_channels // m.groups, m.in_channels // m.groups
    for g in range(m.groups):
        dense[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] = weight[g * rows : (g + 1) * rows]
    return dense


def transposed(b: Builder, name: str, m: nn.ConvTranspose2d, x: str) -> str:
    """Emit a transposed convolution as one of the small image with a pixel shuffle.

    Raises:
        UnsupportedModelError: it is dilated, in groups, not square, or its padding has no such form.
    """
    kernel, stride, padding = m.kernel_size[0], m.stride[0], pair(m.padding)[0]
    square = all(len(set(pair(v))) == 1 for v in (m.kernel_size, m.stride, m.padding, m.output_padding))
    if not square or m.groups != 1 or pair(m.dilation) != (1, 1):
        raise UnsupportedModelError(
            f"no plan node covers {m} (at {name}): a transposed convolution is square, undilated, without groups"
        )
    try:
        place, padding = enlarged(b.place(x), kernel, stride, padding, pair(m.output_padding)[0])
    except ValueError as error:
        raise UnsupportedModelError(f"no plan node covers {m} (at {name}): {error}") from error
    weight = transposed_as_conv(m.weight.detach(), stride, padding)
    bias = m.bias.detach() if m.bias is not None else torch.zeros(m.out_channels, dtype=weight.dtype)
    # Each phase of the larger image is a convolution of its own of the small one: one convolution with stride^2
    # times the outputs, and a pixel shuffle.
    return b.emit(Conv(name, x, weight, bias.repeat_interleave(stride**2), shuffle=stride), place)
