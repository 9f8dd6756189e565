"""Low-resolution images of footage: repeatable, in place, and as poor as asked."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from srfast.training.data import PatchPairs
from srfast.training.degradation import bicubic, degrade, footage, h264
from srfast.training.evaluate import evaluate
from srfast.training.metrics import UInt8Image


def scene(height: int, width: int, seed: int = 0) -> UInt8Image:
    """Shapes of many sizes and colours, soft enough to survive being made small."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cells in (2, 4, 8):
        coarse = rng.uniform(0, 255, (cells, cells, 3)).astype(np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / 3
    return np.clip(total, 0, 255).astype(np.uint8)


def apart(a: UInt8Image, b: UInt8Image) -> tuple[float, float]:
    """By how many pixels one image lies beside another."""
    first, second = (x.astype(float).mean(-1) for x in (a, b))
    slopes = np.stack([g.ravel() for g in np.gradient(second)], 1)
    return tuple(np.linalg.lstsq(slopes, (second - first).ravel(), rcond=None)[0])


def psnr(a: UInt8Image, b: UInt8Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize(("scale", "height", "width"), [(2, 130, 94), (4, 132, 204), (3, 99, 63)])
def test_footage_is_in_place_and_repeatable(scale: int, height: int, width: int) -> None:
    image = scene(height, width)
    clean, found, places = bicubic(image, scale), [], []
    for seed in range(40):
        spoiled = footage(image, scale, random.Random(seed))
        assert spoiled.shape == clean.shape
        np.testing.assert_array_equal(spoiled, footage(image, scale, random.Random(seed)))
        places.append(apart(spoiled, clean))
        # Colours in their places: a swap of channels or a wrong matrix would shift the means.
        np.testing.assert_allclose(spoiled.mean((0, 1)), clean.mean((0, 1)), atol=6)
        found.append(psnr(spoiled, clean))
    assert np.abs(np.mean(places, axis=0)).max() < 0.05 and np.abs(places).max() < 0.5
    assert min(found) < 30 and max(found) > 36
    assert len(set(found)) > 35


def test_lower_rates_are_worse() -> None:
    image = scene(65, 81)
    image = np.clip(image + np.random.default_rng(1).normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    quality = [psnr(h264(image, crf, random.Random(3)), image) for crf in (10, 20, 30, 40)]
    assert all(a > b + 0.5 for a, b in itertools.pairwise(quality))
    assert max(map(abs, apart(h264(image, 20, random.Random(3)), image))) < 0.1


def test_patches_of_footage_match(tmp_path: Path) -> None:
    """Each patch is degraded with what is round it, and lies where its HR patch does."""
    cv2.imwrite(str(tmp_path / "a.png"), scene(240, 200)[..., ::-1])
    pairs = PatchPairs([tmp_path], 2, 24, seed=1, degradation="footage")
    again = PatchPairs([tmp_path], 2, 24, seed=1, degradation="footage")
    batch = pairs.batch(12, step=5)
    assert batch.lr.equal(again.batch(12, step=5).lr)
    assert not batch.lr.equal(pairs.batch(12, step=6).lr)
    for lr, hr in zip(batch.lr, batch.hr, strict=True):
        high, low = (np.ascontiguousarray(x.permute(1, 2, 0).mul(255).byte().numpy()) for x in (hr, lr))
        assert low.shape == (24, 24, 3)
        error = {
            (y, x): np.abs(np.roll(bicubic(high, 2), (y, x), (0, 1)) - low.astype(float))[3:-3, 3:-3].mean()
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
        }
        assert min(error, key=lambda place: error[place]) == (0, 0)


def test_networks_are_measured_on_footage(tmp_path: Path) -> None:
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), scene(96, 96)[..., ::-1])
    clean = evaluate(None, tmp_path, 2)
    poor = evaluate(None, tmp_path, 2, degradation="footage")
    assert poor == evaluate(None, tmp_path, 2, degradation="footage")
    assert poor["a"] != poor["b"]  # alike as pictures, but each has a chance of its own
    assert all(poor[name]["PSNR-Y"] < clean[name]["PSNR-Y"] for name in "ab")


def test_the_others_need_no_chance() -> None:
    image = scene(32, 48)
    for kind in ("bicubic", "gaussian"):
        np.testing.assert_array_equal(
            degrade(image, 4, kind, random.Random(1)), degrade(image, 4, kind, random.Random(2))
        )
