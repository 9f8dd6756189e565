"""A Hopper convolution 3x3, 64 -> 64 channels, in Gluon: weights in registers, rows in shared memory. Never run so far.

A program walks down a strip of 64 pixels (128 need more registers than there are). The nine 64 x 64 weight matrices
stay in registers as the first operand of the matrix instructions; a ring of rows lies in shared memory, each row three
times, shifted by one pixel, so that a tap is a whole buffer and no address falls inside a swizzled tile. A pixel is
fetched three times instead of nine. Two programs share a multiprocessor: one multiplies while the other stores. Gluon
cannot be interpreted: ``triton.conv`` is the specification.
"""

# Triton compiles the kernels: its constants are upper case and its arguments have no Python types.
# ruff: noqa: ANN001, ANN201, N803
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import torch
import triton.experimental.gluon.language as gl
from triton.experimental import gluon
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from srfast.kernels.buffers import Canvas
from srfast.kernels.gluon.rows import strip_rows
from srfast.kernels.launch import KernelLaunch
from srfast.kernels.packing import ACTS, PackedConv
from srfast.kernels.params import Size, Weights, image_of

CHANNELS = 64
PIXELS = 64
# Rows in shared memory: three are multiplied while the fourth arrives.
RING = 4
# Its name in Triton 3.9, and the one in 3.6.
start_copy = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
_C = gl.constexpr(CHANNELS)
_RING = gl.constexpr(RING)


@gluon.jit
def load_row(x_desc, ring, ready, index, y, x, P: gl.constexpr):
    """Starts three copies of row ``y``, from pixels x - 1, x and x + 1 on, into slot ``index`` modulo the ring."""
    slot = index % _RING
    bar = ready.index(slot)
    # The barrier opens when all bytes are there. The copy engine (TMA) fills in zeros beyond the memory's ends, and counts
    # them too, so a row outside the image needs no case of its own.
    mbarrier.expect(bar, 3 * P * _C * 2)
    for dx in gl.static_range(3):
        start_copy(x_desc, [y, x + dx - 1, 0], bar, ring.index(slot * 3 + dx))


@gluon.jit
def tap_weights(w_ptr, TAP: gl.constexpr, acc_layout: gl.constexpr):
    """[64 out, 64 in] of one tap as the first operand, in registers."""
    rows: gl.constexpr = gl.BlockedLayout([1, 8], [4, 8], [4, 1], [1, 0])
    # wgmma takes its first operand from registers or shared memory, the second from shared memory only: with the weights
    # first, shared memory has to deliver the pixels alone.
    operand: gl.constexpr = gl.DotOperandLayout(0, acc_layout, 2)
    out = gl.arange(0, _C, layout=gl.SliceLayout(1, rows))
    channel = gl.arange(0, _C, layout=gl.SliceLayout(0, rows))
    return gl.convert_layout(gl.load(w_ptr + TAP * _C * _C + out[:, None] * _C + channel[None, :]), operand)


@gluon.jit
def strip_start(images, image, y, x):
    """Where pixel (y, x) of an image lies."""
    row = images.ptr + image.to(gl.int64) * images.image_stride + y.to(gl.int64) * images.row_stride
    return row + x * images.pixel_stride


