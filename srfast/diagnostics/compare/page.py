"""The page: pictures, spectra and measures in one file that asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template

import cv2
import numpy as np

from srfast.diagnostics.compare.pictures import TRUTH, Scene, UInt8
from srfast.errors import OutputError

_FOLDER = Path(__file__).parent
_WIDE, _TALL = 1280, 960  # of the part that is shown of larger pictures
_SPECTRUM = 256  # side of a shown spectrum
_SMALLEST = 64  # side of a part that still shows something
_SHRINK = math.sqrt(0.5)  # of the sides of a part that is too large
_PNG = 0  # as a quality: lossless
_QUALITIES = (_PNG, 95, 85)
_DECIMALS = {"PSNR-Y": 2, "PSNR-RGB": 2, "SSIM-Y": 4, "LPIPS": 4}


@dataclass(frozen=True)
class Size:
    """Say how large a page may become, and which part of the pictures it shows.

    Attributes:
        most: bytes.
        crop: width and height in pixels of the results, with the left top corner or None where the most detail is; without
            it whole pictures, but for those of more than 1280x960 pixels.
    """

    most: int = 16 << 20
    crop: tuple[int, int, int | None, int | None] | None = None


@dataclass(frozen=True)
class Page:
    """Hold a page and what was done to its pictures.

    Attributes:
        text: the whole page in HTML; it asks no network for anything.
        note: in words, which is also in the page.
    """

    text: str
    note: str


@dataclass(frozen=True)
class _Part:
    """A scene cut to what is shown of it."""

    scene: Scene
    whole: tuple[int, int]
    corner: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.scene.views[0].image.shape[:2]
        return height, width


def build_page(scenes: Iterable[Scene], size: Size | None = None) -> Page:
    """Build the page; pictures are PNG if they fit, else JPEG, else smaller parts of them.

    Args:
        scenes: taken one after the other, so that only their parts are held.
        size: the limits; by default 16 MiB.

    Raises:
        OutputError: not even small parts fit.
        ValueError: the part that is asked for does not lie in a picture.

    Examples:
        >>> from srfast.diagnostics.compare import View
        >>> views = [View(label, "a flat picture", np.full((64, 96, 3), 128, np.uint8)) for label in ("before", "after")]
        >>> build_page([Scene("gray", tuple(views))]).note
        '2 pictures as PNG, lossless.'
    """
    size = size or Size()
    parts = [_part(scene, size) for scene in scenes]
    attempts = [(parts, quality) for quality in _QUALITIES]
    for number in range(1, 64):
        smaller = [_middle(part, _SHRINK**number) for part in parts]
        if min(min(part.size) for part in smaller) < _SMALLEST:
            break
        attempts.append((smaller, _QUALITIES[-1]))
    for shown, quality in attempts:
        page = _page(shown, quality)
        if len(page.text.encode()) <= size.most:
            return page
    raise OutputError(
        f"the page would be larger than {size.most / 2**20:.1f} MiB whatever part of the pictures it shows; give fewer "
        "pictures (--most, --at) or a larger --max-size"
    )


def _part(scene: Scene, size: Size) -> _Part:
    from srfast.training.compare import busiest

    sharpest = scene.views[-1].image
    height, width = sharpest.shape[:2]
    wide, tall, x, y = size.crop or (_WIDE, _TALL, None, None)
    if size.crop is None and height * width <= _WIDE * _TALL:
        wide, tall = width, height
    if size.crop is not None and (wide + (x or 0) > width or tall + (y or 0) > height):
        raise ValueError(f"--crop {wide}x{tall} at {x or 0},{y or 0} does not lie in a picture of {width}x{height}")
    wide, tall = min(wide, width), min(tall, height)
    if x is None or y is None:
        y, x = busiest(sharpest, tall, wide)
    return _cut(_Part(scene, (height, width), (0, 0)), y, x, tall, wide)


def _cut(part: _Part, y: int, x: int, tall: int, wide: int) -> _Part:
    views = tuple(
        replace(view, image=np.ascontiguousarray(view.image[y : y + tall, x : x + wide])) for view in part.scene.views
    )
    return _Part(replace(part.scene, views=views), part.whole, (part.corner[0] + y, part.corner[1] + x))


def _middle(part: _Part, factor: float) -> _Part:
    height, width = part.size
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    return _cut(part, (height - tall) // 2, (width - wide) // 2, tall, wide)


def _page(parts: Sequence[_Part], quality: int) -> Page:
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    note = _note(parts, quality)
    # A hash for each, so that nothing else runs whatever a name in the page holds. default-src forbids every request.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    names = [part.scene.name for part in parts]
    title = names[0] if len(names) == 1 else f"{len(names)} pictures: {names[0]}, ..."
    data = json.dumps([_data(part, quality) for part in parts]).replace("<", "\\u003c")
    text = Template((_FOLDER / "page.html").read_text(encoding="utf-8")).substitute(
        policy=html.escape(policy),
        title=html.escape(_text(title)),
        style=style,
        script=script,
        data=data,
        note=html.escape(note),
        tables=_tables([part.scene for part in parts]),
    )
    return Page(text, note)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _text(text: str) -> str:
    """Names of files that are no UTF-8 as something that is."""
    return text.encode("utf-8", "replace").decode()


def _note(parts: Sequence[_Part], quality: int) -> str:
    views = sum(len(part.scene.views) for part in parts)
    form = "PNG, lossless" if quality == _PNG else f"JPEG of quality {quality}, so that the page stays small"
    text = f"{views} pictures as {form}"
    cut = [part for part in parts if part.size != part.whole]
    if cut:
        (height, width), (tall, wide) = cut[0].whole, cut[0].size
        y, x = cut[0].corner
        text += f"; of {width}x{height} the part of {wide}x{tall} at {x},{y} is shown"
        text += f", of {len(cut) - 1} others a part like it" if len(cut) > 1 else ""
    if any(view.metrics for part in parts for view in part.scene.views):
        text += "; PSNR and SSIM are of the whole pictures, less a border as wide as the enlargement"
    if any("LPIPS" in view.metrics for part in parts for view in part.scene.views):
        text += "; LPIPS (AlexNet, smaller is nearer) is of the whole pictures"
    return text + "."


def _data(part: _Part, quality: int) -> dict[str, object]:
    from srfast.training.compare import log_spectrum

    height, width = part.size
    views = part.scene.views
    shown = []
    for view in views:
        spectrum = cv2.resize(log_spectrum(view.image), (_SPECTRUM, _SPECTRUM), interpolation=cv2.INTER_AREA)
        shown.append(
            {
                "label": _text(view.label),
                "picture": address(view.image, quality),
                "spectrum": address(spectrum[..., :1].copy(), 85),
            }
        )
    first = next((n for n in range(len(views) - 1, 0, -1) if views[n].label != TRUTH), len(views) - 1)
    return {"name": _text(part.scene.name), "width": width, "height": height, "first_choice": first, "views": shown}


def address(image: UInt8, quality: int) -> str:
    """Encode a picture as a ``data:`` address.

    Args:
        image: [H, W, 3] RGB or [H, W, 1] gray.
        quality: of JPEG, 1..100, with full chroma; 0 is PNG.

    Examples:
        >>> address(np.zeros((1, 1, 3), np.uint8), 0)[:32]
        'data:image/png;base64,iVBORw0KGg'
    """
    pixels = image[..., ::-1] if image.shape[2] == 3 else image
    options = (
        [cv2.IMWRITE_PNG_COMPRESSION, 9]
        if quality == _PNG
        else [
            *(cv2.IMWRITE_JPEG_QUALITY, quality),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ]
    )
    kind = "png" if quality == _PNG else "jpeg"
    _, data = cv2.imencode(f".{kind}", np.ascontiguousarray(pixels), options)
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"


def _tables(scenes: Sequence[Scene]) -> str:
    """The measures, or what the pictures are; over all scenes first where there are several."""
    tables = []
    common = [[view.label for view in scene.views] for scene in scenes]
    if len(scenes) > 1 and any(view.metrics for view in scenes[0].views) and all(c == common[0] for c in common):
        rows = [
            (label, {m: _mean([scene.views[n].metrics.get(m, math.nan) for scene in scenes]) for m in _DECIMALS}, "")
            for n, label in enumerate(common[0])
            if label != TRUTH
        ]
        tables.append(f"<div>{_table(f'Mean of {len(scenes)} pictures', rows)}</div>")
    for number, scene in enumerate(scenes):
        rows = [(view.label, dict(view.metrics), view.how) for view in scene.views]
        tables.append(f'<div data-scene="{number}">{_table(scene.name, rows, named=len(scenes) > 1)}</div>')
    return "\n".join(tables)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _table(title: str, rows: Sequence[tuple[str, dict[str, float], str]], named: bool = True) -> str:
    """A table under its title; that of an only picture is the page's, and not shown again."""
    names = [name for name in _DECIMALS if any(name in row[1] for row in rows)]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    how = any(row[2] for row in rows)
    lines = []
    for label, values, text in rows:
        cells = "".join(f"<td>{_shown(name, values.get(name))}</td>" for name in names)
        last = f'<td class="how">{html.escape(_text(text))}</td>' if how else ""
        lines.append(f'<tr><th scope="row">{html.escape(_text(label))}</th>{cells}{last}</tr>')
    last = '<th scope="col" class="how">what it is</th>' if how else ""
    seen = "" if named else ' class="unseen"'
    return (
        f"<h2{seen}>{html.escape(_text(title))}</h2>"
        f'<div class="wide" tabindex="0" role="region" aria-label="{html.escape(_text(title))}"><table><thead><tr>'
        f'<th scope="col">picture</th>{head}{last}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _shown(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "&ndash;"
    unit = " dB" if name.startswith("PSNR") else ""
    return "equal" if math.isinf(value) else f"{value:.{_DECIMALS[name]}f}{unit}"
