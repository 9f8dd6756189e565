"""The sub-pixel identity: a convolution after a pixel shuffle is a convolution before it, at the lower resolution."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def _tap_index(kernel: int, factor: int) -> Tensor:
    """[factor(out phase), factor(in phase), new taps] -> tap of the old kernel, or ``kernel`` where there is none."""
    half = kernel // 2
    reach = -(-half // factor)
    out_phase = torch.arange(factor)[:, None, None]
    in_phase = torch.arange(factor)[None, :, None]
    shift = torch.arange(-reach, reach + 1)
    tap = factor * shift + in_phase - out_phase + half
    return torch.where((tap >= 0) & (tap < kernel), tap, kernel)


def conv_before_shuffle(weight: Tensor, factor: int) -> Tensor:
    """Rewrites the kernel of ``conv(pixel_shuffle(x, factor))`` as K of ``pixel_shuffle(conv_K(x), factor)``.

    Output pixel ``factor*Y + p`` reads input pixel ``factor*Y + p + d``, which is phase ``(p + d) mod factor`` of the
    low-resolution pixel ``Y + (p + d) // factor``: each tap moves to a channel and a whole-pixel shift. Zero padding at
    the high resolution equals zero padding at the low one. Differentiable.

    Args:
        weight: [O, C, k, k] with odd k, stride 1, padding k // 2.
        factor: pixel-shuffle factor r.

    Returns:
        [O*r*r, C*r*r, k', k'] with k' = 2 * ceil((k // 2) / r) + 1.
    """
    out_channels, in_channels, kernel, width = weight.shape
    if kernel != width or kernel % 2 == 0:
        raise ValueError(f"the kernel must be square and odd, not {kernel}x{width}")
    tap = _tap_index(kernel, factor).to(weight.device)
    padded = F.pad(weight, (0, 1, 0, 1))  # index `kernel` reads a zero
    # [O, C, p, i, a, q, j, b] -> [O, p, q, C, i, j, a, b]
    taps = padded[:, :, tap[:, :, :, None, None, None], tap[None, None, None]]
    taps = taps.permute(0, 2, 5, 1, 3, 6, 4, 7)
    size = taps.shape[-1]
    return taps.reshape(out_channels * factor**2, in_channels * factor**2, size, size)
