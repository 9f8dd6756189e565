"""Live upscaling: the newest frame wins, and each frame takes the best way that ends in time."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
import torch

from srfast.live import LiveUpscaler
from srfast.models import SRVGGNetCompact
from srfast.upscaler import Upscaler


class Slow(Upscaler):
    """Takes a given time at least."""

    seconds = 0.0

    def __call__(self, frame):
        time.sleep(self.seconds)
        return super().__call__(frame)


def tiny(seconds: float = 0.0) -> Slow:
    torch.manual_seed(0)
    upscaler = Slow(SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2))
    upscaler.seconds = seconds
    return upscaler


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def test_in_time_every_frame_is_the_models(image: np.ndarray) -> None:
    model = tiny()
    with LiveUpscaler(model, max_latency=60) as live:
        for number in range(5):
            live.submit(image, number)
            result = live.read(60)
            assert (result.tag, result.way) == (number, "full")
            assert np.array_equal(result.image, model(image))
    assert (live.statistics.received, live.statistics.full, live.statistics.dropped) == (5, 5, 0)


def test_too_slow_a_model_gives_way(image: np.ndarray) -> None:
    light = tiny()
    with LiveUpscaler(tiny(5.0), max_latency=2.0, lighter=light) as live:
        live._ways[0].seconds, live._ways[1].seconds = 5.0, 0.01
        live.submit(image)
        result = live.read(60)
        assert result.way == "lighter"
        assert np.array_equal(result.image, light(image))
        live._ways[1].seconds = 5.0
        live.submit(image)
        result = live.read(60)
    assert result.way == "bicubic"
    assert np.array_equal(result.image, cv2.resize(image, (64, 48), interpolation=cv2.INTER_CUBIC))
    assert "1 by the lighter one, 1 bicubic" in str(live.statistics)


def test_the_newest_wins(image: np.ndarray) -> None:
    live = LiveUpscaler(tiny(0.3), max_latency=60)
    for number in range(6):
        live.submit(image, number)
        time.sleep(0.01)
    live.close()
    tags = [frame.tag for frame in live]
    assert tags[-1] == 5
    assert len(tags) < 6
    statistics = live.statistics
    assert statistics.received == 6 == statistics.full + statistics.dropped
    with pytest.raises(RuntimeError, match="closed"):
        live.submit(image)


def test_warm_up_measures(image: np.ndarray) -> None:
    with LiveUpscaler(tiny(0.05), max_latency=1, lighter=tiny()) as live:
        assert live.warm_up(24, 32)["full"] >= 0.05
        assert live.read(0.01) is None


def test_failures_reach_the_reader() -> None:
    live = LiveUpscaler(tiny(), max_latency=60)
    live.submit(np.zeros((3, 3, 7), np.uint8))
    live.close()
    with pytest.raises(Exception, match="channels"):
        live.read(60)


@pytest.mark.parametrize("options", [{"max_latency": 0}, {"queue": 0}])
def test_bad_options(options: dict) -> None:
    with pytest.raises(ValueError, match="positive"):
        LiveUpscaler(tiny(), **options)
