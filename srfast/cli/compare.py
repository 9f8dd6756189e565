"""``srfast compare``: pictures of one thing beside each other, in one page for any browser."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srfast.cli.options import ModelOptions, add_engine, add_hints, size_in_bytes, time_of_day, upscaler_from
from srfast.errors import OutputError, escaped

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler

_PAGES = (".html", ".htm")


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the command."""
    p = commands.add_parser(
        "compare", parents=[common], help="show a source, results of it and models on one page with a slider"
    )
    p.add_argument(
        "paths",
        nargs="+",
        metavar="A [B ...] OUT.html",
        help="the source, results of it that are there, and the page; all images, all folders of images, or all videos",
    )
    p.add_argument(
        "-m",
        "--model",
        dest="models",
        action="append",
        default=[],
        help="a checkpoint file or a shipped model's name to run on the source; given again, another to compare with; "
        "without a B one is chosen as for 'srfast upscale'",
    )
    p.add_argument(
        "--truth", type=Path, metavar="FILE", help="the source before it was made small: measures and a view"
    )
    p.add_argument(
        "--lpips",
        type=Path,
        metavar="FILE",
        help="AlexNet's weights, as torchvision saves them: LPIPS beside the other measures; SRFAST_LPIPS by default",
    )
    p.add_argument(
        "--at",
        type=time_of_day,
        action="append",
        default=[],
        metavar="TIME",
        help="of the frame of a video, such as 12.5s or 1:02:03.5; may be given again; the middle by default",
    )
    p.add_argument("--crop", type=_crop, metavar="WxH[+X+Y]", help="part of the pictures, in pixels of the results")
    p.add_argument("--most", type=int, default=12, help="images of a folder (12)")
    p.add_argument(
        "--max-size", default="16M", metavar="SIZE", help="of the page (16M); JPEG and smaller parts keep it"
    )
    p.add_argument("-y", "--overwrite", action="store_true", help="replace a page that exists")
    add_hints(p, "--model-scale")
    add_engine(p)
    p.set_defaults(run=_compare)


def _crop(text: str) -> tuple[int, int, int | None, int | None]:
    """Width and height of '640x480', with the left top corner of '640x480+100+50'."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})(?:\+(\d{1,6})\+(\d{1,6}))?", text.strip().lower())
    if not match or not int(match[1]) or not int(match[2]):
        raise argparse.ArgumentTypeError(f"takes a size such as 640x480, or 640x480+100+50, not {text!r}")
    corner = (int(match[3]), int(match[4])) if match[3] else (None, None)
    return int(match[1]), int(match[2]), *corner


def _compare(args: argparse.Namespace) -> int:
    from srfast._files import check_output, whole_file
    from srfast.diagnostics.compare import Compared, Size, build_page, scenes

    if len(args.paths) < 2:
        raise ValueError("give a source and a page: srfast compare IN.png OUT.html, with results or -m between them")
    source, *others = map(Path, args.paths[:-1])
    target = Path(args.paths[-1])
    if target.suffix.lower() not in _PAGES:
        raise OutputError(f"the last name is the page's and should end in .html, not {target.name!r}")
    if args.most < 1:
        raise ValueError(f"--most takes a number from 1, not {args.most}")
    size = Size(size_in_bytes(args.max_size), args.crop)
    check_output(target, args.overwrite)
    models = _models(args, source, bool(others))
    compared = Compared(source, others, models, args.truth, args.at, args.most, _alexnet(args))
    page = build_page(scenes(compared), size)
    try:
        with whole_file(target, args.overwrite) as partial:
            partial.write_text(page.text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}") from error
    print(escaped(f"{target}: {len(page.text) / 1e6:.1f} MB, {page.note}"), file=sys.stderr)
    return 0


def _alexnet(args: argparse.Namespace) -> Path | None:
    """The file for LPIPS; without one it is said how to have this measure, too."""
    if args.lpips and not args.truth:
        raise ValueError("--lpips measures against the ground truth: give that with --truth")
    named = args.lpips or os.environ.get("SRFAST_LPIPS")
    if args.truth and not named:
        print(
            "without LPIPS: --lpips FILE (or SRFAST_LPIPS) takes AlexNet's weights as torchvision saves them",
            file=sys.stderr,
        )
    return Path(named) if named else None


def _models(args: argparse.Namespace, source: Path, others: bool) -> list[Upscaler]:
    """Those that are asked for, or the usual one where there is nothing else to compare with."""
    from srfast.cli.options import is_image

    if others and not args.models:
        return []
    kind = "image" if source.is_dir() or is_image(str(source)) else "video"
    found = []
    for name in args.models or [None]:
        options = ModelOptions(
            model=[name] if name else None,
            model_scale=args.model_scale,
            act=args.act,
            res_scale=args.res_scale,
            tile=args.tile,
            backend=args.backend,
            device=args.device,
            gpu_id=args.gpu_id,
            dtype=args.dtype,
            fp32=args.fp32,
            max_memory=args.max_memory,
        )
        found.append(upscaler_from(options, kind, options.memory(None)))
    return found
