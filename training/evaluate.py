"""Measures a network on a folder of high-resolution images: ``python -m srfast.training.evaluate MODEL HR_FOLDER``.

PSNR-Y, SSIM-Y and the spectrum always; NIQE, BRISQUE, LPIPS, DISTS and a Frechet distance over VGG16 where their files are given.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from srfast.checkpoint import load_model
from srfast.errors import SrfastError
from srfast.training.backbones import Backbone
from srfast.training.data import find_images, read_rgb, to_tensor
from srfast.training.degradation import DEGRADATIONS, degrade
from srfast.training.imresize import imresize
from srfast.training.measures import FRECHET, Files, Metric, choose_metrics, frechet_vgg16, means, shown
from srfast.training.metrics import UInt8Image, modcrop


def alignment(model: nn.Module) -> int:
    """Of what the sides of a network's input have to be multiples."""
    return int(getattr(model, "multiple", 1))


@torch.no_grad()
def upscale_rgb(model: nn.Module, image: UInt8Image) -> UInt8Image:
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


def evaluate(
    model: nn.Module | None,
    folder: Path,
    scale: int,
    metrics: Mapping[str, Metric] | None = None,
    degradation: str = "bicubic",
) -> dict[str, dict[str, float]]:
    """Measures a network on the pictures of a folder, made small first; None measures bicubic interpolation.

    Args:
        model: the network.
        folder: high-resolution pictures.
        scale: of the network.
        metrics: measures by name; PSNR-Y and SSIM-Y by default.
        degradation: how the pictures become small: MATLAB's "bicubic", a "gaussian" filter, or "footage", what videos suffer,
            which is another for each picture and always the same for one.

    Returns:
        For every picture, by name (with the folder and suffix where names are alike), every measure.

    Raises:
        ValueError: names the picture that is too small.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> cv2.imwrite(str(folder / "gray.png"), np.full((32, 32, 3), 128, np.uint8))
        True
        >>> evaluate(None, folder, 2)["gray"]["PSNR-Y"]  # None is bicubic; Set5 x4 gives 28.43 on average
        inf
    """
    chosen = {name: f for name, f in choose_metrics(Files(), scale).items() if name != "spectrum dB"}
    chosen = dict(metrics) if metrics is not None else chosen
    scores: dict[str, dict[str, float]] = {}
    paths = find_images([folder])
    stems = Counter(path.stem for path in paths)
    for path in paths:
        hr = modcrop(read_rgb(path), scale)
        sr = enlarge(model, small(path, hr, scale, degradation), scale)
        name = path.stem if stems[path.stem] == 1 else str(path.relative_to(folder))
        try:
            scores[name] = {metric: function(sr, hr) for metric, function in chosen.items()}
        except ValueError as error:
            raise ValueError(f"{path}: {error}; take it out of the folder") from error
    return scores


def small(path: Path, hr: UInt8Image, scale: int, degradation: str) -> UInt8Image:
    """What becomes of the picture of a file; chance follows from the file's name."""
    return degrade(hr, scale, degradation, random.Random(path.stem))


def enlarge(model: nn.Module | None, lr: UInt8Image, scale: int) -> UInt8Image:
    """What the network, or bicubic interpolation, makes of a small picture; uint8 RGB [H, W, 3]."""
    return imresize(lr, scale) if model is None else upscale_rgb(model, lr)


def frechet_of(
    model: nn.Module | None, folder: Path, scale: int, backbone: Path, degradation: str = "bicubic"
) -> float:
    """``frechet_vgg16`` of a network's pictures to those of a folder."""
    pictures = ((path, modcrop(read_rgb(path), scale)) for path in find_images([folder]))
    pairs = ((enlarge(model, small(path, hr, scale, degradation), scale), hr) for path, hr in pictures)
    return frechet_vgg16(pairs, Backbone("vgg16", backbone))


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.evaluate", description=__doc__)
    p.add_argument("model", help="a checkpoint, or the name of a model that srfast ships")
    p.add_argument("folder", type=Path, help="high-resolution images")
    p.add_argument(
        "--degradation",
        choices=DEGRADATIONS,
        default="bicubic",
        help="how the images are made small (default: bicubic)",
    )
    p.add_argument("--json", type=Path, metavar="FILE", help="write every number there too")
    Files.add_to(p)
    args = p.parse_args(arguments)
    try:
        files, loaded = Files.of(args), load_model(args.model)
        scale, systems = loaded.scale, {"bicubic": None, "model": loaded.module}
        metrics = choose_metrics(files, scale)
        kind = args.degradation
        scores = {name: evaluate(model, args.folder, scale, metrics, kind) for name, model in systems.items()}
        total = {name: means(rows.values()) for name, rows in scores.items()}
        if files.vgg16:
            for name, model in systems.items():
                total[name][FRECHET] = frechet_of(model, args.folder, scale, files.vgg16, kind)
        if args.json:
            found = {
                "model": args.model,
                "scale": scale,
                "degradation": kind,
                "images": scores["model"],
                "means": total,
            }
            args.json.write_text(json.dumps(found, indent=1) + "\n")
    except (SrfastError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(as_table(scores["model"], total))
    return 0


def as_table(images: Mapping[str, Mapping[str, float]], total: Mapping[str, Mapping[str, float]]) -> str:
    """Lines of text: every picture through the network, then the means of each system."""
    names = list(total["model"])
    widths = [max(9, len(name) + 2) for name in names]
    lines = [f"{'image':24}" + "".join(f"{name:>{w}}" for name, w in zip(names, widths, strict=True))]
    rows = {**images, **{f"mean, {system}": row for system, row in total.items()}}
    for title, row in rows.items():
        cells = (f"{shown(name, row[name]) if name in row else '':>{w}}" for name, w in zip(names, widths, strict=True))
        lines.append(f"{title:24}" + "".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    sys.exit(main())