@gluon.jit
def row_kernel(
    x_desc,
    weights,
    residual,
    out,
    rows_in_image,
    border,
    size,
    rows,
    P: gl.constexpr,
    PRELU: gl.constexpr,
    RESIDUAL: gl.constexpr,
):
    """``rows`` rows of a strip of P pixels; they hang on the image's size, and one compiled kernel is for all sizes."""
    # Four warps of 16 output channels each: the shape of wgmma's sums.
    acc_layout: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, P, 16])
    # For loads and stores a thread has 8 channels of a pixel, 16 bytes: the widest access there is.
    io: gl.constexpr = gl.BlockedLayout([8, 1], [8, 4], [1, 4], [0, 1])
    # A pixel's 64 channels are 128 bytes, the span of the widest swizzle, which wgmma reads without bank conflicts.
    shared: gl.constexpr = gl.NVMMASharedLayout(128, 16, 3)
    ring = gl.allocate_shared_memory(gl.float16, [_RING * 3, 1, P, _C], shared)
    ready = gl.allocate_shared_memory(gl.int64, [_RING, 1], mbarrier.MBarrierLayout())
    for slot in gl.static_range(_RING):
        mbarrier.init(ready.index(slot), count=1)
    # The copy engine sees what threads wrote to shared memory after such a fence only.
    fence_async_shared()
    x0 = gl.program_id(0) * P
    y0 = gl.program_id(1) * rows
    image = gl.program_id(2)
    top = image * rows_in_image + border + y0 - 1
    for ahead in gl.static_range(_RING - 1):
        load_row(x_desc, ring, ready, ahead, top + ahead, border + x0, P)
    w0 = tap_weights(weights.ptr, 0, acc_layout)
    w1 = tap_weights(weights.ptr, 1, acc_layout)
    w2 = tap_weights(weights.ptr, 2, acc_layout)
    w3 = tap_weights(weights.ptr, 3, acc_layout)
    w4 = tap_weights(weights.ptr, 4, acc_layout)
    w5 = tap_weights(weights.ptr, 5, acc_layout)
    w6 = tap_weights(weights.ptr, 6, acc_layout)
    w7 = tap_weights(weights.ptr, 7, acc_layout)
    w8 = tap_weights(weights.ptr, 8, acc_layout)
    taps = (w0, w1, w2, w3, w4, w5, w6, w7, w8)
    mbarrier.wait(ready.index(0), 0)
    mbarrier.wait(ready.index(1), 0)
    out_base = strip_start(out, image, y0, x0)
    res_base = strip_start(residual, image, y0, x0)
    channel = gl.arange(0, _C, layout=gl.SliceLayout(1, io))
    pixel = gl.arange(0, P, layout=gl.SliceLayout(0, io))
    acc_channel = gl.arange(0, _C, layout=gl.SliceLayout(1, acc_layout))
    for row in range(min(rows, size.height - y0)):
        # Its slot held the row two above, whose last reader was the row before this one.
        load_row(x_desc, ring, ready, row + 3, top + row + 3, border + x0, P)
        # A slot's barrier changes its phase each time the slot is filled: whose turn it is follows from the row's number.
        mbarrier.wait(ready.index((row + 2) % _RING), ((row + 2) // _RING) & 1)
        acc = gl.zeros([_C, P], gl.float32, acc_layout)
        for tap in gl.static_range(9):
            x = ring.index(((row + tap // 3) % _RING) * 3 + tap % 3).reshape([P, _C]).permute([1, 0])
            acc = warpgroup_mma(taps[tap], x, acc, is_async=True)
        acc = warpgroup_mma_wait(0, [acc])
        acc += gl.load(weights.bias + acc_channel)[:, None]
        if PRELU:
            acc = gl.where(acc > 0, acc, acc * gl.load(weights.slope + acc_channel)[:, None])
        mask = (x0 + pixel < size.width)[None, :]
        if RESIDUAL:
            offset = row * residual.row_stride + pixel[None, :] * residual.pixel_stride + channel[:, None]
            acc += gl.convert_layout(gl.load(res_base + offset, mask=mask, other=0.0), acc_layout).to(gl.float32)
        result = gl.convert_layout(acc.to(gl.float16), io)
        offset = row * out.row_stride + pixel[None, :] * out.pixel_stride + channel[:, None]
        gl.store(out_base + offset, result, mask=mask)
    # The rows asked for beyond the last one must arrive before the memory is given back.
    asked = min(rows, size.height - y0) + 2
    mbarrier.wait(ready.index(asked % _RING), (asked // _RING) & 1)


def fits(x: Canvas, conv: PackedConv, out: object, residual: Canvas | None) -> bool:
    """Whether this kernel can run a convolution: 3x3, 64 to 64 channels of float16, bias, PReLU and residual only."""
    widths = (conv.in_channels, conv.channels, conv.block_c, conv.block_o)
    rest = (conv.kernel, conv.shuffle, conv.gain, conv.clamp)
    if widths != 4 * (CHANNELS,) or rest != (3, 1, 1.0, None) or not isinstance(out, Canvas):
        return False
    size = (x.images, x.height, x.width, CHANNELS, torch.float16, x.data.device)
    canvases = (x, out, x if residual is None else residual)
    alike = all((c.images, c.height, c.width, c.channels, c.data.dtype, c.data.device) == size for c in canvases)
    return alike and conv.act in (ACTS["none"], ACTS["prelu"]) and x.border >= 1 and x.pixel_stride == CHANNELS


def multiprocessors(device: torch.device) -> int:
    """Return how many multiprocessors a GPU has, an H200's for what is compiled without one."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 132


def row_launch(x: Canvas, conv: PackedConv, out: Canvas, residual: Canvas | None = None, rows: int = 0) -> KernelLaunch:
    """A function that runs the convolution on a Hopper GPU, ``rows`` rows of a strip in a program.

    Args:
        x, conv, out, residual: as of ``triton.conv.conv_launch``.
        rows: 0 takes those of full waves, see ``gluon.rows``.

    Raises:
        ValueError: ``fits`` says no.
    """
    strips = -(-x.width // PIXELS)
    if rows == 0:
        rows = strip_rows(x.images, x.height, strips, multiprocessors(x.data.device))
    if not fits(x, conv, out, residual) or rows < 1:
        raise ValueError("this kernel is a 3x3 convolution of 64 to 64 channels in float16, of at least one row")
    layout = gl.NVMMASharedLayout(128, 16, 3)
    flat = x.data.view(-1, x.data.shape[2], CHANNELS)
    descriptor = TensorDescriptor(flat, list(flat.shape), list(flat.stride()), [1, PIXELS, CHANNELS], layout)
    res = out if residual is None else residual
    args = (
        descriptor,
        Weights(conv.weight, conv.bias, conv.slope),
        image_of(res),
        image_of(out),
        x.data.shape[1],
        x.border,
        Size(x.height, x.width),
        rows,
        PIXELS,
        conv.act == ACTS["prelu"],
        residual is not None,
    )
    grid = (strips, -(-x.height // rows), x.images)
    return KernelLaunch(row_kernel, grid, *args, num_warps=4)
