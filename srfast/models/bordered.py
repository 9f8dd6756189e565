"""Networks that see their image with a mirrored border around it, which their unpadded convolutions use up."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def mirrored(length: int, before: int, after: int, device: torch.device | str = "cpu") -> Tensor:
    """The pixels of a row of ``length`` that stand at ``-before .. length + after``: mirrored about the first and the last.

    The outermost pixel is not repeated. A row that is shorter than its border is mirrored as often as it takes.
    """
    index = torch.arange(-before, length + after, device=device)
    if length == 1:
        return torch.zeros_like(index)
    period = 2 * (length - 1)
    return (length - 1) - (index.remainder(period) - (length - 1)).abs()


def with_border(
    x: Tensor, border: int, multiple: int, first: int = 2, take: Callable[[Tensor, Tensor, int], Tensor] | None = None
) -> Tensor:
    """Images with ``border`` mirrored pixels on each side, and more at the bottom and right up to a multiple of ``multiple``.

    Both are mirrored, as Real-ESRGAN does.

    Args:
        x: images of any type whose rows and columns are the dimensions ``first`` and ``first + 1``.
        take: returns what stands at given places (the second argument) along a dimension (the third); None for
            ``torch.index_select``, which keeps gradients.
    """
    if x.dtype == torch.uint16:  # which index_select does not have everywhere
        return with_border(x.view(torch.int16), border, multiple, first, take).view(torch.uint16)
    for dim in (first, first + 1):
        length = x.shape[dim]
        after = border + -(length + 2 * border) % multiple
        if border or after:
            index = mirrored(length, border, after, x.device)
            x = x.index_select(dim, index) if take is None else take(x, index, dim)
    return x


class Bordered(nn.Module):
    """Base of networks whose ``body`` takes the image with a border and gives the enlarged image without it.

    Attributes:
        scale: output pixels per input pixel along one side.
        border: mirrored pixels on each side.
        multiple: sides of the image with its border are continued to multiples of it, at the bottom and right.
    """

    scale: int = 1
    border: int = 0
    multiple: int = 1

    def body(self, x: Tensor) -> Tensor:
        """[N, C, H + 2 * border, W + 2 * border], multiples of ``multiple``, -> [N, C', scale * H, scale * W]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C', scale * H, scale * W], of any size."""
        height, width = x.shape[2:]
        y = self.body(with_border(x, self.border, self.multiple))
        return y[:, :, : height * self.scale, : width * self.scale]
