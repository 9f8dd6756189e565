"""PSNR-Y of a network on a folder of high-resolution images: ``python -m srfast.training.evaluate MODEL HR_FOLDER``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from srfast.checkpoint import load_model
from srfast.errors import SrfastError
from srfast.models import SRUGAN, RRDBNet
from srfast.training.data import find_images, read_rgb, to_tensor
from srfast.training.imresize import imresize
from srfast.training.metrics import modcrop, psnr_y, ssim_y
from srfast.training.no_reference import niqe


def alignment(model: nn.Module) -> int:
    """Of what the sides of a network's input have to be multiples."""
    if isinstance(model, SRUGAN):
        return 4
    return model.unshuffle if isinstance(model, RRDBNet) else 1


@torch.no_grad()
def upscale_rgb(model: nn.Module, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8 RGB [H, W, 3] through the network, clamped and rounded to uint8; continued by its mirror image where it has to be."""
    device, unit = next(model.parameters()).device, alignment(model)
    height, width = image.shape[:2]
    # Other than PyTorch's, this mirrors as often as a tiny image needs it.
    whole = np.pad(image, ((0, -height % unit), (0, -width % unit), (0, 0)), mode="reflect")
    x = to_tensor(whole).unsqueeze(0).to(device)
    out: Tensor = model(x)[0]
    scale = out.shape[1] // x.shape[2]
    out = out[:, : height * scale, : width * scale].clamp(0, 1).mul(255).round()
    return np.ascontiguousarray(out.permute(1, 2, 0).to(torch.uint8).cpu().numpy())


def evaluate(model: nn.Module | None, folder: Path, scale: int) -> dict[str, tuple[float, float]]:
    """PSNR-Y and SSIM-Y by image name, with the folder and suffix where names are alike; None measures bicubic interpolation.

    Raises:
        ValueError: names the image that is too small.
    """
    scores = {}
    paths = find_images([folder])
    stems = Counter(path.stem for path in paths)
    for path in paths:
        hr = modcrop(read_rgb(path), scale)
        lr = imresize(hr, 1 / scale)
        sr = imresize(lr, scale) if model is None else upscale_rgb(model, lr)
        name = path.stem if stems[path.stem] == 1 else str(path.relative_to(folder))
        try:
            scores[name] = (psnr_y(sr, hr, scale), ssim_y(sr, hr, scale))
        except ValueError as error:
            raise ValueError(f"{path}: {error}; take it out of the folder") from error
    return scores


def mean_psnr(scores: dict[str, tuple[float, float]]) -> float:
    """Mean over images, in dB."""
    return sum(psnr for psnr, _ in scores.values()) / len(scores)


def mean_niqe(model: nn.Module, folder: Path, scale: int, parameters: Path) -> float:
    """Mean NIQE of the enlarged images; see ``no_reference.niqe``."""
    shrunk = [imresize(modcrop(read_rgb(path), scale), 1 / scale) for path in find_images([folder])]
    return float(np.mean([niqe(upscale_rgb(model, lr), parameters, scale) for lr in shrunk]))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.evaluate", description=__doc__)
    p.add_argument("model", help="a checkpoint, or the name of a model that srfast ships")
    p.add_argument("folder", type=Path, help="high-resolution images")
    args = p.parse_args(arguments)
    try:
        loaded = load_model(args.model)
        scale = loaded.scale
        ours, bicubic = evaluate(loaded.module, args.folder, scale), evaluate(None, args.folder, scale)
    except (SrfastError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'image':24}{'bicubic':>9}{'model':>9}{'gain':>8}{'SSIM':>9}")
    for name, (psnr, ssim) in ours.items():
        print(f"{name:24}{bicubic[name][0]:9.2f}{psnr:9.2f}{psnr - bicubic[name][0]:+8.2f}{ssim:9.4f}")
    mean_ssim = sum(s for _, s in ours.values()) / len(ours)
    a, b = mean_psnr(bicubic), mean_psnr(ours)
    print(f"{'mean':24}{a:9.2f}{b:9.2f}{b - a:+8.2f}{mean_ssim:9.4f}")
    return 0


if __name__ == "__main__":
    cv2.setNumThreads(1)
    sys.exit(main())
