"""Transposed convolutions as convolutions before a pixel shuffle, against PyTorch in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from srfast.models.subpixel import transposed_as_conv


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", range(1, 9))
def test_transposed(kernel: int, factor: int) -> None:
    """Equal at every padding, and no larger than it takes: a ring of zeros would multiply the work by up to nine."""
    generator = torch.Generator().manual_seed(kernel)
    weight = torch.randn(3, 2, kernel, kernel, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 3, 7, 6, generator=generator, dtype=torch.float64)
    whole = F.pad(F.conv_transpose2d(x, weight, stride=factor), (0, 4 * factor + 8, 0, 4 * factor + 8))
    for padding in range(kernel):
        made = transposed_as_conv(weight, factor, padding)
        got = F.pixel_shuffle(F.conv2d(x, made, padding=made.shape[-1] // 2), factor)
        expected = whole[:, :, padding : padding + 7 * factor, padding : padding + 6 * factor]
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
        ring = [made[:, :, 0], made[:, :, -1], made[:, :, :, 0], made[:, :, :, -1]]
        assert made.shape[-1] == 1 or any(bool(side.any()) for side in ring)
