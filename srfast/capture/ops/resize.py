"""Pools and resizes as capture meets them, with every option that PyTorch gives them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
from torch import nn

from srfast.capture.ops.conv import Builder, pair
from srfast.errors import UnsupportedModelError
from srfast.plan import Affine, Pool, Resize, ResizeMode
from srfast.plan.nodes import PoolKind

_LARGEST = 8  # denominator of a resize


def _pool(b: Builder, name: str, x: str, kind: PoolKind, kernel_size: Any, stride: Any, padding: Any) -> str:
    size = pair(kernel_size)
    if len(set(size)) > 1 or pair(stride or kernel_size) != size or pair(padding) != (0, 0):
        raise UnsupportedModelError(
            f"no plan node covers pooling of {kernel_size} with stride {stride} and padding {padding} (at {name}): "
            "the squares neither overlap nor reach over the border"
        )
    return b.emit(Pool(name, x, size[0], kind))


def average_pool(
    b: Builder,
    name: str,
    x: str,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> str:
    """Without padding there is none to count, and images of whole squares have no rest for ``ceil_mode``."""
    if divisor_override is None:
        return _pool(b, name, x, "average", kernel_size, stride, padding)
    mean = _pool(b, f"{name}_mean", x, "average", kernel_size, stride, padding)
    gain = torch.tensor([pair(kernel_size)[0] ** 2 / divisor_override], dtype=torch.float64)
    return b.emit(Affine(name, mean, gain, torch.zeros(1)))


def max_pool(
    b: Builder,
    name: str,
    x: str,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> str:
    """Emit ``F.max_pool2d``.

    Raises:
        UnsupportedModelError: it is dilated, or its indices are wanted.
    """
    if return_indices or pair(dilation) != (1, 1):
        raise UnsupportedModelError(
            f"no plan node covers max pooling with dilation={dilation}, return_indices={return_indices} (at {name}): "
            "undilated, the values alone"
        )
    return _pool(b, name, x, "max", kernel_size, stride, padding)


def interpolate(
    b: Builder,
    name: str,
    x: str,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> str:
    """A whole factor is the same recomputed, and enlarging has nothing to smooth: bilinear antialiasing weighs as without.

    Fractions are exact where the size of the result is, which the plan's alignment sees to.

    Bicubic antialiasing does not, as PyTorch gives it another cubic (a = -0.5, not -0.75).
    """
    factors = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
    alike = size is None and factors[0] == factors[1] and factors[0] is not None
    # 0.75 is exact in binary and 1/3 is not: what a small fraction does not equal exactly is refused, not approximated.
    factor = Fraction(float(factors[0])).limit_denominator(_LARGEST) if alike else Fraction(0)
    whole = alike and factor.denominator == 1
    fraction = alike and mode != "nearest" and not antialias and factor == float(factors[0]) and factor > 0
    modes: dict[str, ResizeMode] = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic"}
    if not (whole or fraction) or mode not in modes or align_corners or (antialias and mode != "bilinear"):
        raise UnsupportedModelError(
            f"no plan node covers interpolate(size={size}, scale_factor={scale_factor}, mode={mode!r}, "
            f"align_corners={align_corners}, antialias={antialias}) (at {name}): whole scale factors, or fractions such as "
            "3/4 without nearest; nearest, bilinear or bicubic without aligned corners, antialias with bilinear only"
        )
    return b.emit(Resize(name, x, int(factor) if whole else factor, modes[mode]))


def upsample(b: Builder, name: str, m: nn.Upsample, x: str) -> str:
    """Emit ``nn.Upsample``, which is ``F.interpolate`` with settings of its own."""
    return interpolate(b, name, x, m.size, m.scale_factor, m.mode, m.align_corners, m.recompute_scale_factor)
