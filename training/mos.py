"""Mean opinion scores: a page for blind rating by people, and what their ratings say.

``python -m srfast.training.mos page --model NAME=FILE ... --data FOLDER --out DIR`` writes ``rate.html`` (send it to people; it
needs nothing else) and ``key.json`` (keep it). Each rater sends back one file; ``python -m srfast.training.mos aggregate
DIR/key.json ratings-*.json`` prints means and 95% confidence intervals.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from srfast.errors import MissingDependencyError, SrfastError
from srfast.training.compare import Systems, load_systems
from srfast.training.data import find_images, read_rgb
from srfast.training.metrics import UInt8Image, modcrop

# STUDY and ITEMS in it are put in by ``build_page``.
PAGE = Path(__file__).with_name("mos.html")


@dataclass(frozen=True)
class Opinion:
    """What the ratings of one system say: mean, half width of the 95% confidence interval, number of raters and ratings."""

    mean: float
    margin: float
    raters: int
    ratings: int


def build_page(
    systems: Systems, images: Sequence[Path], seed: int = 0, side: int = 256
) -> tuple[str, dict[str, object]]:
    """The page and its key. Item names say nothing of the system; every rater sees them in another order.

    Args:
        systems: what is rated; HR is among them.
        images: HR images.
        seed: gives the item names.
        side: the middle square of each image that is shown.
    """
    rng = random.Random(seed)
    items: list[dict[str, str]] = []
    key: dict[str, dict[str, str]] = {}
    for path in images:
        hr = modcrop(read_rgb(path), systems.scale)
        for system, image in systems.run(hr).items():
            item = f"{rng.getrandbits(48):012x}"
            y, x = (max(0, (n - side) // 2) for n in image.shape[:2])
            items.append({"item": item, "png": _png(image[y : y + side, x : x + side])})
            key[item] = {"system": system, "image": path.stem}
    rng.shuffle(items)
    study = f"{rng.getrandbits(48):012x}"
    # The pictures come last: their base64 may spell any word.
    page = PAGE.read_text().replace("STUDY", json.dumps(study)).replace("ITEMS", json.dumps(items))
    return page, {"study": study, "items": key}


def _png(image: UInt8Image) -> str:
    _, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    return base64.b64encode(data.tobytes()).decode()


def read_ratings(path: Path, key: Mapping[str, object]) -> dict[str, int]:
    """Item -> score of one rater.

    Raises:
        ValueError: not a file of this study, an unknown or repeated item, or a score that is not 1 to 5.
    """
    try:
        content = json.loads(path.read_text())
        study, pairs = content["study"], [(r["item"], r["score"]) for r in content["ratings"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a file of ratings: {error}") from error
    if study != key["study"]:
        raise ValueError(f"{path} is of another study")
    scores: dict[str, int] = {}
    items = key["items"]
    assert isinstance(items, dict)
    for item, score in pairs:
        if item not in items or item in scores:
            raise ValueError(f"{path}: item {item!r} is unknown or rated twice")
        if type(score) is not int or not 1 <= score <= 5:
            raise ValueError(f"{path}: a score is 1 to 5, not {score!r}")
        scores[item] = score
    return scores


def aggregate(key: Mapping[str, object], raters: Sequence[Mapping[str, int]]) -> dict[str, Opinion]:
    """Mean opinion score by system; the interval is Student's over the raters' own means, as raters differ in strictness."""
    items = key["items"]
    assert isinstance(items, dict)
    opinions = {}
    for system in dict.fromkeys(entry["system"] for entry in items.values()):
        means, count = [], 0
        for rater in raters:
            own = [score for item, score in rater.items() if items[item]["system"] == system]
            if own:
                means.append(sum(own) / len(own))
                count += len(own)
        margin = confidence_margin(means)
        opinions[system] = Opinion(float(np.mean(means)) if means else math.nan, margin, len(means), count)
    return opinions


def confidence_margin(means: Sequence[float], confidence: float = 0.95) -> float:
    """Return half the width of Student's confidence interval of a mean; NaN for fewer than two values.

    Raises:
        MissingDependencyError: scipy is not installed.

    Examples:
        >>> round(confidence_margin([3.0, 4.0, 5.0]), 3)  # 4.303 * 1 / sqrt(3)
        2.484
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingDependencyError("scipy is not installed: pip install 'srfast[train]'") from error
    n = len(means)
    if n < 2:
        return math.nan
    quantile = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    return quantile * float(np.std(means, ddof=1)) / math.sqrt(n)


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = parser().parse_args(arguments)
    try:
        if args.command == "page":
            page, key = build_page(load_systems(args.model), find_images([args.data])[: args.images], args.seed)
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "rate.html").write_text(page)
            (args.out / "key.json").write_text(json.dumps(key, indent=1))
            print(f"{args.out / 'rate.html'}: send it; {args.out / 'key.json'}: keep it")
        else:
            key = json.loads(args.key.read_text())
            opinions = aggregate(key, [read_ratings(path, key) for path in args.ratings])
            print("| system | MOS | 95% interval | raters | ratings |\n|---|---|---|---|---|")
            for name, o in sorted(opinions.items(), key=lambda pair: -pair[1].mean):
                print(f"| {name} | {o.mean:.2f} | +-{o.margin:.2f} | {o.raters} | {o.ratings} |")
    except (SrfastError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    p = argparse.ArgumentParser(prog="python -m srfast.training.mos", description=__doc__)
    commands = p.add_subparsers(dest="command", required=True)
    page = commands.add_parser("page", help="write the page and its key")
    page.add_argument("--model", nargs="+", required=True, metavar="NAME=FILE")
    page.add_argument("--data", type=Path, required=True, help="folder of HR images")
    page.add_argument("--images", type=int, default=10, help="number of images")
    page.add_argument("--seed", type=int, default=0)
    page.add_argument("--out", type=Path, required=True)
    merge = commands.add_parser("aggregate", help="means and intervals of the ratings that came back")
    merge.add_argument("key", type=Path)
    merge.add_argument("ratings", type=Path, nargs="+")
    return p


if __name__ == "__main__":
    sys.exit(main())
