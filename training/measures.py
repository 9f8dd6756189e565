"""Every measure of a picture by name: PSNR-Y, SSIM-Y, spectrum, NIQE, BRISQUE, LPIPS, DISTS, and a Frechet distance of sets.

What needs a file (a backbone, NIQE's or BRISQUE's parameters) is measured where that file is given. Backbones are
torchvision's state_dict as .pth or .safetensors; the linear heads of LPIPS and the weights of DISTS are those in torchmetrics.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from srfast.training.backbones import Backbone
from srfast.training.data import to_tensor
from srfast.training.frechet import VGGFeatures, frechet_distance
from srfast.training.frequency import frequency_discrepancy
from srfast.training.metrics import UInt8Image, psnr_y, ssim_y
from srfast.training.no_reference import brisque, niqe
from srfast.training.perceptual import DISTS, LPIPS

Metric = Callable[[UInt8Image, UInt8Image], float]
Pair = tuple[UInt8Image, UInt8Image]
FRECHET = "Frechet (VGG16)"
# As the log of a training calls them, and whether a higher value is a better one.
IN_LOG = {"PSNR-Y": "psnr", "SSIM-Y": "ssim", "NIQE": "niqe", "BRISQUE": "brisque", "LPIPS": "lpips", "DISTS": "dists"}
HIGHER_IS_BETTER = ("psnr", "ssim")
WINDOW = 64  # side of the windows that the Frechet distance compares


@dataclass(frozen=True)
class Files:
    """Files that measures need.

    Attributes:
        niqe: .npz of NIQE's pristine model.
        brisque: OpenCV's .yml files of the support vector machine and of the ranges.
        alexnet: backbone of LPIPS, as its authors report it.
        vgg16: backbone of DISTS and of the Frechet distance.
    """

    niqe: Path | None = None
    brisque: tuple[Path, Path] | None = None
    alexnet: Path | None = None
    vgg16: Path | None = None

    @staticmethod
    def add_to(parser: argparse.ArgumentParser) -> None:
        """Adds an option for each file."""
        group = parser.add_argument_group("files that more measures need")
        group.add_argument("--niqe", type=Path, metavar="NPZ", help="NIQE's parameters")
        group.add_argument("--brisque", type=Path, nargs=2, metavar="YML", help="BRISQUE's machine and ranges")
        group.add_argument("--alexnet", type=Path, metavar="FILE", help="AlexNet's weights: LPIPS")
        group.add_argument("--vgg16", type=Path, metavar="FILE", help=f"VGG16's weights: DISTS and {FRECHET}")

    @staticmethod
    def of(args: argparse.Namespace) -> Files:
        """Reads what ``add_to`` added."""
        return Files(args.niqe, tuple(args.brisque) if args.brisque else None, args.alexnet, args.vgg16)


def choose_metrics(files: Files, scale: int) -> dict[str, Metric]:
    """Measures of one picture against its original, both uint8 RGB [H, W, 3].

    PSNR-Y and SSIM-Y leave out ``scale`` pixels of border, as NIQE does; LPIPS, DISTS and BRISQUE look at the whole picture.
    Each raises ValueError for a picture that is too small for it.

    Args:
        files: what is there to measure with.
        scale: of the super-resolution.

    Raises:
        CheckpointError: a file is missing or of another kind.
    """
    metrics: dict[str, Metric] = {
        "PSNR-Y": lambda a, b: psnr_y(a, b, scale),
        "SSIM-Y": lambda a, b: ssim_y(a, b, scale),
        "spectrum dB": spectrum_discrepancy,
    }
    if parameters := files.niqe:
        metrics["NIQE"] = lambda a, _: niqe(a, parameters, scale)
    if machine := files.brisque:
        metrics["BRISQUE"] = lambda a, _: brisque(a, *machine)
    if files.alexnet:
        metrics["LPIPS"] = deep_metric(LPIPS(Backbone("alex", files.alexnet)))
    if files.vgg16:
        metrics["DISTS"] = deep_metric(DISTS(Backbone("vgg16", files.vgg16)))
    return metrics


def spectrum_discrepancy(image: UInt8Image, reference: UInt8Image) -> float:
    """Returns ``frequency_discrepancy`` of two uint8 images, dB."""
    return float(frequency_discrepancy(to_tensor(image)[None], to_tensor(reference)[None]))


def deep_metric(network: nn.Module) -> Metric:
    """Makes a measure of uint8 images of a network that compares batches in 0..1."""

    @torch.no_grad()
    def measure(a: UInt8Image, b: UInt8Image) -> float:
        return float(network(to_tensor(a)[None], to_tensor(b)[None]))

    return measure


def frechet_vgg16(pairs: Iterable[Pair], backbone: Backbone) -> float:
    """Frechet distance between the windows of pictures and of their originals, over VGG16's features.

    It is not the FID of the literature, whose features are Inception's. The pictures are cut into windows of 64x64 pixels; with
    less than a few thousand of them (Set5 has 190) the distance is biased upwards and compares systems on one set only.

    Args:
        pairs: (picture, original), uint8 RGB [H, W, 3] of one shape.
        backbone: VGG16.

    Raises:
        ValueError: no picture holds a window.
    """
    kept = [(windows(a), windows(b)) for a, b in pairs]
    if not sum(len(a) for a, _ in kept):
        raise ValueError(f"a Frechet distance needs pictures of {WINDOW}x{WINDOW} pixels at least")
    # A batch for each picture: all windows at once would not fit in memory.
    fake, real = ([pair[i].float().div(255) for pair in kept if len(pair[i])] for i in (0, 1))
    return frechet_distance(real, fake, VGGFeatures(backbone))


def windows(image: UInt8Image, side: int = WINDOW) -> Tensor:
    """Cuts uint8 [H, W, 3] into whole windows next to each other, uint8 [N, 3, side, side]."""
    rows, columns = image.shape[0] // side, image.shape[1] // side
    cut = np.ascontiguousarray(image[: rows * side, : columns * side])
    return torch.from_numpy(cut).view(rows, side, columns, side, 3).permute(0, 2, 4, 1, 3).reshape(-1, 3, side, side)


def better(measure: str, new: float, old: float) -> bool:
    """Whether ``new`` is a better value of a measure (one of ``IN_LOG``'s values) than ``old``; NaN is never better.

    Examples:
        >>> better("psnr", 30.1, 30.0), better("lpips", 0.2, 0.1)
        (True, False)
    """
    # A comparison with NaN is false, so the old value stays.
    return new > old if measure in HIGHER_IS_BETTER else new < old


def means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every measure over pictures; what is missing or not a number is left out, NaN where nothing is left.

    Examples:
        >>> means([{"NIQE": 4.0}, {"NIQE": 6.0}, {"NIQE": float("nan")}])
        {'NIQE': 5.0}
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, []).extend(_numbers([value]))
    return {name: float(np.mean(values)) if values else float("nan") for name, values in found.items()}


def _numbers(values: Iterable[float]) -> Iterator[float]:
    return (v for v in values if not np.isnan(v))


def shown(metric: str, value: float) -> str:
    """The number as tables print it; a dash for what is not finite."""
    digits = 4 if metric in ("SSIM-Y", "LPIPS", "DISTS") else 2
    return f"{value:.{digits}f}" if np.isfinite(value) else "-"
