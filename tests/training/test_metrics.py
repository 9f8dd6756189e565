"""Resizing and metrics against published numbers; the training step against the network's own forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srfast.models import SRResNet, SRVGGNetCompact
from srfast.training.data import PatchPairs, read_rgb
from srfast.training.evaluate import evaluate
from srfast.training.imresize import imresize
from srfast.training.initialise import forward_train, start_from_interpolation
from srfast.training.measures import Files, choose_metrics, means
from srfast.training.metrics import luma, modcrop, psnr_rgb, psnr_y, ssim_rgb, ssim_y


@pytest.mark.parametrize("scale", [2, 4])
def test_imresize_equals_matlab(data_folder: Path, scale: int) -> None:
    for path in sorted((data_folder / "eval" / "Set5" / "HR").iterdir()):
        lr = next((data_folder / "eval" / "Set5" / "LR_matlab" / f"X{scale}").glob(f"{path.stem}*"))
        assert np.array_equal(imresize(modcrop(read_rgb(path), scale), 1 / scale), read_rgb(lr))


def test_bicubic_scores_are_the_published_ones(data_folder: Path) -> None:
    scores = evaluate(None, data_folder / "eval" / "Set5" / "HR", 4)
    assert means(scores.values())["PSNR-Y"] == pytest.approx(28.43, abs=0.005)
    assert means(scores.values())["SSIM-Y"] == pytest.approx(0.8111, abs=5e-5)


def test_psnr_and_luma_by_hand() -> None:
    white = np.full((12, 12, 3), 255, np.uint8)
    assert luma(white)[0, 0] == pytest.approx(235)
    gray = np.full((12, 12), 100, np.uint8)
    assert psnr_y(gray, gray + np.uint8(5), 0) == pytest.approx(20 * np.log10(255 / 5))
    assert psnr_y(gray, gray, 2) == float("inf")
    assert ssim_y(gray, gray, 0) == pytest.approx(1)
    with pytest.raises(ValueError, match="differ in shape"):
        psnr_y(gray, white, 0)


@pytest.mark.parametrize("metric", [psnr_y, psnr_rgb, ssim_y, ssim_rgb])
def test_metrics_at_their_edges(metric: Callable[[np.ndarray, np.ndarray, int], float]) -> None:
    """Gray with and without an axis of channels; what is not in 0..255, or too small, is refused."""
    gray = np.random.default_rng(0).integers(0, 256, (17, 15), dtype=np.uint8)
    other = gray // 2
    assert metric(gray, gray, 2) == (float("inf") if metric in (psnr_y, psnr_rgb) else pytest.approx(1))
    assert metric(gray[..., None], other[..., None], 2) == metric(gray, other, 2)
    rgb = metric(np.dstack([gray] * 3), np.dstack([other] * 3), 2)
    assert metric in (psnr_y, ssim_y) or rgb == pytest.approx(metric(gray, other, 2))
    for wrong in (gray / 255, gray.astype(np.float32), np.dstack([gray] * 4)):
        with pytest.raises(ValueError, match="an image is uint8"):
            metric(wrong, wrong, 0)
    with pytest.raises(ValueError, match="15x17 is too small"):
        metric(gray, other, 8 if metric in (psnr_y, psnr_rgb) else 3)
    with pytest.raises(ValueError, match="0 or more pixels, not -1"):
        metric(gray, other, -1)


def test_bicubic_of_baboon_is_the_published_one(data_folder: Path) -> None:
    """Spot values in BasicSR's description of its metrics; its bicubic image was rounded another way."""
    hr = modcrop(read_rgb(data_folder / "eval" / "Set14" / "HR" / "baboon.png"), 4)
    bicubic = imresize(imresize(hr, 1 / 4), 4)
    assert (psnr_rgb(bicubic, hr, 4), ssim_rgb(bicubic, hr, 4)) == (
        pytest.approx(20.419710, abs=0.01),
        pytest.approx(0.391853, abs=0.002),
    )
    assert (psnr_y(bicubic, hr, 4), ssim_y(bicubic, hr, 4)) == (
        pytest.approx(22.441898, abs=0.01),
        pytest.approx(0.453097, abs=0.002),
    )


