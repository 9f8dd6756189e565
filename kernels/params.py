"""Parameters of the Triton kernels by name: images in memory, a convolution's weights, and what is fixed at compile time.

A kernel takes named tuples, whose fields Triton passes one by one; ``tl.constexpr`` fields are part of the compiled
kernel and cost no parameter. Two strides that change places are then an error that can be seen, and a kernel's call is
as long as its signature.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import triton
import triton.language as tl
from torch import Tensor

from srfast.kernels.buffers import Canvas

# Kernels are plain Python functions under TRITON_INTERPRET=1, which counts when Triton decorates them.
INTERPRETED: bool = triton.knobs.runtime.interpret

Fields = TypeVar("Fields", bound="tuple[Any, ...]")


class Image(NamedTuple):
    """Images in memory: the first element, and how many elements lie between neighbours.

    ``ptr`` may lie anywhere in the images; the strides lead from there to the same channel of the next image, row, pixel.
    """

    ptr: Any
    image_stride: Any
    row_stride: Any
    pixel_stride: Any
    channel_stride: Any = 1


class Weights(NamedTuple):
    """A packed convolution's weights [taps * blocks_c, output channels, block_c], biases and slopes."""

    ptr: Any
    bias: Any
    slope: Any


class Result(NamedTuple):
    """Where a convolution stores: images as in ``Image``, their size, and the flag that values are not finite."""

    ptr: Any
    image_stride: Any
    row_stride: Any
    pixel_stride: Any
    flag: Any
    height: Any
    width: Any


class Scalars(NamedTuple):
    """The gain of a convolution's result and its limits; unused ones are still passed."""

    gain: Any
    low: Any
    high: Any


class Size(NamedTuple):
    """Height and width in pixels."""

    height: Any
    width: Any


class Regions(NamedTuple):
    """How many regions a batch is cut into, and how many of them lie below and beside one another in an image."""

    all: Any
    down: Any
    across: Any


class Place(NamedTuple):
    """The pixels of a program: the image, the first row and column, and each pixel's distance from there."""

    image: Any
    y: Any
    x: Any
    down: Any
    across: Any


class Shape(NamedTuple):
    """What is compiled in of a convolution's weights and activation; see ``PackedConv``.

    rows, columns: taps. A tap's channels come in ``blocks_c`` blocks of ``block_c``.
    """

    rows: Any
    columns: Any
    blocks_c: Any
    block_c: Any
    channels: Any
    block_o: Any
    act: Any


class Ending(NamedTuple):
    """What is compiled in of the rest of a convolution.

    residual: 0 for none, 1 for one of the result's size, r for one that is enlarged r times.
    peak, steps: of integer results, the largest value and the steps for 1.0; a peak of 0 is floating point.
    """

    shuffle: Any
    gain: Any
    residual: Any
    clamp: Any
    peak: Any
    steps: Any
    reverse: Any


class Product(NamedTuple):
    """How the sums of ``pixels`` pixels are made; ``swap`` and ``stages`` as in ``Config``.

    upcast: multiply in float32, since Triton's interpreter cannot multiply bfloat16.
    """

    pixels: Any
    swap: Any
    stages: Any
    upcast: Any


def image_of(canvas: Canvas, y: int = 0, x: int = 0) -> Image:
    """Return a canvas's images from pixel (y, x) on; negative coordinates lie in the border."""
    return Image(canvas.at(y, x), canvas.image_stride, canvas.row_stride, fixed(canvas.pixel_stride))


def strided(images: Tensor) -> Image:
    """Return images [N, H, W, C] of any strides."""
    return Image(images, *images.stride())


def compiled_in(fields: Fields) -> Fields:
    """Return the same fields as compile-time constants."""
    return type(fields)(*map(fixed, fields))


def fixed(value: Any) -> Any:
    """Return a value as a compile-time constant; Triton's interpreter has no such thing and takes it as it is."""
    return value if INTERPRETED else tl.constexpr(value)
