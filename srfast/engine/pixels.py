"""Images of every type to the network's units and back."""

from __future__ import annotations

import torch
from torch import Tensor

from srfast.errors import InputError

# White of each image type, and the dtype that reads and writes it.
PEAKS = {torch.uint8: 255.0, torch.uint16: 65535.0, torch.float32: 1.0, torch.float16: 1.0, torch.bfloat16: 1.0}
# The network sees and gives 0..255: integers that bfloat16 holds exactly, and float16 without subnormal weights.
UNITS = 255.0


def check_images(images: Tensor, channels: int) -> None:
    """Refuses what is not [N, H, W, channels] of a type in ``PEAKS``.

    Raises:
        InputError: it says what they are.
    """
    if images.ndim != 4 or images.shape[3] != channels or images.dtype not in PEAKS:
        kinds = ", ".join(str(t).removeprefix("torch.") for t in PEAKS)
        raise InputError(f"images must be [N, H, W, {channels}] of {kinds}, not {list(images.shape)} of {images.dtype}")
    if 0 in images.shape:
        raise InputError(f"images of {list(images.shape)} have no pixels")


def to_units(images: Tensor, dtype: torch.dtype, peak: float) -> Tensor:
    """[N, H, W, C] images -> [N, C, H, W] of ``dtype``, white as ``peak``, channels last in memory."""
    factor = peak / PEAKS[images.dtype]
    # uint8 values are exact in every dtype; others are scaled in float32 first.
    x = images.to(dtype) if factor == 1 else (images.float() * factor).to(dtype)
    return x.permute(0, 3, 1, 2)


def finite(y: Tensor) -> bool:
    """One reduction as a rule: NaN and infinities survive a sum. Only one that overflows needs a look at every value."""
    # A sum over values that are all finite may still overflow, or add infinities of both signs to NaN; then every value
    # counts.
    return bool(torch.isfinite(y.sum(dtype=torch.float32))) or bool(torch.isfinite(y).all())


def limit_(images: Tensor, low: float, high: float) -> None:
    """Limits images to a range within 0..1, in place; as rounding keeps the order, also after it."""
    if images.is_floating_point():
        images.clamp_(low, high)
    else:  # not every integer type has a clamp
        peak = PEAKS[images.dtype]
        images.copy_(images.to(torch.int32).clamp_(round(low * peak), round(high * peak)))


def store(y: Tensor, out: Tensor) -> None:
    """Converts from the network's units, rounding to nearest and saturating."""
    peak = PEAKS[out.dtype]
    if out.dtype == torch.uint8:
        out.copy_(y.round().clamp_(0, UNITS))
    elif out.dtype == torch.uint16:
        out.copy_((y.float() * (peak / UNITS)).round_().clamp_(0, peak))
    else:
        out.copy_((y.float() * (peak / UNITS)).clamp_(0, peak))