def test_the_given_srgan_checkpoint_scores_as_published(data_folder: Path) -> None:
    from srfast.checkpoint import load_model

    model = load_model(data_folder / "checkpoints" / "srgan_leftthomas" / "netG_epoch_4_100.pth").module
    scores = evaluate(model, data_folder / "eval" / "Set5" / "HR", 4)
    assert means(scores.values())["PSNR-Y"] == pytest.approx(30.65, abs=0.005)
    assert means(scores.values())["SSIM-Y"] == pytest.approx(0.8642, abs=5e-5)


def test_patches_are_aligned(tmp_path: Path) -> None:
    """An LR patch is what the HR patch shrinks to, away from its border."""
    ramp = np.add.outer(np.arange(96), np.arange(80)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "ramp.png"), np.dstack([ramp, ramp // 2, 255 - ramp]))
    batch = PatchPairs([tmp_path], scale=4, patch=12, seed=1).batch(8, step=0)
    lr, hr = batch.lr, batch.hr
    assert (lr.shape, hr.shape) == ((8, 3, 12, 12), (8, 3, 48, 48))
    blocks = hr.unfold(2, 4, 4).unfold(3, 4, 4).mean((-1, -2))
    assert (blocks - lr)[:, :, 1:-1, 1:-1].abs().max() < 1.5 / 255


def test_training_forward_is_the_networks() -> None:
    torch.manual_seed(0)
    model = SRResNet(4, channels=8, num_blocks=1).double().train()
    x = torch.rand(2, 3, 7, 9, dtype=torch.float64)
    torch.testing.assert_close(forward_train(model, x), model(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("model", [SRResNet(4, num_blocks=1), SRVGGNetCompact(num_conv=2)])
def test_training_starts_near_interpolation(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    start_from_interpolation(model)
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4), scale_factor=6, mode="bicubic").clamp(0, 1)
    expected = torch.nn.functional.interpolate(x, scale_factor=4, mode="bilinear")
    with torch.no_grad():
        assert (model.eval()(x) - expected).abs().mean() < 0.1


@pytest.mark.parametrize(
    ("name", "gain"), [("srresnet_x4", 2.9), ("compact_x4", 2.6), ("srresnet_x2", 3.3), ("compact_x2", 3.4)]
)
def test_shipped_weights_beat_bicubic(data_folder: Path, name: str, gain: float) -> None:
    from srfast.checkpoint import load_model

    folder = data_folder / "eval" / "Set5" / "HR"
    loaded = load_model(name)
    ours, bicubic = evaluate(loaded.module, folder, loaded.scale), evaluate(None, folder, loaded.scale)
    assert means(ours.values())["PSNR-Y"] >= means(bicubic.values())["PSNR-Y"] + gain
    assert all(ours[image]["PSNR-Y"] > bicubic[image]["PSNR-Y"] for image in ours)


@pytest.mark.parametrize("scale", [2, 4])
def test_shipped_footage_networks_mend_what_videos_suffer(data_folder: Path, scale: int) -> None:
    """And are for nothing else: on clean pictures the plain network is closer."""
    from srfast.checkpoint import load_model

    folder = data_folder / "eval" / "Set5" / "HR"
    plain, footage = (load_model(f"compact{kind}_x{scale}").module for kind in ("", "_footage"))

    def psnr(model: torch.nn.Module, degradation: str) -> float:
        return means(evaluate(model, folder, scale, degradation=degradation).values())["PSNR-Y"]

    assert psnr(footage, "footage") > psnr(plain, "footage") + 0.5
    assert psnr(plain, "bicubic") > psnr(footage, "bicubic")


def test_the_shipped_srgan_looks_more_natural_than_srresnet(data_folder: Path) -> None:
    from srfast.checkpoint import load_model

    folder, parameters = data_folder / "eval" / "Set5" / "HR", data_folder / "checkpoints/niqe/niqe_pris_params.npz"
    metrics = choose_metrics(Files(niqe=parameters), 4)
    srgan, srresnet = (
        means(evaluate(load_model(name).module, folder, 4, metrics).values()) for name in ("srgan_x4", "srresnet_x4")
    )
    assert srgan["PSNR-Y"] >= 29.0
    assert srgan["NIQE"] < srresnet["NIQE"] - 0.5
