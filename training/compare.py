"""Compares checkpoints over datasets: ``python -m srfast.training.compare --model NAME=FILE ... --data NAME=FOLDER ...``.

Writes ``report.md`` with a table (bicubic, each system, HR) and picture grids: zoomed crops above, log spectra below.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from srfast.checkpoint import load_model
from srfast.errors import SrfastError
from srfast.training.backbones import Backbone
from srfast.training.data import find_images, read_rgb, to_tensor
from srfast.training.evaluate import upscale_rgb
from srfast.training.frequency import frequency_discrepancy
from srfast.training.imresize import imresize
from srfast.training.metrics import UInt8Image, modcrop, psnr_y, ssim_y
from srfast.training.no_reference import brisque, niqe
from srfast.training.perceptual import DISTS, LPIPS

Metric = Callable[[UInt8Image, UInt8Image], float]
TILE, ZOOM, LABEL = 48, 3, 16


@dataclass(frozen=True)
class Systems:
    """What is compared: bicubic, networks of one scale by name, HR."""

    models: Mapping[str, nn.Module]
    scale: int

    def names(self) -> list[str]:
        return ["bicubic", *self.models, "HR"]

    def run(self, hr: UInt8Image) -> dict[str, UInt8Image]:
        """Every system's image for one HR image whose sides are multiples of the scale."""
        lr = imresize(hr, 1 / self.scale)
        networks = {name: upscale_rgb(model, lr) for name, model in self.models.items()}
        return {"bicubic": imresize(lr, self.scale), **networks, "HR": hr}


def spectrum_discrepancy(image: UInt8Image, reference: UInt8Image) -> float:
    """``frequency_discrepancy`` of two uint8 images, dB."""
    return float(frequency_discrepancy(to_tensor(image)[None], to_tensor(reference)[None]))


def choose_metrics(args: argparse.Namespace, scale: int) -> dict[str, Metric]:
    """PSNR-Y, SSIM-Y and the spectrum always; the others where their files are given."""
    metrics: dict[str, Metric] = {
        "PSNR-Y": lambda a, b: psnr_y(a, b, scale),
        "SSIM-Y": lambda a, b: ssim_y(a, b, scale),
        "spectrum dB": spectrum_discrepancy,
    }
    if args.niqe:
        metrics["NIQE"] = lambda a, _: niqe(a, args.niqe, scale)
    if args.brisque:
        metrics["BRISQUE"] = lambda a, _: brisque(a, *args.brisque)
    if args.lpips:
        metrics["LPIPS"] = _deep(LPIPS(Backbone("alex", args.lpips[0]), args.lpips[1]))
    if args.dists:
        metrics["DISTS"] = _deep(DISTS(Backbone("vgg16", args.dists)))
    return metrics


def _deep(network: nn.Module) -> Metric:
    @torch.no_grad()
    def measure(a: UInt8Image, b: UInt8Image) -> float:
        return float(network(to_tensor(a)[None], to_tensor(b)[None]))

    return measure


