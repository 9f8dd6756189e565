"""What is compared: a source, results of it in files, networks that are run on it, and the truth, all at one size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from srfast.errors import InputError, OutputError
from srfast.images import READABLE, read_image
from srfast.images.arrays import Array
from srfast.upscaler import Upscaler

_log = logging.getLogger("srfast")
UInt8 = npt.NDArray[np.uint8]
TRUTH = "ground truth"
_LARGEST = 1 << 27  # pixels of a picture at the common size: 400 MB of RGB
_GRAY = 128  # what is seen through transparent pixels
# By which the proportions of two pictures of one thing may differ: a row or column that a codec cut off.
_STRETCH = 0.02
_SMALLEST_DEEP = 64  # side of a picture that AlexNet's layers leave something of
_SUFFIXES = tuple(suffix for suffix in READABLE if suffix != ".gif")  # a GIF is a video


@dataclass(frozen=True)
class View:
    """Hold one picture of a scene.

    Attributes:
        label: short and unlike the others' of its scene.
        how: what it is, in words.
        image: [H, W, 3] RGB.
        metrics: measures against the ground truth by name: 'PSNR-Y' and 'PSNR-RGB' in dB, 'SSIM-Y' up to 1, 'LPIPS' from 0;
            empty without one.
    """

    label: str
    how: str
    image: UInt8
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """Hold pictures of one thing, all of one size.

    Attributes:
        name: of the picture, or the time of the frame.
        views: the source first, the ground truth last.
    """

    name: str
    views: tuple[View, ...]


@dataclass(frozen=True)
class Compared:
    """Say what is to be compared: all images, all videos, or all folders of images.

    Attributes:
        source: what the others are enlargements of; brought to their size by bicubic interpolation.
        others: results to show, made by anything.
        models: networks that are run on the source.
        truth: what the source was before it was made small; the measures are taken against it.
        times: of the frames of videos, in seconds; the middle by default.
        most: scenes of a folder.
        alexnet: a file of AlexNet's weights as torchvision saves them; with it LPIPS is among the measures.
    """

    source: Path
    others: Sequence[Path] = ()
    models: Sequence[Upscaler] = ()
    truth: Path | None = None
    times: Sequence[float] = ()
    most: int = 12
    alexnet: Path | None = None


def scenes(compared: Compared) -> Iterator[Scene]:
    """Read, run and measure what is to be compared, one scene after the other.

    Args:
        compared: the files, and the networks that are run.

    Yields:
        One scene for two images, one for each time of videos, one for each name that all folders hold.

    Raises:
        InputError: a file is missing, cannot be read, has no partner, or is of another picture by its proportions.
        OutputError: a picture would be too large to be compared.
        CheckpointError: AlexNet's file is missing or of another kind.
        MissingDependencyError: LPIPS is asked for without torchmetrics, which has its linear heads.

    Examples:
        >>> for name, side in (("small.png", 8), ("large.png", 16)):
        ...     assert cv2.imwrite(name, np.zeros((side, side, 3), np.uint8))
        >>> (scene,) = scenes(Compared(Path("small.png"), [Path("large.png")]))
        >>> [(view.label, view.image.shape) for view in scene.views]
        [('small.png, bicubic', (16, 16, 3)), ('large.png', (16, 16, 3))]
    """
    lpips = _lpips(compared.alexnet) if compared.truth and compared.alexnet else None
    files = [compared.source, *compared.others, *([compared.truth] if compared.truth else [])]
    labels = labels_of([*map(str, files[: 1 + len(compared.others)])])
    for name, pictures in _pictures(compared, files):
        yield _scene(name, pictures, labels, compared, lpips)


def labels_of(paths: Sequence[str]) -> list[str]:
    """Return names of files, with as many of their folders as tell them apart.

    Examples:
        >>> labels_of(["photo.png", "a/out.png", "b/out.png"])
        ['photo.png', 'a/out.png', 'b/out.png']
    """
    parts = [Path(path).parts for path in paths]
    labels = []
    for path in parts:
        count = next((n for n in range(1, len(path)) if sum(o[-n:] == path[-n:] for o in parts) == 1), len(path))
        labels.append(str(Path(*path[-count:])) if path else ".")
    return labels


def _pictures(compared: Compared, files: list[Path]) -> Iterator[tuple[str, list[Array]]]:
    """Name and pictures of each scene, as BGR, BGRA or gray, in the order of the files."""
    for path in files:
        if not path.exists():
            raise InputError(f"{path} is missing")
    kinds = [_kind(path) for path in files]
    if len(set(kinds)) > 1:
        other = next(n for n, kind in enumerate(kinds) if kind != kinds[0])
        raise InputError(
            f"{files[0]} is {kinds[0]} and {files[other]} is {kinds[other]}; compare images with images, folders with "
            "folders, and videos with videos"
        )
    if compared.times and kinds[0] != _VIDEO:
        raise ValueError(f"--at does nothing for {kinds[0]}: it is for videos")
    if kinds[0] == _IMAGE:
        yield files[0].name, [read_image(path) for path in files]
    elif kinds[0] == _FOLDER:
        for name, paths in _matches(files, compared.most):
            yield name, [read_image(path) for path in paths]
    else:
        yield from _frames(files, compared.times)


_IMAGE, _FOLDER, _VIDEO = "an image", "a folder", "a video"


def _kind(path: Path) -> str:
    if path.is_dir():
        return _FOLDER
    return _IMAGE if path.suffix.lower() in _SUFFIXES else _VIDEO


def _matches(folders: list[Path], most: int) -> list[tuple[str, list[Path]]]:
    """Files of one name, but for its suffix, in each of the folders."""
    found = [_images(folder) for folder in folders]
    common = [name for name in found[0] if all(name in images for images in found)]
    if not common:
        raise InputError(
            f"no image of {folders[0]} has one of the same name in {', '.join(map(str, folders[1:]))}"
            if len(folders) > 1
            else f"{folders[0]} holds no image"
        )
    if len(common) < len(found[0]):
        _log.warning("%d images of %s have no partner and are left out", len(found[0]) - len(common), folders[0])
    if len(common) > most:
        _log.warning("%d of %d images are shown; --most shows more", most, len(common))
    return [(found[0][name].name, [images[name] for images in found]) for name in common[:most]]


def _images(folder: Path) -> dict[str, Path]:
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and not p.name.startswith("."))
    return {path.stem: path for path in paths}


def _frames(files: list[Path], times: Sequence[float]) -> Iterator[tuple[str, list[Array]]]:
    from srfast.video.preview import still

    for time in (*times,) or (None,):
        image, found, step = still(files[0], time)
        # Containers round times in their own ways: the others' frame is the nearest one.
        rest = [still(path, float(found), step * Fraction(2, 5))[0] for path in files[1:]]
        yield f"{files[0].name} at {float(found):.3f} s", [image, *rest]


def _scene(
    name: str,
    pictures: list[Array],
    labels: list[str],
    compared: Compared,
    lpips: Callable[[UInt8, UInt8], float] | None,
) -> Scene:
    source = pictures[0]
    results = [rgb(model(source)) for model in compared.models]
    shown = [rgb(picture) for picture in pictures[1:]]
    truth = shown.pop() if compared.truth else None
    small = rgb(source)
    height, width = _size(small, [*shown, *results], truth)
    if height * width > _LARGEST:
        raise OutputError(f"{width}x{height} pixels are too many to compare; give a part of the picture")
    networks = _apart([model.name for model in compared.models], labels)
    views = [_fitted(name, labels[0], "the source", small, height, width)]
    for label, image in zip(labels[1:], shown, strict=True):
        views.append(_fitted(name, label, "a file", image, height, width))
    for label, model, image in zip(networks, compared.models, results, strict=True):
        views.append(_fitted(name, label, _ran(model, source), image, height, width))
    if truth is None:
        return Scene(name, tuple(views))
    cut = truth[:height, :width]
    last = _fitted(name, TRUTH, "the ground truth", cut, height, width)
    border = max(1, round(height / small.shape[0]))
    measured = [View(v.label, v.how, v.image, measures(v.image, last.image, border)) for v in views]
    if lpips is not None and min(height, width) >= _SMALLEST_DEEP:
        for view in measured:
            view.metrics["LPIPS"] = lpips(view.image, last.image)
    return Scene(name, (*measured, last))


def _ran(model: Upscaler, source: Array) -> str:
    """A network and what runs it for such a picture, in words."""
    engine = model.engine.for_frames(8 * source.dtype.itemsize, *source.shape[:2])
    dtype = str(engine.dtype).removeprefix("torch.")
    return f"a network of x{model.scale}, {engine.backend.name} backend on {engine.device} in {dtype}"


def _apart(names: list[str], taken: list[str]) -> list[str]:
    """Names of networks with a number where another has the same."""
    found: list[str] = []
    for name in names:
        number = 1
        while (label := name if number == 1 else f"{name} ({number})") in (*taken, *found, TRUTH):
            number += 1
        found.append(label)
    return found


def _size(source: UInt8, others: list[UInt8], truth: UInt8 | None) -> tuple[int, int]:
    """Height and width that all are shown at: the truth's, cut to a multiple of the source's, or the largest one's."""
    if truth is None:
        height, width = max((image.shape[:2] for image in (source, *others)), key=lambda size: size[0] * size[1])
        return height, width
    small, large = source.shape[:2], truth.shape[:2]
    factor = large[0] // small[0]
    if factor and factor == large[1] // small[1] and large[0] - factor * small[0] < factor:
        return factor * small[0], factor * small[1]
    return large[0], large[1]


