"""Blending of two networks' weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from srfast.checkpoint import load_model, save_checkpoint
from srfast.models import SRVGGNetCompact
from srfast.training.interpolate import main


def _network(path: Path, seed: int, convs: int = 1) -> SRVGGNetCompact:
    torch.manual_seed(seed)
    model = SRVGGNetCompact(num_feat=8, num_conv=convs, upscale=2).eval()
    save_checkpoint(model, str(path))
    return model


def test_weights_are_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (_network(tmp_path / f"{n}.safetensors", n) for n in range(2))
    names = [str(tmp_path / f"{n}.safetensors") for n in ("0", "1", "out")]
    assert main([*names, "--share", "0.25"]) == 0
    assert "25%" in capsys.readouterr().out
    out = load_model(names[2]).module.state_dict()
    theirs = b.state_dict()
    assert out.keys() == theirs.keys()
    for key, value in a.state_dict().items():
        torch.testing.assert_close(
            out[key], (0.75 * value.double() + 0.25 * theirs[key].double()).float(), rtol=0, atol=1e-7
        )


def test_half_the_size(tmp_path: Path) -> None:
    """Convolutions are rounded to float16; biases and slopes stay float32."""
    model = _network(tmp_path / "0.safetensors", 0)
    names = [str(tmp_path / f"{n}.safetensors") for n in ("0", "0", "out")]
    assert main([*names, "--half"]) == 0
    stored = load_file(names[2])
    assert {k: v.dtype for k, v in stored.items()} == {
        k: torch.float16 if v.ndim == 4 else torch.float32 for k, v in model.state_dict().items()
    }
    assert torch.equal(stored["body.0.weight"], model.state_dict()["body.0.weight"].half())


def test_what_cannot_be_blended_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _network(tmp_path / "0.safetensors", 0)
    _network(tmp_path / "1.safetensors", 1, convs=2)
    names = [str(tmp_path / f"{n}.safetensors") for n in ("0", "1", "out")]
    assert main(names) == 2
    assert "differ in body.5.weight" in capsys.readouterr().err
    assert main([names[0], names[0], names[2], "--share", "1.5"]) == 2
    assert "0 to 1, not 1.5" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()