def measure(systems: Systems, folder: Path, metrics: Mapping[str, Metric]) -> dict[str, dict[str, float]]:
    """Mean of every metric by system; images too small for a metric are left out of its mean."""
    values: dict[str, dict[str, list[float]]] = {s: {m: [] for m in metrics} for s in systems.names()}
    for path in find_images([folder]):
        hr = modcrop(read_rgb(path), systems.scale)
        for name, image in systems.run(hr).items():
            for metric, function in metrics.items():
                try:
                    values[name][metric].append(function(image, hr))
                except ValueError as error:
                    print(f"{path.name}: {metric}: {error}", file=sys.stderr)
    return {s: {m: float(np.mean(v)) if v else float("nan") for m, v in row.items()} for s, row in values.items()}


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """A Markdown table from dataset -> system -> metric -> mean."""
    lines: list[str] = []
    for data, rows in results.items():
        metrics = list(next(iter(rows.values())))
        lines += [f"| {data} | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
        for system, row in rows.items():
            lines.append(f"| {system} | {' | '.join(_number(m, row[m]) for m in metrics)} |")
        lines.append("")
    return "\n".join(lines)


def _number(metric: str, value: float) -> str:
    digits = 4 if metric in ("SSIM-Y", "LPIPS", "DISTS") else 2
    return "-" if not np.isfinite(value) else f"{value:.{digits}f}"


def busiest(image: UInt8Image, side: int) -> tuple[int, int]:
    """Top left corner of the ``side`` x ``side`` square with the most fine detail."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = cv2.boxFilter(np.abs(cv2.Laplacian(gray, cv2.CV_32F)), -1, (side, side), anchor=(0, 0))
    inside = detail[: image.shape[0] - side + 1, : image.shape[1] - side + 1]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(y), int(x)


def log_spectrum(image: UInt8Image) -> UInt8Image:
    """Log power spectrum of the gray image, frequency zero in the middle, 80 dB from black to white."""
    gray = image.astype(np.float64).mean(2)
    window = np.outer(np.hanning(gray.shape[0]), np.hanning(gray.shape[1]))
    power = 20 * np.log10(np.abs(np.fft.fftshift(np.fft.fft2(gray * window))) + 1e-3)
    scaled = np.clip((power - power.max() + 80) / 80, 0, 1)
    return np.repeat((scaled * 255).astype(np.uint8)[..., None], 3, 2)


def picture(systems: Systems, path: Path) -> UInt8Image:
    """One image's grid: LR, bicubic, each system, HR; crops above and the spectra of the whole images below."""
    hr = modcrop(read_rgb(path), systems.scale)
    images = systems.run(hr)
    lr = imresize(hr, 1 / systems.scale).repeat(systems.scale, 0).repeat(systems.scale, 1)
    y, x = busiest(hr, min(TILE, *hr.shape[:2]))
    columns = []
    for name, image in {"LR": lr, **images}.items():
        crop = image[y : y + TILE, x : x + TILE].repeat(ZOOM, 0).repeat(ZOOM, 1)
        spectrum = cv2.resize(log_spectrum(image), crop.shape[1::-1], interpolation=cv2.INTER_AREA)
        label = np.full((LABEL, crop.shape[1], 3), 255, np.uint8)
        cv2.putText(label, name, (2, LABEL - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        columns.append(np.concatenate([label, crop, spectrum]))
    return np.concatenate(columns, axis=1)


def write_png(path: Path, image: UInt8Image) -> None:
    """RGB to a file.

    Raises:
        OSError: it could not be written.
    """
    if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f"cannot write {path}")


def named(text: str) -> tuple[str, str]:
    """ "NAME=VALUE" as a pair; a bare path is named by its stem."""
    name, equals, value = text.partition("=")
    return (name, value) if equals else (Path(text).stem, text)


def load_systems(models: Sequence[str]) -> Systems:
    """Checkpoints given as NAME=FILE, all of one scale.

    Raises:
        ValueError: the scales differ, or two have one name.
    """
    names = [name for name, _ in map(named, models)]
    repeated = [name for name in names if [*names, "bicubic", "HR"].count(name) > 1]
    if repeated:
        raise ValueError(f"two systems are called {repeated[0]!r}; give NAME=FILE with names of their own")
    loaded = {name: load_model(value) for name, value in map(named, models)}
    scales = {m.scale for m in loaded.values()}
    if len(scales) != 1:
        raise ValueError(f"the models must have one scale, not {sorted(scales)}")
    return Systems({name: m.module for name, m in loaded.items()}, scales.pop())


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(arguments)
    try:
        systems = load_systems(args.model)
        metrics = choose_metrics(args, systems.scale)
        args.out.mkdir(parents=True, exist_ok=True)
        results, pictures = {}, []
        for name, folder in map(named, args.data):
            results[name] = measure(systems, Path(folder), metrics)
            print(table({name: results[name]}), flush=True)
            for path in find_images([Path(folder)])[: args.pictures]:
                file = f"{name}_{path.stem}.png"
                write_png(args.out / file, picture(systems, path))
                pictures.append(f"![{name}, {path.stem}]({file})")
        text = f"# x{systems.scale} comparison\n\nMeans over images; PSNR and SSIM on Y, {systems.scale} pixels cropped.\n\n"
        (args.out / "report.md").write_text(text + table(results) + "\n" + "\n\n".join(pictures) + "\n")
    except (SrfastError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m srfast.training.compare", description=__doc__)
    p.add_argument("--model", nargs="+", required=True, metavar="NAME=FILE", help="checkpoints or shipped models")
    p.add_argument("--data", nargs="+", required=True, metavar="NAME=FOLDER", help="folders of HR images")
    p.add_argument("--out", type=Path, required=True, help="folder of the report")
    p.add_argument("--pictures", type=int, default=1, help="picture grids of each dataset")
    p.add_argument("--niqe", type=Path, metavar="NPZ", help="NIQE's parameters")
    p.add_argument("--brisque", type=Path, nargs=2, metavar="YML", help="BRISQUE's machine and ranges")
    p.add_argument("--lpips", nargs=2, metavar="FILE", help="AlexNet backbone and LPIPS heads")
    p.add_argument("--dists", metavar="FILE", help="VGG16 backbone")
    return p


if __name__ == "__main__":
    sys.exit(main())
