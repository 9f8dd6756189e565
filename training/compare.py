"""Compares checkpoints over datasets: ``python -m srfast.training.compare --model NAME=FILE ... --data NAME=FOLDER ...``.

Writes ``report.md`` with a table (bicubic, each system, HR) and picture grids: zoomed crops above, log spectra below.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import nn

from srfast.checkpoint import load_model
from srfast.errors import SrfastError
from srfast.training.backbones import Backbone
from srfast.training.data import find_images, read_rgb
from srfast.training.evaluate import upscale_rgb
from srfast.training.imresize import imresize
from srfast.training.measures import FRECHET, Files, Metric, Pair, choose_metrics, frechet_vgg16, means, shown
from srfast.training.metrics import UInt8Image, modcrop

TILE, ZOOM, LABEL = 48, 3, 16


@dataclass(frozen=True)
class Systems:
    """What is compared: bicubic, networks of one scale by name, HR."""

    models: Mapping[str, nn.Module]
    scale: int

    def names(self) -> list[str]:
        """Return the names of all columns: bicubic interpolation, the networks, the original."""
        return ["bicubic", *self.models, "HR"]

    def run(self, hr: UInt8Image) -> dict[str, UInt8Image]:
        """Every system's image for one HR image whose sides are multiples of the scale."""
        lr = imresize(hr, 1 / self.scale)
        networks = {name: upscale_rgb(model, lr) for name, model in self.models.items()}
        return {"bicubic": imresize(lr, self.scale), **networks, "HR": hr}


def measure(
    systems: Systems, folder: Path, metrics: Mapping[str, Metric], vgg16: Path | None = None
) -> dict[str, dict[str, float]]:
    """Mean of every metric by system; images too small for a metric are left out of its mean.

    Args:
        systems: what is compared.
        folder: high-resolution images.
        metrics: measures of one image.
        vgg16: backbone of the Frechet distance, which is measured only with it.
    """
    rows: dict[str, list[dict[str, float]]] = {s: [] for s in systems.names()}
    pairs: dict[str, list[Pair]] = {s: [] for s in systems.names()}
    for path in find_images([folder]):
        hr = modcrop(read_rgb(path), systems.scale)
        for name, image in systems.run(hr).items():
            row = {}
            for metric, function in metrics.items():
                try:
                    row[metric] = function(image, hr)
                except ValueError as error:
                    row[metric] = float("nan")
                    print(f"{path.name}: {metric}: {error}", file=sys.stderr)
            rows[name].append(row)
            if vgg16:
                pairs[name].append((image, hr))
    found = {name: means(of_system) for name, of_system in rows.items()}
    if vgg16:
        backbone = Backbone("vgg16", vgg16)
        for name in found:
            found[name][FRECHET] = frechet_vgg16(pairs[name], backbone)
    return found


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """A Markdown table from dataset -> system -> metric -> mean."""
    lines: list[str] = []
    for data, rows in results.items():
        metrics = list(next(iter(rows.values())))
        lines += [f"| {data} | {' | '.join(metrics)} |", "|---" * (len(metrics) + 1) + "|"]
        for system, row in rows.items():
            lines.append(f"| {system} | {' | '.join(shown(m, row[m]) for m in metrics)} |")
        lines.append("")
    return "\n".join(lines)


def busiest(image: UInt8Image, height: int, width: int) -> tuple[int, int]:
    """Top left corner, down and across, of the ``height`` x ``width`` part with the most fine detail."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    detail = cv2.boxFilter(np.abs(cv2.Laplacian(gray, cv2.CV_32F)), -1, (width, height), anchor=(0, 0))
    # A window that begins further right or down would leave the image.
    inside = detail[: image.shape[0] - height + 1, : image.shape[1] - width + 1]
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(y), int(x)


def log_spectrum(image: UInt8Image) -> UInt8Image:
    """Log power spectrum of the gray image, frequency zero in the middle, 80 dB from black to white."""
    gray = image.astype(np.float64).mean(2)
    # Without a window the jump from one border to the opposite one draws a cross over the spectrum.
    window = np.outer(np.hanning(gray.shape[0]), np.hanning(gray.shape[1]))
    power = 20 * np.log10(np.abs(np.fft.fftshift(np.fft.fft2(gray * window))) + 1e-3)
    scaled = np.clip((power - power.max() + 80) / 80, 0, 1)
    return np.repeat((scaled * 255).astype(np.uint8)[..., None], 3, 2)


def picture(systems: Systems, path: Path) -> UInt8Image:
    """One image's grid: LR, bicubic, each system, HR; crops above and the spectra of the whole images below."""
    hr = modcrop(read_rgb(path), systems.scale)
    images = systems.run(hr)
    # Each LR pixel as a square: what the networks were given, at the size of what they made of it.
    lr = imresize(hr, 1 / systems.scale).repeat(systems.scale, 0).repeat(systems.scale, 1)
    side = min(TILE, *hr.shape[:2])
    y, x = busiest(hr, side, side)
    columns = {}
    for name, image in {"LR": lr, **images}.items():
        crop = image[y : y + TILE, x : x + TILE].repeat(ZOOM, 0).repeat(ZOOM, 1)
        spectrum = cv2.resize(log_spectrum(image), crop.shape[1::-1], interpolation=cv2.INTER_AREA)
        columns[name] = np.concatenate([crop, spectrum])
    return beside(columns)


def beside(columns: Mapping[str, UInt8Image]) -> UInt8Image:
    """Images of one height side by side, each with its name above it."""
    labelled = []
    for name, image in columns.items():
        label = np.full((LABEL, image.shape[1], 3), 255, np.uint8)
        cv2.putText(label, name, (2, LABEL - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
        labelled.append(np.concatenate([label, image]))
    return np.concatenate(labelled, axis=1)


def write_png(path: Path, image: UInt8Image) -> None:
    """RGB to a file.

    Raises:
        OSError: it could not be written.
    """
    if not cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f"cannot write {path}")


def named(text: str) -> tuple[str, str]:
    """ "NAME=VALUE" as a pair; a bare path is named by its stem.

    Examples:
        >>> named("mine=runs/a.safetensors"), named("runs/a.safetensors")
        (('mine', 'runs/a.safetensors'), ('a', 'runs/a.safetensors'))
    """
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
        files = Files.of(args)
        metrics = choose_metrics(files, systems.scale)
        args.out.mkdir(parents=True, exist_ok=True)
        results, pictures = {}, []
        for name, folder in map(named, args.data):
            results[name] = measure(systems, Path(folder), metrics, files.vgg16)
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
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.compare", description=__doc__)
    p.add_argument("--model", nargs="+", required=True, metavar="NAME=FILE", help="checkpoints or shipped models")
    p.add_argument("--data", nargs="+", required=True, metavar="NAME=FOLDER", help="folders of HR images")
    p.add_argument("--out", type=Path, required=True, help="folder of the report")
    p.add_argument("--pictures", type=int, default=1, help="picture grids of each dataset")
    Files.add_to(p)
    return p


if __name__ == "__main__":
    sys.exit(main())
