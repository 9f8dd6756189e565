"""Branches of a convolution: nothing changes at the start, all of it trains, and what is written is one plain convolution."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from srfast.checkpoint import load_model, save_checkpoint
from srfast.models import SRVGGNetCompact
from srfast.training.presets import PRESETS
from srfast.training.reparameterise import Branches, folded, unfold
from srfast.training.train import main


def network() -> SRVGGNetCompact:
    torch.manual_seed(0)
    return SRVGGNetCompact(num_feat=6, num_conv=2, upscale=2)


def test_it_begins_as_it_was() -> None:
    model = network()
    x = torch.rand(2, 3, 7, 9)
    before = model(x)
    unfold(model, 2)
    assert torch.equal(model(x), before)


def test_folding_keeps_the_function_and_the_checkpoint(tmp_path: Path) -> None:
    """With branches that are not zero, float64 on the CPU; the file is one that any Compact network loads from."""
    plain = network()
    model = copy.deepcopy(plain)
    unfold(model, 2)
    for module in model.modules():
        if isinstance(module, Branches):
            for factor in (module.narrow, module.point):
                torch.nn.init.normal_(factor, std=0.1)
    x = torch.rand(1, 3, 8, 5)
    one = folded(model)
    torch.testing.assert_close(one.double()(x.double()), model.double()(x.double()), rtol=0, atol=1e-6)
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in plain.state_dict().items()}
    assert not torch.equal(one.state_dict()["body.0.weight"].float(), plain.state_dict()["body.0.weight"])
    save_checkpoint(one.float(), tmp_path / "c.safetensors")
    torch.testing.assert_close(load_model(tmp_path / "c.safetensors").module(x), one(x))
    assert folded(plain) is plain


def test_a_branch_is_three_convolutions_after_each_other() -> None:
    """On the inside of an image, where zeros at the border play no part."""
    torch.manual_seed(0)
    weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
    branches = Branches(weight, 2).double()
    torch.nn.init.normal_(branches.narrow)
    torch.nn.init.normal_(branches.point)
    x = torch.randn(1, 3, 9, 8, dtype=torch.float64)
    wide = F.conv2d(F.conv2d(x, branches.widen[..., None, None]), branches.middle)
    expected = (
        F.conv2d(x, weight)
        + F.conv2d(wide, branches.narrow[..., None, None])
        + F.conv2d(x, branches.point[..., None, None])[:, :, 1:-1, 1:-1]
    )
    torch.testing.assert_close(F.conv2d(x, branches(weight)), expected)
    with pytest.raises(ValueError, match="odd kernels, not 2x2"):
        Branches(torch.zeros(4, 4, 2, 2), 1)


def test_it_trains_resumes_and_writes_the_plain_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line; the branches move, and the run goes on where it was."""
    import cv2

    (tmp_path / "hr").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "hr" / "a.png"), noise)
    assert "compact_x2" in PRESETS
    command = [
        "compact_x2",
        "--data",
        str(tmp_path / "hr"),
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
        "--keep-all",
    ]
    settings = [
        "channels=4",
        "blocks=1",
        "batch=2",
        "patch=8",
        "expansion=2",
        "save_every=2",
        "log_every=1",
        "period=4",
    ]
    for iterations in (2, 4):
        assert main([*command, "--eval", str(tmp_path / "hr"), "--set", *settings, f"iterations={iterations}"]) == 0
    assert "from iteration 2 to 4" in capsys.readouterr().out
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["networks"]["generator"]
    assert state["body.0.parametrizations.weight.0.narrow"].abs().sum() > 0
    for name in ("compact_x2", "compact_x2_000002", "compact_x2_000004", "best"):
        assert set(load_model(tmp_path / "run" / f"{name}.safetensors").module.state_dict()) == {
            f"body.{k}"
            for k in ("0.weight", "0.bias", "1.weight", "2.weight", "2.bias", "3.weight", "4.weight", "4.bias")
        }
    records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"psnr", "ssim", "it/s", "share of time in data"} <= set(records[-1])