def _fitted(scene: str, label: str, how: str, image: UInt8, height: int, width: int) -> View:
    tall, wide = image.shape[:2]
    if (tall, wide) == (height, width):
        return View(label, f"{how}, {wide}x{tall}", image)
    if abs((wide * height) / (tall * width) - 1) > _STRETCH + 1 / min(tall, wide):
        raise InputError(
            f"{scene}: {label} has {wide}x{tall} pixels and others have {width}x{height}, which is another picture's "
            "proportions"
        )
    resized: UInt8 = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    return View(
        f"{label}, bicubic", f"{how}, {wide}x{tall}, brought to {width}x{height} by bicubic interpolation", resized
    )


def rgb(image: Array) -> UInt8:
    """Convert a picture to RGB of 8 bits, with transparent pixels over gray.

    Args:
        image: [H, W] or [H, W, 1] gray, [H, W, 3] BGR or [H, W, 4] BGRA, uint8 or uint16.

    Returns:
        [H, W, 3] uint8.

    Examples:
        >>> rgb(np.array([[[0, 0, 65535]]], np.uint16)).tolist()
        [[[255, 0, 0]]]
    """
    if image.dtype == np.uint16:
        image = (image.astype(np.uint32) * 255 + 32767) // 65535
    if image.ndim == 2:
        image = image[..., None]
    if image.shape[2] == 4:
        alpha = image[..., 3:].astype(np.float32) / 255
        image = np.rint(image[..., :3] * alpha + _GRAY * (1 - alpha))
    out: UInt8 = np.repeat(image, 3, 2) if image.shape[2] == 1 else image[..., ::-1]
    return np.ascontiguousarray(out.astype(np.uint8))


