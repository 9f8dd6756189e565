"""What PyTorch makes new tensors in, and where, changes nothing: ``set_default_dtype`` and ``set_default_device``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import srfast
from srfast.checkpoint import load_model
from srfast.models import RCAN


def _made(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).eval()


NETWORKS: dict[str, Callable[[], Any]] = {
    "a shipped model": lambda: "compact_x2",
    "folded": lambda: _made(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.InstanceNorm2d(8, track_running_stats=True),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False),
        nn.Hardsigmoid(),
    ),
    "resized": lambda: _made(nn.Conv2d(3, 3, 3, padding=1), nn.Upsample(scale_factor=3, mode="bicubic")),
    "of luma": lambda: _made(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2)),
    "partly PyTorch's": lambda: _made(nn.Conv2d(3, 12, 3, padding=1), nn.Softplus(), nn.PixelShuffle(2)),
}


def _results(model: Any) -> Iterator[Tensor]:
    """Of float32 on the CPU."""
    random = np.random.default_rng(0)
    image = random.integers(0, 65536, (50, 38, 3), dtype=np.uint16)
    gray = torch.from_numpy(random.random((1, 1, 9, 8), dtype=np.float32))
    for backend in ("auto", "reference"):
        for options in ({}, {"self_ensemble": True}):
            upscaler = srfast.Upscaler(model, device="cpu", dtype="fp32", backend=backend, **options)  # type: ignore[arg-type]
            yield torch.from_numpy(upscaler(image).astype(np.int32))
            yield upscaler(gray)
    if isinstance(model, nn.Module):
        blended = srfast.Upscaler(model, device="cpu", dtype="fp32", tile=32 if "Softplus" in str(model) else 0)
        yield torch.from_numpy(blended(image).astype(np.int32))


@pytest.fixture
def as_before() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "change",
    [
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_dtype(torch.float16),
        lambda: torch.set_default_device("meta"),  # as a GPU would be, but there everywhere
    ],
    ids=["float64", "float16", "device"],
)
def test_defaults_change_nothing(change: Callable[[], None], name: str) -> None:
    torch.manual_seed(2)
    model = NETWORKS[name]()
    expected = list(_results(model))
    change()
    got = list(_results(model))
    assert len(got) == len(expected)
    for y, wanted in zip(got, expected, strict=True):
        assert (y.dtype, y.device) == (wanted.dtype, wanted.device)
        # Means of planes may be taken in double precision.
        assert torch.equal(y, wanted) or (y.is_floating_point() and bool((y - wanted).abs().max() < 1e-6))


@pytest.mark.usefixtures("as_before")
def test_a_checkpoint_is_float32_on_the_cpu() -> None:
    expected = load_model("compact_x2").module.state_dict()
    mean = RCAN(num_groups=1, num_blocks=1, num_feat=4, middle=2).mean
    torch.set_default_dtype(torch.float16)
    torch.set_default_device("meta")
    got = load_model("compact_x2").module.state_dict()
    assert all(torch.equal(got[key], values) and got[key].dtype == values.dtype for key, values in expected.items())
    torch.set_default_device(None)
    constant = RCAN(num_groups=1, num_blocks=1, num_feat=4, middle=2).mean
    assert torch.equal(constant, mean) and constant.dtype == mean.dtype
