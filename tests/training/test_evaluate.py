"""Images of any size through networks that want multiples of something."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from srfast.models import SRUGAN, RRDBNet, SRVGGNetCompact
from srfast.training.evaluate import evaluate, upscale_rgb

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


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 2)])
def test_tiny_images(name: str, size: tuple[int, int]) -> None:
    """Smaller than what is missing to a multiple."""
    model: nn.Module = NETWORKS[name]().eval()
    assert upscale_rgb(model, np.full((*size, 3), 7, np.uint8)).shape == (2 * size[0], 2 * size[1], 3)


def test_every_image_counts(tmp_path: Path) -> None:
    """Also two of one name; one that is too small for a score is named."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    for place, image in zip(("one/a.png", "two/a.png"), noise, strict=True):
        (tmp_path / place).parent.mkdir()
        cv2.imwrite(str(tmp_path / place), image)
    cv2.imwrite(str(tmp_path / "b.png"), noise[0])
    scores = evaluate(None, tmp_path, 2)
    assert set(scores) == {str(Path("one/a.png")), str(Path("two/a.png")), "b"}
    assert len({row["PSNR-Y"] for row in scores.values()}) == 2
    cv2.imwrite(str(tmp_path / "c.png"), noise[0, :12, :12])
    with pytest.raises(ValueError, match=r"c\.png: an image needs 11x11 pixels inside a border of 2, 12x12"):
        evaluate(None, tmp_path, 2)
