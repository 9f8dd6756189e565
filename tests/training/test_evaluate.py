"""Images of any size through networks that want multiples of something."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from srfast.models import SRUGAN, RRDBNet, SRVGGNetCompact
from srfast.training.evaluate import upscale_rgb

NETWORKS = {
    "ugan": lambda: SRUGAN(2, channels=4, growth=2, blocks=1),
    "rrdb_x2": lambda: RRDBNet(scale=2, num_feat=4, num_block=1, num_grow_ch=2),
    "compact": lambda: SRVGGNetCompact(num_feat=4, num_conv=1, upscale=2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_any_size(name: str) -> None:
    """Continued by its mirror image, then cut: what the network makes of the larger image."""
    torch.manual_seed(0)
    model: nn.Module = NETWORKS[name]().eval()
    image = np.random.default_rng(0).integers(0, 256, (13, 18, 3), dtype=np.uint8)
    unit = {"ugan": 4, "rrdb_x2": 2, "compact": 1}[name]
    larger = np.pad(image, ((0, -13 % unit), (0, -18 % unit), (0, 0)), mode="reflect")
    with torch.no_grad():
        out = model(torch.from_numpy(larger).permute(2, 0, 1)[None].float() / 255)[0, :, :26, :36]
    expected = out.clamp(0, 1).mul(255).round().permute(1, 2, 0).byte().numpy()
    np.testing.assert_array_equal(upscale_rgb(model, image), expected)
