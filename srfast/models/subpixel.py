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


def conv_after_shuffle(weight: Tensor, factor: int) -> Tensor | None:
    """The kernel of which ``conv_before_shuffle`` makes ``weight``; None if there is none.

    Args:
        weight: [O*r*r, C*r*r, k', k'].
        factor: pixel-shuffle factor r.

    Returns:
        [O, C, k, k] with the largest k that gives k'; its outermost taps may be zero.
    """
    out_channels, in_channels, size, width = weight.shape
    phases = factor**2
    if size != width or size % 2 == 0 or out_channels % phases or in_channels % phases:
        return None
    kernel = (size - 1) * factor + 1
    taps = weight.reshape(out_channels // phases, factor, factor, in_channels // phases, factor, factor, size, size)
    # Every tap of the old kernel is one of output phase 0.
    tap = _tap_index(kernel, factor)[0]
    found = weight.new_zeros(out_channels // phases, in_channels // phases, kernel + 1, kernel + 1)
    rows, columns = tap[:, None, :, None], tap[None, :, None, :]
    found[:, :, rows, columns] = taps[:, 0, 0]
    found = found[:, :, :kernel, :kernel].contiguous()
    return found if torch.equal(conv_before_shuffle(found, factor), weight) else None


def conv_before_unshuffle(weight: Tensor, factor: int, padding: int) -> Tensor:
    """Rewrites the kernel of a convolution of stride r as K of ``conv_K(pixel_unshuffle(x, r))`` with stride 1.

    Output pixel ``Y`` reads input pixel ``r*Y + d``, d from -padding: phase ``d mod r`` of the coarse pixel ``Y + d // r``.
    Exact where both sides of the image are multiples of r.

    Args:
        weight: [O, C, k, k].
        factor: the stride r.
        padding: zeros on each side, with -r <= 2 * padding - k <= -1.

    Returns:
        [O, C*r*r, k', k'], k' odd, zero padding k' // 2.
    """
    out_channels, in_channels, kernel, _ = weight.shape
    reach = max(-(-padding // factor), (kernel - 1 - padding) // factor)
    phase, shift = torch.arange(factor)[:, None], torch.arange(-reach, reach + 1)[None]
    tap = factor * shift + phase + padding
    tap = torch.where((tap >= 0) & (tap < kernel), tap, kernel)  # [r, k']
    padded = F.pad(weight, (0, 1, 0, 1))
    taps = padded[:, :, tap[:, :, None, None], tap[None, None]]  # [O, C, i, a, j, b]
    size = 2 * reach + 1
    return taps.permute(0, 1, 2, 4, 3, 5).reshape(out_channels, in_channels * factor**2, size, size)


def transposed_as_conv(weight: Tensor, factor: int, padding: int) -> Tensor:
    """Rewrites the kernel of a transposed convolution of stride r as K of ``pixel_shuffle(conv_K(x), r)``.

    Output pixel ``r*Y + p`` collects tap ``p + padding - r*d`` of input pixel ``Y + d``.

    Args:
        weight: [C, O, k, k], as ConvTranspose2d has it.
        factor: the stride r.
        padding: of the transposed convolution.

    Returns:
        [O*r*r, C, k', k'], k' odd, zero padding k' // 2.
    """
    in_channels, out_channels, kernel, _ = weight.shape
    reach = max((factor - 1 + padding) // factor, (kernel - 1 - padding) // factor)  # of the last phase, of the first
    phase, shift = torch.arange(factor)[:, None], torch.arange(-reach, reach + 1)[None]
    tap = phase + padding - factor * shift
    tap = torch.where((tap >= 0) & (tap < kernel), tap, kernel)  # [r, k']
    padded = F.pad(weight, (0, 1, 0, 1))
    taps = padded[:, :, tap[:, :, None, None], tap[None, None]]  # [C, O, p, a, q, b]
    size = 2 * reach + 1
    return taps.permute(1, 2, 4, 0, 3, 5).reshape(out_channels * factor**2, in_channels, size, size)
