"""Networks for other than three colour planes, and networks averaged over orientations, on RGB images.

Each wraps an engine as a function of the same form, [N, H, W, 3] RGB to [N, s*H, s*W, 3] of the same dtype.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from srfast.images.arrays import Array, check_mask, run_array

Run = Callable[..., Tensor]
_LUMA = (0.299, 0.587, 0.114)  # BT.601, as networks for one plane are trained


def _white(images: Tensor) -> float:
    return 1.0 if images.is_floating_point() else float(torch.iinfo(images.dtype).max)


def _stored(values: Tensor, like: Tensor) -> Tensor:
    """Floating 0..1 in the type of ``like``, rounded to nearest and limited to the range."""
    limited = values.clamp(0, 1) * _white(like)
    return (limited if like.is_floating_point() else limited.round()).to(like.dtype)


class OnLuma:
    """A network of one plane on colour images: it enlarges the luma, and a bicubic filter what each plane differs from it.

    Args:
        run: the engine, of a network from one plane to one.
        scale: of the network.

    Examples:
        >>> run = OnLuma(lambda images: images.repeat_interleave(2, 1).repeat_interleave(2, 2), 2)
        >>> run(torch.zeros(1, 4, 5, 3, dtype=torch.uint8)).shape
        torch.Size([1, 8, 10, 3])
    """

    def __init__(self, run: Run, scale: int) -> None:
        self._run, self._scale = run, scale

    def __call__(self, images: Tensor) -> Tensor:
        values = images.float() / _white(images)
        luma = (values * torch.tensor(_LUMA, dtype=values.dtype, device=values.device)).sum(-1, keepdim=True)
        rest = (values - luma).permute(0, 3, 1, 2)
        rest = F.interpolate(rest, scale_factor=self._scale, mode="bicubic").permute(0, 2, 3, 1)
        # Eyes see detail in luma far better than in colour, and such networks were trained on luma alone.
        return _stored(self._run(luma.clamp(0, 1)).float() + rest, images)


class Opaque:
    """A network of RGBA on RGB images: with an alpha of full opacity, which is left out of the result.

    Args:
        run: the engine, of a network from four planes to four.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, images: Tensor) -> Tensor:
        alpha = torch.full((*images.shape[:3], 1), _white(images), dtype=torch.float32, device=images.device)
        return self._run(torch.cat([images, alpha.to(images.dtype)], -1))[..., :3].contiguous()

    def rgba(self, images: Tensor) -> Tensor:
        """[N, H, W, 4] RGBA with its own alpha."""
        return self._run(images)

    def bgra(self, image: Array) -> Array:
        """[H, W, 4] BGRA, uint8 or uint16, with its own alpha."""
        check_mask(image)
        order = [2, 1, 0, 3]
        return np.ascontiguousarray(run_array(np.ascontiguousarray(image[:, :, order]), self._run)[:, :, order])


class Ensemble:
    """The mean of a network's results for the eight orientations of an image, each turned back.

    It takes eight times as long; what the network does differently for other orientations averages out.

    Args:
        run: the engine.

    Examples:
        >>> run = Ensemble(lambda images: images)
        >>> images = torch.rand(1, 4, 5, 3)
        >>> bool((run(images) - images).abs().max() < 1e-6)
        True
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def __call__(self, images: Tensor) -> Tensor:
        values, total = images.float() / _white(images), None
        for turns in range(4):
            for mirrored in (False, True):
                turned = torch.rot90(values.flip(2) if mirrored else values, turns, (1, 2))
                y = torch.rot90(self._run(turned.contiguous()).float(), -turns, (1, 2))
                y = y.flip(2) if mirrored else y
                total = y if total is None else total + y
        assert total is not None
        return _stored(total / 8, images)
