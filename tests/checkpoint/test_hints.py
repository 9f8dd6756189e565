"""What the keys of a checkpoint leave open: told by the user, or guessed with a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import srfast
from srfast.checkpoint import load_model
from srfast.cli import main
from srfast.errors import CheckpointError
from tests.helpers.networks import public as public

# A network of each kind whose keys do not tell all, the hint that does, and a word of the warning without it.
OPEN: list[tuple[Any, dict[str, Any], list[str], str]] = [
    (public.esrgan_middle, {"scale": 3}, ["--model-scale", "3"], "--model-scale 3"),
    (public.compact_leaky, {"act": "leakyrelu"}, ["--act", "leakyrelu"], "--act leakyrelu"),
    (public.edsr, {"res_scale": 0.5}, ["--res-scale", "0.5"], "1 was taken"),
]


def written(folder: Path, network: Any) -> Path:
    """A checkpoint of the network, with one upsampling step by 3."""
    weights = public.Weights(torch.Generator().manual_seed(0))
    network(weights, torch.rand(1, 3, 8, 8), public.Size(6, 1, steps=1, factor=3))
    path = folder / "open.pth"
    torch.save(weights.state, path)
    return path


@pytest.mark.parametrize(("network", "hints", "options", "says"), OPEN, ids=["scale", "act", "res_scale"])
def test_hints_reach_the_network(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    network: Any,
    hints: dict[str, Any],
    options: list[str],
    says: str,
) -> None:
    """A hint changes the picture, by the command as by ``srfast.load``; without it the guess is said."""
    path = written(tmp_path, network)
    image = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), image)
    expected = srfast.load(path, **hints)(image)
    assert not caplog.records
    guessed = srfast.load(path)(image)
    assert says in caplog.text
    assert guessed.shape != expected.shape or not np.array_equal(guessed, expected)
    assert main(["upscale", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "-m", str(path), *options]) == 0
    assert np.array_equal(cv2.imread(str(tmp_path / "out.png")), expected)
    assert main(["inspect", str(path), *options]) == 0


def test_the_final_enlargement_is_another_option(tmp_path: Path) -> None:
    path = written(tmp_path, public.esrgan_middle)
    upscaler = srfast.load(path, scale=3, outscale=2)
    assert (upscaler.scale, upscaler(np.zeros((4, 6, 3), np.uint8)).shape) == (3, (8, 12, 3))


def test_hints_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"act relu was given, but that of this SRVGGNetCompact is prelu"):
        load_model("compact_x4", act="relu")
    with pytest.raises(CheckpointError, match="does not exist"):
        load_model(written(tmp_path, public.esrgan_middle), act="relu")
    with pytest.raises(ValueError, match="with its path"):
        srfast.load(load_model("compact_x4"), scale=3)  # type: ignore[arg-type]
