"""``srfast inspect``, ``convert``, ``export`` and ``verify``."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srfast.checkpoint import load_model
from srfast.cli import main
from srfast.diagnostics.verification import verify
from srfast.engine import Engine
from srfast.models import SRVGGNetCompact
from tests.helpers.networks import public as public


@pytest.fixture
def model(tmp_path: Path) -> str:
    """An ESRGAN x2 of Real-ESRGAN, whose sides have to be even."""
    weights = public.Weights(torch.Generator().manual_seed(0))
    public.real_esrgan_x2(weights, torch.rand(1, 3, 4, 4), public.Size(6, 1))
    torch.save({"params_ema": weights.state}, tmp_path / "x2.pth")
    return str(tmp_path / "x2.pth")


def test_inspect(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", model, "--json", "--size", "64x32", "--plan"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["architecture"], facts["scale"], facts["alignment"]) == ("RRDBNet", 2, 2)
    assert (facts["width"], facts["height"], facts["file_kind"]) == (64, 32, "PyTorch zip")
    assert facts["arguments"]["num_grow_ch"] == 3
    own = load_model(model).module
    assert facts["parameters"] == sum(p.numel() for p in own.parameters())
    # Convolutions by hand: 32x16 after the unshuffle, then twice and four times as large.
    at_low = 9 * (12 * 6 + 3 * sum((6 + 3 * i) * (3 if i < 4 else 6) for i in range(5)) + 36)
    assert facts["gflop"] == pytest.approx(2 * 16 * 32 * (at_low + 4 * 324 + 16 * (324 + 324 + 162)) / 1e9)
    assert facts["backends"]["reference"].startswith("available")
    assert any("conv 3x3" in line for line in facts["plan"])
    assert main(["inspect", "compact_x4"]) == 0
    text = capsys.readouterr().out
    assert "SRVGGNetCompact x4" in text
    assert "18 px on each side" in text


def test_inspect_takes_sizes_as_upscale_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "compact_x2", "--json", "--size", "1920X1080"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["width"], facts["height"]) == (1920, 1080)
    assert main(["inspect", "compact_x2"]) == 0
    assert "at 1280x720 " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["inspect", "compact_x2", "--size", "big"])
    assert "takes a width and a height such as 1920x1080, not 'big'" in capsys.readouterr().err


@pytest.mark.parametrize(("channels", "says"), [(1, "1 channel (gray"), (3, "RGB"), (4, "RGBA"), (2, "2 channels")])
def test_the_colours_of_a_network(tmp_path: Path, channels: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_in_ch=channels, num_out_ch=channels, num_feat=4, num_conv=1, upscale=2)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    for suffix, shape in ((".onnx", f"[N, {channels}, H, W] fp32, 0..1, {says}"), (".param", f"'data', {says}")):
        assert main(["export", str(tmp_path / "w.pth"), str(tmp_path / f"w{suffix}")]) == 0
        assert shape in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "w.pth")]) == 0
    assert f"0..1; {says}" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "w.pth"), "--frames", "1"]) == (0 if channels == 3 else 3)
    assert (f"takes {says}" in capsys.readouterr().err) == (channels != 3)


def test_convert(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.safetensors"
    assert main(["convert", model, str(out)]) == 0
    assert main(["convert", model, str(out)]) == 7
    assert main(["convert", model, str(tmp_path / "out.pth")]) == 7
    x = torch.rand(1, 3, 4, 6)
    assert torch.equal(load_model(out).module(x), load_model(model).module(x))
    full = out.stat().st_size
    assert main(["convert", model, str(out), "-y", "--half"]) == 0
    assert out.stat().st_size < 0.8 * full
    torch.testing.assert_close(load_model(out).module(x), load_model(model).module(x), rtol=0, atol=5e-3)


def test_export(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    out = tmp_path / "out.onnx"
    assert main(["export", model, str(out)]) == 0
    assert "multiples of 2" in capsys.readouterr().out
    assert main(["export", model, str(out)]) == 7
    assert main(["export", model, str(tmp_path / "out.xml")]) == 7
    assert main(["verify", str(out), "--frames", "1", "--side", "20", "--device", "cpu", "--dtype", "fp32"]) == 0
    assert main(["convert", str(out), str(tmp_path / "no.safetensors")]) == 3
    assert "ONNX" in capsys.readouterr().err


def test_verify(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 256, (21, 33, 3), dtype=np.uint8))
    assert main(["verify", model, str(photo), "--json", "--device", "cpu", "--dtype", "fp32"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["passed"]
    assert (facts["frames"], facts["width"], facts["height"], facts["max_difference"] <= 1) == (1, 33, 21, True)
    assert main(["verify", model, "--frames", "2", "--side", "16", "--backend", "reference", "--dtype", "fp32"]) == 0
    assert "2 frames of 16x16 on reference" in capsys.readouterr().out


def test_verify_sees_a_wrong_network(model: str) -> None:
    """The plan of other weights does not pass."""
    from srfast.capture import capture
    from srfast.plan.passes import optimise

    loaded = load_model(model)
    plan = optimise(capture(loaded.module))
    wrong = plan.map_tensors(lambda t: t * 1.05)
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert verify(loaded, Engine(plan, dtype=torch.float32), [frame]).passed
    result = verify(loaded, Engine(wrong, dtype=torch.float32), [frame])
    assert not result.passed
    assert result.max_difference > 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["inspect", "nothing.pth"], 3, "no checkpoint file"),
        (["inspect", "compact_x4", "--keys", "--json"], 2, "without --json and --plan"),
        (["inspect", "compact_x4", "--keys", "--plan"], 2, "without --json and --plan"),
        (["inspect", "compact_x4", "--scale", "3"], 3, "scale 4, not 3"),
        (["verify", "compact_x4", "nothing.mp4"], 6, "nothing.mp4"),
        (["verify", "compact_x4", "--frames", "0"], 2, "from 1"),
        (["verify", "compact_x4", "--backend", "tpu"], 4, "no backend"),
    ],
)
def test_mistakes(arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
