"""Enlarging by learned sampling points (Liu et al. 2023, https://arxiv.org/abs/2308.15085)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DySample(nn.Module):
    """Each new pixel is read from a point of the small image that is computed from it, bilinearly.

    Args:
        channels: of the input.
        planes: of the result; 0 leaves the input's.
        scale: enlargement.
        groups: of channels that have points of their own.

    Raises:
        ValueError: the groups do not divide the channels.
    """

    init_pos: Tensor

    def __init__(self, channels: int, planes: int, scale: int, groups: int = 4) -> None:
        super().__init__()
        if groups < 1 or channels % groups:
            raise ValueError(f"{groups} groups of {channels} channels")
        self.scale, self.groups = scale, groups
        self.offset = nn.Conv2d(channels, 2 * groups * scale**2, 1)
        self.scope = nn.Conv2d(channels, 2 * groups * scale**2, 1, bias=False)
        self.end_conv: nn.Module = nn.Conv2d(channels, planes, 1) if planes else nn.Identity()
        # Where the pixels of a regular enlargement lie: across in the first half of the channels, down in the other.
        step = (torch.arange(scale) - (scale - 1) / 2) / scale
        across, down = step.repeat(scale), step.repeat_interleave(scale)
        places = torch.cat([across.repeat(groups), down.repeat(groups)])
        self.register_buffer("init_pos", places.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """[N, channels, H, W] -> [N, planes, scale * H, scale * W]."""
        count, _, height, width = x.shape
        # The paper's dynamic scope: each learned offset times a learned factor between 0 and 0.5.
        moves = self.offset(x) * torch.sigmoid(self.scope(x)) * 0.5 + self.init_pos
        moves = F.pixel_shuffle(moves, self.scale)
        moves = moves.view(count, 2, self.groups, *moves.shape[2:])
        columns, rows = (
            (torch.arange(side, dtype=x.dtype, device=x.device) + 0.5).repeat_interleave(self.scale)
            for side in (width, height)
        )
        # grid_sample counts from -1 to 1 between the outer edges of the image (align_corners=False).
        points = ((columns + moves[:, 0]) * (2 / width) - 1, (rows[:, None] + moves[:, 1]) * (2 / height) - 1)
        y = F.grid_sample(
            x.reshape(count * self.groups, -1, height, width),
            torch.stack(points, -1).flatten(0, 1),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        result: Tensor = self.end_conv(y.view(count, -1, *y.shape[2:]))
        return result
