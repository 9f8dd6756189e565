"""Checked launches of a run of 3x3 convolutions of 64 channels in one CUDA kernel for Hopper: the trunk of a network.

The reference are launches of ``kernels.cuda.hopper`` one after another, whose bits it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from srfast.kernels import cuda
from srfast.kernels.buffers import Canvas
from srfast.kernels.cuda.conv import conv_params, view
from srfast.kernels.cuda.hopper import block_count, hopper_reason, strip_rows
from srfast.kernels.cuda.launch import current_stream, dtype_of, launch_of
from srfast.kernels.cuda.pack import CudaConv
from srfast.kernels.targets import check_canvas

COLUMNS = 64  # of a strip
MOST_LAYERS, MOST_IMAGES = 128, 8  # csrc/cuda/trunk.h


@dataclass(frozen=True)
class CudaTrunk:
    """Convolutions packed for one launch.

    Attributes:
        convs: in order.
        weight: [layers, 36, 128, 8], see ``CudaConv.fragments``.
        bias, slope: [layers * 64] float32; a slope of 1 where nothing follows the sums.
    """

    convs: tuple[CudaConv, ...]
    weight: Tensor
    bias: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Layer:
    """Where a convolution of a trunk reads and writes: ``residual`` may be ``out``, ``source`` may not."""

    source: Canvas
    out: Canvas
    residual: Canvas | None = None

    @property
    def canvases(self) -> tuple[Canvas, ...]:
        """Return all of them."""
        return self.source, self.out, *(() if self.residual is None else (self.residual,))


def conv_fits(conv: CudaConv, residual: bool) -> str | None:
    """Why a convolution cannot be one of a trunk; None if it can. ``residual``: whether it has one."""
    shape = (conv.kernel, conv.in_channels, conv.channels, conv.variant.block_c, conv.variant.block_o)
    if shape != (3, 64, 64, 64, 64):
        return (
            "a trunk is of 3x3 convolutions of 64 channels, "
            f"not {conv.kernel}x{conv.kernel} of {conv.in_channels} to {conv.channels}"
        )
    if conv.act not in ("none", "prelu") or conv.shuffle != 1 or conv.clamp:
        return "a convolution of a trunk ends in a PReLU or in nothing"
    return None if residual or conv.gain == 1.0 else "a convolution of a trunk has a gain before a residual only"


def resident_blocks(dtype: torch.dtype, device: torch.device) -> int:
    """Blocks of threads that the device has room for at the same time."""
    kind = dtype_of(torch.empty(0, dtype=dtype))
    return cuda.compiled.TrunkLaunch.resident_blocks(dtype=kind, stream=current_stream(device))


def trunk_reason(dtype: torch.dtype, device: torch.device) -> str | None:
    """Why a device cannot run a trunk in one launch; None if it can."""
    reason = hopper_reason(device)
    if reason is None and resident_blocks(dtype, device) < 1:
        return "its blocks of threads wait for each other, and this GPU has no room for one of them"
    return reason


def layers_fit(layers: Sequence[Layer]) -> str | None:
    """Why the canvases cannot be those of a trunk; None if they can."""
    try:
        images = _Images()
        for layer in layers:
            _check_layer(layer, layers[0].source)
            for canvas in layer.canvases:
                images.number(canvas)
    except ValueError as error:
        return str(error)
    return None


def pack_trunk(convs: Sequence[CudaConv]) -> CudaTrunk:
    """Puts packed convolutions in the order of the kernel.

    Raises:
        ValueError: there is none, or too many, or they are none of a trunk, or they differ in dtype or device.
    """
    if not 1 <= len(convs) <= MOST_LAYERS:
        raise ValueError(f"a trunk has 1 to {MOST_LAYERS} convolutions, not {len(convs)}")
    for reason in (conv_fits(conv, residual=True) for conv in convs):
        if reason:
            raise ValueError(reason)
    kinds = {(conv.weight.dtype, conv.weight.device) for conv in convs}
    if len(kinds) > 1:
        raise ValueError(f"the weights of a trunk are of one dtype on one device, not {sorted(map(str, kinds))}")
    slopes = [conv.slope if conv.act == "prelu" else torch.ones_like(conv.slope) for conv in convs]
    weight = torch.cat([conv.fragments for conv in convs]).contiguous()
    return CudaTrunk(tuple(convs), weight, torch.cat([conv.bias for conv in convs]), torch.cat(slopes))


def trunk_launch(
    trunk: CudaTrunk, layers: Sequence[Layer], *, blocks: int | None = None, rows: int | None = None
) -> cuda.Launch:
    """A function that runs the convolutions one after another, with the bits of launches of ``hopper_launch``.

    Two runs of it at the same time are an error, as they are of anything that writes to the same canvases.

    Args:
        trunk: the convolutions.
        layers: canvases of each, all of one size with pixels and rows alike. An image may be overwritten as soon as no later
            layer reads it.
        blocks: of threads, at most; by default as many as the GPU has room for at the same time, one on a multiprocessor.
        rows: of a strip; by default those with the least work for the busiest block.

    Raises:
        ValueError: the convolutions or the GPU are others than the kernel's, or shapes, strides, dtypes or devices do not fit.
    """
    if len(layers) != len(trunk.convs):
        raise ValueError(f"{len(trunk.convs)} convolutions of a trunk need as many layers, not {len(layers)}")
    first = layers[0].source
    for conv, layer in zip(trunk.convs, layers, strict=True):
        if reason := conv_fits(conv, layer.residual is not None):
            raise ValueError(reason)
        _check_layer(layer, first)
    cuda.check_device(first.data)
    if reason := trunk_reason(first.data.dtype, first.data.device):
        raise ValueError(f"a trunk cannot run here: {reason}")
    room = resident_blocks(first.data.dtype, first.data.device)
    blocks = min(room, block_count(first.data.device) if blocks is None else blocks)
    if rows is None:
        rows = strip_rows(first.images, first.height, first.width, COLUMNS, blocks)
    images = _Images()
    made = [
        cuda.compiled.TrunkLayer(
            source=images.number(layer.source),
            out=images.number(layer.out),
            residual=None if layer.residual is None else images.number(layer.residual),
            prelu=layer.residual is None or conv.act == "prelu",
            gain=conv.gain,
        )
        for conv, layer in zip(trunk.convs, layers, strict=True)
    ]
    strips = first.images * -(-first.height // rows) * -(-first.width // COLUMNS)
    counters = torch.zeros(strips, dtype=torch.int32, device=first.data.device)
    every = replace(trunk.convs[0], bias=trunk.bias, slope=trunk.slope, act="prelu", gain=1.0)
    prepared = cuda.compiled.TrunkLaunch(
        dtype=dtype_of(first.data),
        rows=rows,
        blocks=blocks,
        conv=conv_params(first, every, layers[0].out, None, weight=trunk.weight),
        images=images.addresses,
        counters=counters.data_ptr(),
        layers=made,
    )
    return launch_of(prepared, (trunk, tuple(layers), counters), first.data.device)


def _check_layer(layer: Layer, first: Canvas) -> None:
    strides = (first.image_stride, first.row_stride, first.pixel_stride)
    for canvas in layer.canvases:
        check_canvas(canvas, first, 64, (first.height, first.width))
        view(canvas, 16)  # which checks where its pixels begin
        if (canvas.image_stride, canvas.row_stride, canvas.pixel_stride) != strides:
            raise ValueError("the canvases of a trunk have the same strides; allocate them alike")
    # A strip reads pixels around its own, which another block may have overwritten by then.
    if layer.out.at(0, 0).data_ptr() == layer.source.at(0, 0).data_ptr():
        raise ValueError("a convolution of a trunk cannot write to the canvas that it reads")


class _Images:
    """Numbers canvases by where they lie."""

    def __init__(self) -> None:
        self.addresses: list[int] = []

    def number(self, canvas: Canvas) -> int:
        address = canvas.at(0, 0).data_ptr()
        if address not in self.addresses:
            if len(self.addresses) == MOST_IMAGES:
                raise ValueError(f"the layers of a trunk read and write at most {MOST_IMAGES} canvases")
            self.addresses.append(address)
        return self.addresses.index(address)
