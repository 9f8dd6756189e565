"""Every measure by name, the Frechet distance of windows, and the command that prints them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from srfast.checkpoint import save_checkpoint
from srfast.errors import CheckpointError
from srfast.models import SRVGGNetCompact
from srfast.training import evaluate
from srfast.training.backbones import Backbone
from srfast.training.frechet import VGGFeatures
from srfast.training.measures import FRECHET, Files, better, choose_metrics, frechet_vgg16, means, shown, windows


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded random AlexNet and VGG16 as files, float32."""
    folder = tmp_path_factory.mktemp("backbones")
    for kind in ("alex", "vgg16"):
        save_file(Backbone(kind, "random").state_dict(), folder / f"{kind}.safetensors")
    return folder


@pytest.fixture
def picture() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (20, 17, 3), dtype=np.uint8)
    return cv2.resize(coarse, (130, 141), interpolation=cv2.INTER_CUBIC)


def test_files_decide_what_is_measured(backbones: Path, picture: np.ndarray) -> None:
    assert list(choose_metrics(Files(), 4)) == ["PSNR-Y", "SSIM-Y", "spectrum dB"]
    metrics = choose_metrics(Files(alexnet=backbones / "alex.safetensors", vgg16=backbones / "vgg16.safetensors"), 4)
    assert list(metrics)[3:] == ["LPIPS", "DISTS"]
    blurred = cv2.GaussianBlur(picture, (0, 0), 2)
    for name in ("LPIPS", "DISTS"):
        assert metrics[name](picture, picture) == pytest.approx(0, abs=1e-5)
        assert metrics[name](blurred, picture) > 1e-3
    with pytest.raises(CheckpointError, match="not torchvision's alexnet"):
        choose_metrics(Files(alexnet=backbones / "vgg16.safetensors"), 4)


def test_every_measure_of_the_given_files(data_folder: Path, picture: np.ndarray) -> None:
    c, b = data_folder / "checkpoints", data_folder / "backbones"
    brisque = (c / "brisque" / "brisque_model_live.yml", c / "brisque" / "brisque_range_live.yml")
    files = Files(c / "niqe" / "niqe_pris_params.npz", brisque, b / "alexnet.safetensors", b / "vgg16.safetensors")
    values = {name: f(picture, picture) for name, f in choose_metrics(files, 2).items()}
    assert list(values) == ["PSNR-Y", "SSIM-Y", "spectrum dB", "NIQE", "BRISQUE", "LPIPS", "DISTS"]
    assert all(math.isfinite(v) for name, v in values.items() if name != "PSNR-Y")


def test_windows_are_the_pictures_parts(picture: np.ndarray) -> None:
    cut = windows(picture, 32)
    assert cut.shape == (4 * 4, 3, 32, 32)
    for index in (0, 3, 5, 15):
        y, x = 32 * (index // 4), 32 * (index % 4)
        assert np.array_equal(cut[index].permute(1, 2, 0).numpy(), picture[y : y + 32, x : x + 32])
    assert windows(picture[:31], 32).shape == (0, 3, 32, 32)


def test_frechet_by_hand(picture: np.ndarray) -> None:
    """|m - n|^2 + tr(A + B - 2 (A B)^1/2) of the features' means and covariances, in float64."""
    backbone = Backbone("vgg16", "random")
    rng = np.random.default_rng(1)
    pairs = [
        (np.clip(p.astype(int) + rng.integers(-40, 41, p.shape), 0, 255).astype(np.uint8), p)
        for p in (picture, picture[::-1])
    ]
    features = VGGFeatures(backbone)
    with torch.no_grad():
        a, b = (
            torch.cat([features(windows(pair[i]).float() / 255) for pair in pairs]).double().numpy() for i in (0, 1)
        )
    covariances = [np.cov(x, rowvar=False) for x in (a, b)]
    root = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).astype(complex)).real.sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + sum(np.trace(c) for c in covariances) - 2 * root
    assert frechet_vgg16(pairs, backbone) == pytest.approx(expected, rel=1e-3)
    assert frechet_vgg16([(p, p) for _, p in pairs], backbone) == pytest.approx(0, abs=1e-3 * expected)
    with pytest.raises(ValueError, match="64x64 pixels at least"):
        frechet_vgg16([(picture[:60], picture[:60])], backbone)
    with pytest.raises(ValueError, match="VGG16's, not those of alex"):
        VGGFeatures(Backbone("alex", "random"))


def test_means_leave_out_what_is_missing() -> None:
    found = means([{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": math.nan, "c": 5.0}])
    assert (found["a"], found["c"]) == (2.0, 5.0)
    assert math.isnan(found["b"])
    assert (shown("LPIPS", 0.12345), shown("NIQE", 5.678), shown("PSNR-Y", math.inf)) == ("0.1235", "5.68", "-")


def test_better() -> None:
    assert better("psnr", 30.0, 29.0)
    assert better("lpips", 0.1, 0.2)
    assert not better("ssim", 0.1, 0.2)
    assert not better("niqe", math.nan, 5.0)
    assert not better("psnr", math.nan, 5.0)


def test_the_command(backbones: Path, picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table's means and the written record are those of the measures."""
    torch.manual_seed(0)
    save_checkpoint(SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2), tmp_path / "m.safetensors")
    (tmp_path / "hr").mkdir()
    for name, image in (("a", picture), ("b", picture[::-1])):
        cv2.imwrite(str(tmp_path / "hr" / f"{name}.png"), image)
    files = ["--alexnet", str(backbones / "alex.safetensors"), "--vgg16", str(backbones / "vgg16.safetensors")]
    record = tmp_path / "r.json"
    assert evaluate.main([str(tmp_path / "m.safetensors"), str(tmp_path / "hr"), *files, "--json", str(record)]) == 0
    found = json.loads(record.read_text())
    lines = {line[:24].strip(): line[24:].split() for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == {"image", "a", "b", "mean, bicubic", "mean, model"}
    assert list(found["means"]["model"]) == ["PSNR-Y", "SSIM-Y", "spectrum dB", "LPIPS", "DISTS", FRECHET]
    for name in ("PSNR-Y", "LPIPS"):
        assert found["means"]["model"][name] == pytest.approx(np.mean([found["images"][k][name] for k in "ab"]))
    assert found["means"]["model"][FRECHET] > found["means"]["bicubic"][FRECHET] > 0
    assert lines["mean, model"][0] == f"{found['means']['model']['PSNR-Y']:.2f}"