def _lpips(alexnet: Path) -> Callable[[UInt8, UInt8], float]:
    from srfast.training.backbones import Backbone
    from srfast.training.measures import deep_metric
    from srfast.training.perceptual import LPIPS

    return deep_metric(LPIPS(Backbone("alex", alexnet)))


def measures(image: UInt8, truth: UInt8, border: int) -> dict[str, float]:
    """Measure PSNR and SSIM of whole pictures less a border, as in the tables of the papers.

    Args:
        image, truth: [H, W, 3] RGB uint8, of one size.
        border: pixels left out on each side.

    Returns:
        'PSNR-Y' and 'PSNR-RGB' in dB, infinite for equal pictures, and 'SSIM-Y' up to 1; none where the pictures are too small.

    Examples:
        >>> black, gray = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 51, np.uint8)
        >>> f"{measures(gray, black, 2)['PSNR-RGB']:.2f} dB"  # 20 log10(255 / 51)
        '13.98 dB'
    """
    from srfast.training.metrics import psnr_rgb, psnr_y, ssim_y

    try:
        return {
            "PSNR-Y": psnr_y(image, truth, border),
            "PSNR-RGB": psnr_rgb(image, truth, border),
            "SSIM-Y": ssim_y(image, truth, border),
        }
    except ValueError as error:
        _log.warning("no measures: %s", error)
        return {}
