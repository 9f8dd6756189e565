"""Makes what ``docs/gallery.md`` shows: pages of ``srfast compare``, a strip for each photograph, a page for blind rating.

The pictures are a frame of the clip that comes with srfast, and Grace Hopper's portrait (US Navy, in the public domain) from
matplotlib's sample data. ``SRFAST_LPIPS`` adds LPIPS to the measures.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import cbook
from PIL import Image, ImageDraw, ImageFont

import srfast
from srfast.diagnostics.compare import Compared, Size, build_page, scenes
from srfast.diagnostics.compare.pictures import Scene
from srfast.training import mos
from srfast.training.compare import load_systems, log_spectrum
from srfast.training.imresize import imresize
from srfast.upscaler import load

FOLDER = Path(__file__).parent
CLIP = Path(srfast.__file__).parent / "assets" / "clip.mp4"
SIDE, GAP, LINE = 240, 4, 24  # of a strip's pictures, in pixels
FONT = ImageFont.load_default(15)


@dataclass(frozen=True)
class Exhibit:
    """A photograph of the gallery.

    Attributes:
        page: name below ``docs``.
        models: shipped networks.
        reduced: how many times smaller the source is than the photograph; 1 leaves it, so that there is no truth.
        corner: x and y of the strip's part, in pixels of the results.
        crop: of the page.
        most: bytes of the page.
    """

    page: str
    models: tuple[str, ...]
    reduced: int
    corner: tuple[int, int]
    crop: tuple[int, int, int | None, int | None] | None = None
    most: int = 16 << 20


X4, X2 = ("compact_x4", "srresnet_x4", "srgan_x4"), ("compact_x2", "srresnet_x2")
EXHIBITS = (
    Exhibit("compare-demo.html", X4, 1, (90, 60), (420, 360, 110, 60), 330_000),
    Exhibit("gallery/hopper-x4.html", X4, 4, (120, 70), (360, 320, 80, 60), 260_000),
    Exhibit("gallery/hopper-x2.html", X2, 2, (120, 70), (360, 320, 80, 60), 230_000),
)


def scene_of(exhibit: Exhibit) -> Scene:
    """Runs the networks; the source is made small as the papers do it, by bicubic interpolation with antialiasing."""
    models = [load(name, device="cpu", dtype="fp32") for name in exhibit.models]
    if exhibit.reduced == 1:
        return next(scenes(Compared(CLIP, models=models, times=(29 / 24,))))
    alexnet = os.environ.get("SRFAST_LPIPS")
    photograph = hopper()
    with tempfile.TemporaryDirectory() as name:
        source, truth = Path(name, "hopper.png"), Path(name, "truth.png")
        Image.fromarray(photograph).save(truth)
        Image.fromarray(imresize(photograph, 1 / exhibit.reduced)).save(source)
        compared = Compared(source, models=models, truth=truth, alexnet=Path(alexnet) if alexnet else None)
        return next(scenes(compared))


def hopper() -> np.ndarray:
    """Grace Hopper's portrait, uint8 RGB."""
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("RGB"))


def rating_page() -> str:
    """The page on which people rate the x4 networks on the portrait, without knowing which is which."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "hopper.png")
        Image.fromarray(hopper()[:-40, 120:-60]).save(path)
        return mos.build_page(load_systems([f"{model}={model}" for model in X4]), [path], side=224)[0]


def strip(scene: Scene, corner: tuple[int, int]) -> np.ndarray:
    """The same part of every picture, pixel for pixel, with its name, and the spectrum of the whole picture below."""
    return np.hstack(list(_pictures(scene, *corner)))


def _pictures(scene: Scene, x: int, y: int) -> Iterator[np.ndarray]:
    for view in scene.views:
        spectrum = Image.fromarray(log_spectrum(view.image)).resize((SIDE, SIDE), Image.Resampling.BOX)
        frame = Image.new("RGB", (SIDE + GAP, 2 * SIDE + LINE), "white")
        frame.paste(Image.fromarray(view.image[y : y + SIDE, x : x + SIDE]))
        frame.paste(spectrum, (0, SIDE + LINE))
        ImageDraw.Draw(frame).text((2, SIDE + 3), view.label.rpartition(", ")[2], fill="black", font=FONT)
        yield np.asarray(frame)


def rows(scene: Scene) -> list[str]:
    """The measures as a table of Markdown."""
    names = list(scene.views[0].metrics)
    lines = [f"| picture | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for view in scene.views:
        values = (f"{v:.2f} dB" if name.startswith("PSNR") else f"{v:.4f}" for name, v in view.metrics.items())
        lines += [f"| {view.label.rpartition(', ')[2]} | {' | '.join(values)} |"] if view.metrics else []
    return lines


def main() -> None:
    """Writes the files and prints the tables."""
    for exhibit in EXHIBITS:
        scene, path = scene_of(exhibit), FOLDER / exhibit.page
        path.parent.mkdir(exist_ok=True)
        path.write_text(build_page([scene], Size(exhibit.most, exhibit.crop)).text, encoding="utf-8")
        picture = FOLDER / "gallery" / f"{path.stem.replace('compare-demo', 'clip-x4')}.jpg"
        Image.fromarray(strip(scene, exhibit.corner)).save(picture, quality=90, subsampling=0)
        sizes = f"{path.stat().st_size} and {picture.stat().st_size} bytes"
        print("\n".join([f"{exhibit.page}: {sizes}", *(rows(scene) if exhibit.reduced > 1 else [])]))
    page = FOLDER / "gallery" / "rate.html"
    page.write_text(rating_page(), encoding="utf-8")
    print(f"{page.name}: {page.stat().st_size} bytes")


if __name__ == "__main__":
    main()
