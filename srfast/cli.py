"""The command ``srfast``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import srfast
from srfast.errors import InputError, OutputError, SrfastError
from srfast.model_commands import add_model_commands

if TYPE_CHECKING:
    from srfast.upscaler import Upscaler

# Networks by scale: the compact one for video, the better and slower one for images.
DEFAULT_MODELS = {"video": "compact_x4", "image": "srresnet_x4"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0 done, 2 wrong usage, 130 interrupted, or a code of ``srfast.errors``."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="srfast: %(message)s")
    try:
        return int(args.run(args))
    except SrfastError as error:
        print(f"srfast: error: {error}", file=sys.stderr)
        return error.exit_code
    except ValueError as error:
        print(f"srfast: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"srfast: error: {name}{error.strerror or error}", file=sys.stderr)
        return OutputError.exit_code
    except KeyboardInterrupt:
        print("srfast: interrupted; no output was written", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="srfast", description="Fast, exact super-resolution of images and video.")
    parser.add_argument("--version", action="version", version=f"srfast {srfast.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="log what is chosen and why")
    info = commands.add_parser("info", parents=[common], help="what is available here, and why not")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_info)
    _add_upscale(
        commands.add_parser("upscale", parents=[common], help="upscale a video, an image or a folder of images")
    )
    add_model_commands(commands, common)
    demo = commands.add_parser("demo", parents=[common], help="upscale the clip that comes with srfast")
    demo.add_argument("output", nargs="?", default="demo-output", type=Path, help="folder for the results")
    demo.set_defaults(run=_demo)
    return parser


def _add_upscale(p: argparse.ArgumentParser) -> None:
    p.add_argument("paths", nargs="*", metavar="IN OUT", help="input and output: two files, or two folders")
    p.add_argument("-i", "--input", type=Path, help="input, instead of the first position")
    p.add_argument("-o", "--output", type=Path, help="output, instead of the second position")
    p.add_argument("-y", "--overwrite", action="store_true", help="replace outputs that exist")
    model = p.add_argument_group("model")
    names = ("-n", "--model_name", "--model-name", "-m", "--model", "--model_path", "--model-path")
    model.add_argument(*names, dest="model", help="a checkpoint file or a shipped model's name (see 'srfast info')")
    model.add_argument("-s", "--outscale", type=float, help="final enlargement; the model's own by default")
    engine = p.add_argument_group("engine")
    engine.add_argument("-t", "--tile", default="auto", help="tile side in input pixels, 0 for none, auto (default)")
    engine.add_argument("--backend", default="auto", help="auto (default), cpu or reference")
    engine.add_argument("--device", help="cpu, cuda, cuda:1, ...; the first GPU by default")
    engine.add_argument("-g", "--gpu-id", "--gpu_id", type=int, help="number of the GPU")
    engine.add_argument("--dtype", choices=["fp16", "bf16", "fp32"], help="the device's fastest by default")
    engine.add_argument("--fp32", action="store_true", help="the same as --dtype fp32")
    video = p.add_argument_group("video")
    video.add_argument("-c", "--codec", help="encoder, such as libx264 (default), libx265, libsvtav1, ffv1")
    video.add_argument("--crf", type=float, help="constant quality of the encoder; 18 for libx264 by default")
    video.add_argument("--pix-fmt", "--pix_fmt", help="pixel format; the input's by default")
    video.add_argument(
        "-e", "--encoder-option", action="append", default=[], metavar="K=V", help="further encoder option"
    )
    video.add_argument("--frames", type=int, help="stop after this many frames")
    for kind in ("audio", "subtitle", "attachment", "data"):
        video.add_argument(f"--no-copy-{kind}", action="store_true", help=f"leave {kind} streams out")
    output = p.add_argument_group("output")
    output.add_argument("--suffix", default="", help="added to the file names of a folder's results")
    output.add_argument("--ext", help="image format of a folder's results, such as png; the input's by default")
    output.add_argument("--progress", choices=["bar", "json", "none"], default="bar", help="on stderr")
    p.set_defaults(run=_upscale)


def _info(args: argparse.Namespace) -> int:
    from srfast.info import collect

    info = collect()
    print(json.dumps(info.as_dict(), indent=2) if args.json else info)
    return 0


def _demo(args: argparse.Namespace) -> int:
    from srfast.demo import run_demo

    run_demo(args.output)
    return 0


def _paths(args: argparse.Namespace) -> tuple[Path, Path]:
    """Input and output from positions and options."""
    rest = [Path(p) for p in args.paths]
    source = args.input or (rest.pop(0) if rest else None)
    target = args.output or (rest.pop(0) if rest else None)
    if source is None or target is None or rest:
        raise ValueError("give one input and one output: srfast upscale IN OUT")
    return source, target


def _upscale(args: argparse.Namespace) -> int:
    source, target = _paths(args)
    if not source.exists():
        raise InputError(f"{source} is missing")
    if source.is_dir():
        return _upscale_folder(args, source, target)
    from srfast.images import SUFFIXES

    return (
        _upscale_image(args, source, target)
        if source.suffix.lower() in SUFFIXES
        else _upscale_video(args, source, target)
    )


def _upscaler(args: argparse.Namespace, kind: str) -> Upscaler:
    from srfast.upscaler import Upscaler

    if args.tile != "auto" and not args.tile.isdigit():
        raise ValueError(f"--tile takes auto, 0 or a size in pixels, not {args.tile!r}")
    device = args.device or (f"cuda:{args.gpu_id}" if args.gpu_id is not None else None)
    return Upscaler(
        args.model or DEFAULT_MODELS[kind],
        outscale=args.outscale,
        backend=args.backend,
        device=device,
        dtype="fp32" if args.fp32 else args.dtype,
        tile=None if args.tile == "auto" else int(args.tile),
    )


def _upscale_video(args: argparse.Namespace, source: Path, target: Path) -> int:
    from srfast.output import check_output
    from srfast.progress import Reporter
    from srfast.video import Encoding, upscale_video
    from srfast.video.reader import VideoReader

    VideoReader(source).close()  # a bad input or output is reported before a model is loaded
    check_output(target, args.overwrite)
    upscaler = _upscaler(args, "video")
    options = dict(_option(text) for text in args.encoder_option)
    copy = tuple(k for k in ("audio", "subtitle", "attachment", "data") if not getattr(args, f"no_copy_{k}"))
    with Reporter(args.progress) as reporter:
        result = upscale_video(
            source,
            target,
            upscaler,
            encoding=Encoding(args.codec, args.crf, args.pix_fmt, options),
            overwrite=args.overwrite,
            frames=args.frames,
            copy=copy,
            on_progress=lambda p: reporter.update(p.done, p.total, p.seconds),
        )
    redone = f", {result.redone} frames redone in float32" if result.redone else ""
    print(
        f"{target}: {result.frames} frames of {result.width}x{result.height}, "
        f"{result.fps:.2f} fps on {upscaler}{redone}",
        file=sys.stderr,
    )
    return 0


def _option(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ValueError(f"an encoder option is written key=value, not {text!r}")
    return key, value


def _upscale_image(args: argparse.Namespace, source: Path, target: Path) -> int:
    from srfast.images import read_image, write_image
    from srfast.output import check_output

    image = read_image(source)
    check_output(target, args.overwrite)
    upscaler = _upscaler(args, "image")
    started = time.perf_counter()
    result = upscaler(image)
    seconds = time.perf_counter() - started
    write_image(target, result, args.overwrite)
    height, width = result.shape[:2]
    print(f"{target}: {width}x{height} in {seconds:.2f} s on {upscaler}", file=sys.stderr)
    return 0


def _upscale_folder(args: argparse.Namespace, source: Path, target: Path) -> int:
    from srfast.images import find_images, read_image, write_image
    from srfast.progress import Reporter

    images = find_images(source)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file, but the input is a folder; give a folder")
    names = [_result_name(path, args.suffix, args.ext) for path in images]
    clash = next((n for n in names if names.count(n) > 1), None)
    if clash:
        raise OutputError(f"two images of {source} would both be written as {clash}; leave --ext out")
    existing = [name for name in names if (target / name).exists()]
    if existing and not args.overwrite:
        raise OutputError(f"{target / existing[0]} exists; give -y to overwrite it, or another folder")
    upscaler = _upscaler(args, "image")
    target.mkdir(parents=True, exist_ok=True)
    started, failed = time.perf_counter(), []
    with Reporter(args.progress, "images") as reporter:
        for done, (path, name) in enumerate(zip(images, names, strict=True), 1):
            try:
                write_image(target / name, upscaler(read_image(path)), args.overwrite)
            except InputError as error:
                failed.append(str(error))
            reporter.update(done, len(images), time.perf_counter() - started)
    for message in failed:
        print(f"srfast: error: {message}", file=sys.stderr)
    print(f"{target}: {len(images) - len(failed)} of {len(images)} images on {upscaler}", file=sys.stderr)
    return InputError.exit_code if failed else 0


def _result_name(path: Path, suffix: str, ext: str | None) -> str:
    return f"{path.stem}{suffix}.{ext.lstrip('.')}" if ext else f"{path.stem}{suffix}{path.suffix}"


if __name__ == "__main__":
    sys.exit(main())
