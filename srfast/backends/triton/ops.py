"""The launches of every node that is no convolution."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

from srfast.kernels.buffers import Canvas
from srfast.kernels.configs import conv_key, device_names
from srfast.kernels.packing import pack_conv
from srfast.kernels.triton.config import find_config, find_depthwise_config
from srfast.kernels.triton.conv import conv_launch
from srfast.kernels.triton.depthwise import depthwise_launch
from srfast.kernels.triton.frames import copy_launch
from srfast.kernels.triton.moments import gains_launch, norm_launch, pixel_moments_launch, pixel_norm_launch
from srfast.kernels.triton.pointwise import pointwise_launch
from srfast.kernels.triton.pool import pool_launch
from srfast.kernels.triton.resize import resize_launch
from srfast.kernels.triton.shuffle import shuffle_launch, unshuffle_launch
from srfast.plan import (
    Activate,
    Add,
    Affine,
    ChannelGate,
    Clamp,
    Concat,
    Depthwise,
    GroupNorm,
    InstanceNorm,
    Multiply,
    Node,
    PixelNorm,
    Pool,
    Resize,
    Shuffle,
    Slice,
    SpatialGate,
    Unshuffle,
)

Launches = list[Callable[[], None]]
# These write a pixel from the same pixel of their inputs, so the result may replace an input. Gates and norms look at
# other pixels too, but before they write.
IN_PLACE = (
    Affine,
    Activate,
    Clamp,
    Add,
    Multiply,
    InstanceNorm,
    GroupNorm,
    PixelNorm,
    ChannelGate,
    SpatialGate,
)


@singledispatch
def small_launches(node: Node, inputs: list[Canvas], out: Canvas) -> Launches:
    """What runs ``node`` on the canvases of ``node.inputs`` into ``out``."""
    raise NotImplementedError(f"no kernel for {type(node).__name__}")


@small_launches.register
def _(node: Affine, inputs: list[Canvas], out: Canvas) -> Launches:
    return [pointwise_launch(inputs[0], out, scale=node.scale, shift=node.shift)]


@small_launches.register
def _(node: Activate, inputs: list[Canvas], out: Canvas) -> Launches:
    return [pointwise_launch(inputs[0], out, act=node.act, slope=node.slope)]


@small_launches.register
def _(node: Clamp, inputs: list[Canvas], out: Canvas) -> Launches:
    return [pointwise_launch(inputs[0], out, clamp=(node.low, node.high))]


@small_launches.register
def _(node: Add, inputs: list[Canvas], out: Canvas) -> Launches:
    return [pointwise_launch(inputs[0], out, other=inputs[1])]


@small_launches.register
def _(node: Multiply, inputs: list[Canvas], out: Canvas) -> Launches:
    return [pointwise_launch(inputs[0], out, other=inputs[1], multiply=True)]


@small_launches.register
def _(node: Depthwise, inputs: list[Canvas], out: Canvas) -> Launches:
    config = find_depthwise_config(device_names(out.data.device), node.kernel)
    return [depthwise_launch(inputs[0], out, node.weight, node.bias, config, act=node.act, slope=node.slope)]


@small_launches.register
def _(node: Concat, inputs: list[Canvas], out: Canvas) -> Launches:
    return joined_launches(inputs, out)


@small_launches.register
def _(node: Shuffle, inputs: list[Canvas], out: Canvas) -> Launches:
    return [shuffle_launch(inputs[0], out, node.factor)]


@small_launches.register
def _(node: Unshuffle, inputs: list[Canvas], out: Canvas) -> Launches:
    return [unshuffle_launch(inputs[0], out, node.factor)]


@small_launches.register
def _(node: Pool, inputs: list[Canvas], out: Canvas) -> Launches:
    return [pool_launch(inputs[0], out, node.factor, node.kind)]


@small_launches.register
def _(node: Resize, inputs: list[Canvas], out: Canvas) -> Launches:
    assert isinstance(node.factor, int)
    return [resize_launch(inputs[0], out, node.factor, node.mode)]


@small_launches.register
def _(node: InstanceNorm, inputs: list[Canvas], out: Canvas) -> Launches:
    moments, scale, shift = norm_launch(inputs[0], node.scale, node.shift, node.eps)
    return [moments, pointwise_launch(inputs[0], out, scale=scale, shift=shift)]


@small_launches.register
def _(node: GroupNorm, inputs: list[Canvas], out: Canvas) -> Launches:
    moments, scale, shift = norm_launch(inputs[0], node.scale, node.shift, node.eps, node.groups)
    return [moments, pointwise_launch(inputs[0], out, scale=scale, shift=shift)]


@small_launches.register
def _(node: PixelNorm, inputs: list[Canvas], out: Canvas) -> Launches:
    return [pixel_norm_launch(inputs[0], out, node.scale, node.shift, node.eps, node.centred)]


@small_launches.register
def _(node: Slice, inputs: list[Canvas], out: Canvas) -> Launches:
    return joined_launches([inputs[0].channel_slice(node.first, node.count)], out)


@small_launches.register
def _(node: ChannelGate, inputs: list[Canvas], out: Canvas) -> Launches:
    weights = (node.squeeze, node.squeeze_bias, node.expand, node.expand_bias, node.slope)
    contrast, hard = node.moment == "contrast", node.curve == "hardsigmoid"
    moments, gains = gains_launch(inputs[0].inner(*node.inset), *weights, contrast=contrast, hard=hard)
    return [moments, pointwise_launch(inputs[0], out, scale=gains)]


@small_launches.register
def _(node: SpatialGate, inputs: list[Canvas], out: Canvas) -> Launches:
    """Moments of each pixel, a convolution of these two channels, a product."""
    x, data = inputs[0], inputs[0].data
    kernel = node.weight.shape[-1]
    config = find_config(device_names(data.device), conv_key(2, 1, kernel))
    gate = pack_conv(
        node.weight, node.bias, act="sigmoid", block_o=config.block_o, dtype=data.dtype, device=data.device
    )
    size = (x.height, x.width)
    moments = Canvas.allocate(
        x.images, 2, *size, border=kernel // 2, tile=config.tile, dtype=data.dtype, device=data.device
    )
    gains = Canvas.allocate(x.images, 1, *size, dtype=data.dtype, device=data.device)
    return [
        pixel_moments_launch(x, moments),
        conv_launch(moments, gate, gains, config),
        pointwise_launch(x, out, other=gains, multiply=True),
    ]


def joined_launches(parts: list[Canvas], out: Canvas) -> Launches:
    """Copies of ``parts``, their channels in a row in ``out``."""
    copies: Launches = []
    first = 0
    for part in parts:
        target = out.channel_slice(first, part.channels)
        copies.append(copy_launch(part.nchw().permute(0, 2, 3, 1), target.nchw().permute(0, 2, 3, 1)))
        first += part.channels
    return copies
