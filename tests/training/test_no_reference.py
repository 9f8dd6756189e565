"""NIQE and BRISQUE: their statistics on distributions known by hand, and their order on photographs."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from srfast.errors import CheckpointError
from srfast.training.data import read_rgb
from srfast.training.imresize import imresize, imresize_float
from srfast.training.metrics import modcrop
from srfast.training.no_reference import brisque, fit_asymmetric, niqe


def test_fit_finds_gaussian_and_laplacian() -> None:
    """Shape 2 is the Gaussian, 1 the Laplacian; an asymmetric one shows in its two sides."""
    rng = np.random.default_rng(0)
    shape, left, right = fit_asymmetric(rng.normal(0, 3, 200_000))
    assert shape == pytest.approx(2, abs=0.05)
    assert (left, right) == (pytest.approx(3, rel=0.02), pytest.approx(3, rel=0.02))
    assert fit_asymmetric(rng.laplace(0, 1, 200_000))[0] == pytest.approx(1, abs=0.03)
    x = np.abs(rng.normal(0, 1, 200_000)) * np.where(rng.random(200_000) < 1 / 3, -1.0, 2.0)
    shape, left, right = fit_asymmetric(x)
    assert shape == pytest.approx(2, abs=0.05)
    assert (left, right) == (pytest.approx(1, rel=0.02), pytest.approx(2, rel=0.02))
    assert math.isnan(fit_asymmetric(np.ones(4))[0])


def test_float_resize_rounds_to_the_uint8_one() -> None:
    image = np.random.default_rng(0).integers(40, 200, (24, 18), dtype=np.uint8)
    assert np.abs(imresize_float(image.astype(np.float64), 0.5) - imresize(image, 0.5)).max() <= 1.01
    np.testing.assert_allclose(imresize_float(np.full((9, 7), 3.5), 0.5), 3.5)


@pytest.fixture(scope="module")
def butterfly(data_folder: Path) -> np.ndarray:
    return modcrop(read_rgb(data_folder / "eval" / "Set14" / "HR" / "comic.png"), 4)


def test_niqe_orders_hr_bicubic_and_blur(data_folder: Path, butterfly: np.ndarray) -> None:
    parameters = data_folder / "checkpoints" / "niqe" / "niqe_pris_params.npz"
    bicubic = imresize(imresize(butterfly, 1 / 4), 4)
    scores = [niqe(x, parameters, 4) for x in (butterfly, bicubic, cv2.GaussianBlur(butterfly, (0, 0), 6))]
    assert scores == sorted(scores)
    assert 1 < scores[0] < 5


def test_niqe_is_zero_for_its_own_statistics(tmp_path: Path, butterfly: np.ndarray, data_folder: Path) -> None:
    """With the image's own mean as the pristine one the distance is zero; moved by one unit it is 1 / sqrt(1 / 2)."""
    from srfast.training import no_reference

    given = np.load(data_folder / "checkpoints" / "niqe" / "niqe_pris_params.npz")
    image = butterfly[:96, :96]  # one block: no covariance of its own
    found: list[np.ndarray] = []
    original = no_reference._niqe_features
    features = []
    for side in (96, 48):
        gray = np.rint(no_reference.luma(image))
        gray = gray if side == 96 else imresize_float(gray, 0.5)
        features += original(no_reference._normalise(gray, given["gaussian_window"], 1.0))
    found.append(np.array(features))
    for name, shift, expected in (("same.npz", 0.0, 0.0), ("moved.npz", 1.0, math.sqrt(2.0))):
        mu = found[0].copy()
        mu[3] += shift
        np.savez(
            tmp_path / name, mu_pris_param=mu[None], cov_pris_param=np.eye(36), gaussian_window=given["gaussian_window"]
        )
        assert niqe(image, tmp_path / name) == pytest.approx(expected, abs=1e-9)


def test_brisque_orders_hr_noise_and_blur(data_folder: Path, butterfly: np.ndarray) -> None:
    files = [data_folder / "checkpoints" / "brisque" / f"brisque_{x}_live.yml" for x in ("model", "range")]
    noise = np.random.default_rng(0).normal(0, 40, butterfly.shape)
    noisy = np.clip(butterfly + noise, 0, 255).astype(np.uint8)
    clean, blurred = brisque(butterfly, *files), brisque(cv2.GaussianBlur(butterfly, (0, 0), 4), *files)
    assert clean < blurred
    assert clean < brisque(noisy, *files)
    assert 0 <= clean <= 100


def test_niqe_is_the_published_value(data_folder: Path) -> None:
    """MATLAB R2021a with the authors' release gives 5.7296 for the baboon, as BasicSR's documentation tells."""
    baboon = read_rgb(data_folder / "eval" / "Set14" / "HR" / "baboon.png")
    parameters = data_folder / "checkpoints" / "niqe" / "niqe_pris_params.npz"
    assert niqe(baboon, parameters) == pytest.approx(5.7296, abs=1e-3)


# cv2.quality.QualityBRISQUE_compute of opencv-contrib-python 4.10.0 with the same two files.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Set14/HR/baboon", 29.2246),
        ("Set14/HR/lenna", 2.8845),
        ("Set14/HR/zebra", 21.5075),
        ("Set5/HR/butterfly", 11.7481),
        ("Set5/HR/head", 0.0),  # has a flat background, as has ppt3, where rounding noise once counted as signal
        ("Set14/HR/ppt3", 41.5959),
    ],
)
def test_brisque_is_that_of_opencv(name: str, expected: float, data_folder: Path) -> None:
    files = [data_folder / "checkpoints" / "brisque" / f"brisque_{x}_live.yml" for x in ("model", "range")]
    assert brisque(read_rgb(data_folder / "eval" / f"{name}.png"), *files) == pytest.approx(
        expected, abs=0.06 if expected < 40 else 0.6
    )


def test_what_is_wrong_is_named(tmp_path: Path, data_folder: Path) -> None:
    image = np.zeros((120, 120, 3), np.uint8)
    with pytest.raises(CheckpointError, match="NIQE's parameters"):
        niqe(image, tmp_path / "none.npz")
    with pytest.raises(CheckpointError, match="missing"):
        brisque(image, tmp_path / "none.yml", tmp_path / "none.yml")
    with pytest.raises(ValueError, match="needs 96x96"):
        niqe(image[:50], data_folder / "checkpoints" / "niqe" / "niqe_pris_params.npz")
    files = [data_folder / "checkpoints" / "brisque" / f"brisque_{x}_live.yml" for x in ("model", "range")]
    with pytest.raises(ValueError, match="flat"):
        brisque(image, *files)
    assert math.isnan(niqe(image, data_folder / "checkpoints" / "niqe" / "niqe_pris_params.npz"))
