"""NIQE and BRISQUE: quality without a reference, from the statistics of locally normalised luminance.

NIQE: Mittal et al. 2013, https://doi.org/10.1109/LSP.2012.2227726. BRISQUE: Mittal et al. 2012,
https://doi.org/10.1109/TIP.2012.2214050. Lower is better for both. The parameters come from local files.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from srfast.errors import CheckpointError
from srfast.training.imresize import imresize_float
from srfast.training.metrics import UInt8Image, luma

Float = npt.NDArray[np.float64]
BLOCK = 96
ROUNDING = 1e-9  # far below one grey level, far above what rounding leaves of a flat area
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))


@lru_cache(maxsize=1)
def _shape_table() -> tuple[Float, Float]:
    """Shapes 0.2 to 10 of the generalised Gaussian, and Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)) of each."""
    # The equation has no closed solution; the authors' code searches this grid, and the published parameters follow
    # from it.
    shapes = np.arange(0.2, 10.001, 0.001)
    ratios = [math.exp(2 * math.lgamma(2 / a) - math.lgamma(1 / a) - math.lgamma(3 / a)) for a in shapes]
    return shapes, np.array(ratios)


def fit_asymmetric(x: Float) -> tuple[float, float, float]:
    """Moment fit of the asymmetric generalised Gaussian (Lasmar et al. 2009, https://doi.org/10.1109/ICIP.2009.5414404).

    Returns:
        Shape, and root mean square of the negative and of the positive values; NaN where a side has no values.
    """
    shapes, ratios = _shape_table()
    below, above = x[x < 0], x[x > 0]
    if not below.size or not above.size:
        return math.nan, math.nan, math.nan
    left, right = math.sqrt(np.mean(below**2)), math.sqrt(np.mean(above**2))
    balance = left / right
    ratio = np.mean(np.abs(x)) ** 2 / np.mean(x**2)
    ratio *= (balance**3 + 1) * (balance + 1) / (balance**2 + 1) ** 2
    return float(shapes[np.argmin((ratios - ratio) ** 2)]), left, right


def _gamma_terms(shape: float) -> tuple[float, float]:
    """sqrt(Gamma(1/a) / Gamma(3/a)) and Gamma(2/a) / Gamma(1/a)."""
    one, two, three = (math.lgamma(k / shape) for k in (1, 2, 3))
    return math.exp((one - three) / 2), math.exp(two - one)


def _blur(x: Float, window: Float) -> Float:
    return np.asarray(cv2.filter2D(x, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE), np.float64)


def _normalise(image: Float, window: Float, floor: float) -> Float:
    mean = _blur(image, window)
    deviation = np.sqrt(np.abs(_blur(image**2, window) - mean**2))
    normalised: Float = (image - mean) / (deviation + floor)
    return normalised


def _niqe_features(block: Float) -> list[float]:
    """18 numbers of one normalised block."""
    shape, left, right = fit_asymmetric(block)
    if math.isnan(shape):
        return [math.nan] * 18
    scale, _ = _gamma_terms(shape)
    features = [shape, (left + right) / 2 * scale]
    for shift in SHIFTS:
        shape, left, right = fit_asymmetric(block * np.roll(block, shift, (0, 1)))
        if math.isnan(shape):
            return [math.nan] * 18
        scale, mean = _gamma_terms(shape)
        left, right = left * scale, right * scale
        features += [shape, (right - left) * mean, left, right]
    return features


def niqe(image: UInt8Image, parameters: Path, crop: int = 0) -> float:
    """Distance of the image's statistics from those of pristine photographs.

    Args:
        image: uint8 RGB [H, W, 3] or gray [H, W], at least 96 x 96 after the crop.
        parameters: .npz with ``mu_pris_param``, ``cov_pris_param`` and ``gaussian_window``.
        crop: border left out.

    Raises:
        CheckpointError: the file is missing or holds something else.
        ValueError: the image is too small.
    """
    mu, covariance, window = _pristine(Path(parameters))
    # Rounded, as MATLAB's rgb2gray gives uint8, on which the pristine model was fitted.
    gray = np.rint(luma(image))[crop : image.shape[0] - crop, crop : image.shape[1] - crop]
    rows, columns = gray.shape[0] // BLOCK, gray.shape[1] // BLOCK
    if rows < 1 or columns < 1:
        raise ValueError(f"NIQE needs {BLOCK}x{BLOCK} pixels, not {gray.shape[1]}x{gray.shape[0]}")
    gray = gray[: rows * BLOCK, : columns * BLOCK]
    scales = []
    for side in (BLOCK, BLOCK // 2):
        normalised = _normalise(gray, window, 1.0)
        blocks = normalised.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
        scales.append([_niqe_features(block) for block in blocks])
        gray = imresize_float(gray, 0.5)
    features = np.concatenate(scales, axis=1)
    # Flat blocks have no distribution to fit.
    whole = features[~np.isnan(features).any(1)]
    if len(whole) == 0:
        return math.nan
    own = np.cov(whole, rowvar=False) if len(whole) > 1 else np.zeros_like(covariance)
    difference = mu.ravel() - whole.mean(0)
    # A pseudo-inverse, as few blocks leave the covariance singular.
    return float(np.sqrt(difference @ np.linalg.pinv((covariance + own) / 2) @ difference))


@lru_cache(maxsize=4)
def _pristine(path: Path) -> tuple[Float, Float, Float]:
    try:
        with np.load(path) as file:
            mu, covariance, window = (file[k] for k in ("mu_pris_param", "cov_pris_param", "gaussian_window"))
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not hold NIQE's parameters: {error}") from error
    return mu, covariance, window


def _brisque_features(gray: Float) -> list[float]:
    """36 numbers of an image in 0..1: 18 at each of two sizes."""
    taps = cv2.getGaussianKernel(7, 7 / 6)
    window = taps @ taps.T
    features: list[float] = []
    half = np.asarray(
        cv2.resize(gray, (gray.shape[1] // 2, gray.shape[0] // 2), interpolation=cv2.INTER_CUBIC), np.float64
    )
    for image in (gray, half):
        normalised = _normalise(image, window, 1 / 255)
        normalised[np.abs(normalised) < ROUNDING] = 0.0  # flat areas belong to neither side of the distribution
        shape, left, right = fit_asymmetric(normalised)
        features += [shape, (left**2 + right**2) / 2]
        for dy, dx in ((0, 1), (1, 0), (1, 1), (-1, 1)):
            moved = cv2.warpAffine(normalised, np.array([[1.0, 0, -dx], [0, 1.0, -dy]]), normalised.shape[::-1])
            shape, left, right = fit_asymmetric(normalised * moved)
            scale, mean = _gamma_terms(shape)
            features += [shape, (right - left) * mean * scale, left**2, right**2]
    return features


def brisque(image: UInt8Image, model: Path, ranges: Path) -> float:
    """Score 0 (best) to 100 of a support vector machine on the features.

    Args:
        image: uint8 RGB [H, W, 3] or gray [H, W].
        model, ranges: OpenCV's .yml files of the machine and of its features' ranges.

    Raises:
        CheckpointError: a file is missing or holds something else.
        ValueError: the image is flat or too small for the statistics.
    """
    (low, high), vectors, weights, bias, gamma = _machine(Path(model), Path(ranges))
    gray = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if min(gray.shape) < 16:
        raise ValueError(f"BRISQUE needs 16x16 pixels, not {gray.shape[1]}x{gray.shape[0]}")
    features = np.array(_brisque_features(gray.astype(np.float64) / 255))
    if not np.isfinite(features).all():
        raise ValueError("BRISQUE is not defined for a flat image")
    scaled = 2 * (features - low) / (high - low) - 1
    kernel = np.exp(-gamma * ((vectors - scaled) ** 2).sum(1))
    return float(np.clip(kernel @ weights - bias, 0, 100))


@lru_cache(maxsize=4)
def _machine(model: Path, ranges: Path) -> tuple[Float, Float, Float, float, float]:
    for path in (model, ranges):
        if not path.is_file():
            raise CheckpointError(f"BRISQUE's file is missing at {path}")
    # A node lives as long as its storage.
    of_ranges, of_model = (cv2.FileStorage(str(path), cv2.FILE_STORAGE_READ) for path in (ranges, model))
    limits, node = of_ranges.getNode("range").mat(), of_model.getNode("opencv_ml_svm")
    vectors = node.getNode("support_vectors")
    function = node.getNode("decision_functions").at(0)
    if limits is None or limits.shape != (2, 36) or vectors.empty() or function.empty():
        raise CheckpointError(f"{model} and {ranges} are not BRISQUE's support vector machine and ranges")
    table = np.array([[r.at(k).real() for k in range(36)] for r in (vectors.at(i) for i in range(vectors.size()))])
    alpha = function.getNode("alpha")
    weights = np.array([alpha.at(i).real() for i in range(alpha.size())])
    index = function.getNode("index")
    if not index.empty():
        table = table[[int(index.at(i).real()) for i in range(index.size())]]
    gamma = node.getNode("kernel").getNode("gamma").real()
    return limits.astype(np.float64), table, weights, function.getNode("rho").real(), gamma
