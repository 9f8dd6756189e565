"""``srfast serve`` and ``srfast ui``: upscaling for other programs, and in a browser."""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srfast.cli.options import key_value, size_in_bytes, time_of_day
from srfast.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from srfast.service.config import ServiceOptions
    from srfast.service.server import Address


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Adds the commands."""
    shared = argparse.ArgumentParser(add_help=False)
    where = shared.add_argument_group("where")
    where.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; other machines reach others than the default"
    )
    where.add_argument("--port", type=int, help="8000 of serve and 7860 of ui by default; 0 takes a free one")
    where.add_argument(
        "--token", help="that every request must bring; made up where other machines can come in (or SRFAST_TOKEN)"
    )
    where.add_argument("--jobs", type=Path, metavar="DIR", help="folder of the jobs, which survive a restart there")
    where.add_argument("--keep-hours", type=float, default=24.0, help="until a job that ended is deleted (24)")
    offered = shared.add_argument_group("models")
    offered.add_argument(
        "-m", "--model", action="append", default=[], metavar="NAME=FILE", help="a checkpoint that clients may name"
    )
    offered.add_argument("--device", help="cpu, cuda, cuda:1, ...; the first GPU by default")
    limits = shared.add_argument_group("limits on uploads")
    limits.add_argument("--max-bytes", type=str, default="1G", metavar="SIZE", help="of a video (1G)")
    limits.add_argument("--max-image-bytes", type=str, default="32M", metavar="SIZE", help="of an image (32M)")
    limits.add_argument("--max-pixels", type=int, default=4096 * 2304, help="of an image or a frame (9437184)")
    limits.add_argument("--max-duration", type=time_of_day, default=3600.0, metavar="TIME", help="of a video (1:00:00)")
    limits.add_argument("--max-frames", type=int, default=100_000, help="of a video (100000)")
    limits.add_argument("--max-jobs", type=int, default=16, help="that wait or run; more are refused (16)")
    limits.add_argument("--max-images", type=int, default=16, help="that wait or run at once; more are refused (16)")
    serve = commands.add_parser("serve", parents=[common, shared], help="answer over HTTP: images, and videos as jobs")
    serve.set_defaults(run=_serve)
    ui = commands.add_parser("ui", parents=[common, shared], help="a page in the browser")
    ui.add_argument(
        "--folder", type=Path, action="append", default=[], metavar="DIR", help="files in it may be named on the page"
    )
    ui.set_defaults(run=_ui)


def _serve(args: argparse.Namespace) -> int:
    try:
        from srfast.service.app import build_app
        from srfast.service.server import serve
    except ImportError as error:
        raise _missing(error, "serve") from error
    from srfast.service.service import Service

    address, options = address_of(args, 8000), options_of(args, "serve")
    serve(build_app(Service(options)), address, "serving")
    return 0


def _ui(args: argparse.Namespace) -> int:
    try:
        from srfast.service.page import build_page
        from srfast.service.server import serve
    except ImportError as error:
        raise _missing(error, "ui") from error
    from srfast.service.service import Service

    address, options = address_of(args, 7860), options_of(args, "ui")
    page, stopping = build_page(Service(options))
    serve(page, address, "the page is", stopping)
    return 0


def _missing(error: ImportError, extra: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"'srfast {extra}' needs {error.name}; install it with: pip install 'srfast[{extra}]'"
    )


def address_of(args: argparse.Namespace, port: int) -> Address:
    """Where to listen; where other machines reach it there is always a token.

    Raises:
        ValueError: a port that is none, or an empty token.
    """
    from srfast.service.access import is_loopback
    from srfast.service.server import Address

    token = args.token if args.token is not None else os.environ.get("SRFAST_TOKEN") or None
    if token is not None and not (token and set(token) <= _TOKEN):
        raise ValueError("a token is made of letters, digits, - and _")
    local = is_loopback(args.host)
    chosen = port if args.port is None else args.port
    if not 0 <= chosen < 65536:
        raise ValueError(f"--port takes a number from 0 to 65535, not {chosen}")
    return Address(args.host, chosen, token or (None if local else secrets.token_urlsafe(24)), local)


_TOKEN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def options_of(args: argparse.Namespace, command: str) -> ServiceOptions:
    """What the service offers and allows, as the command line says it.

    Raises:
        ValueError, InputError: a value, a checkpoint or a folder that is none.
    """
    from srfast.service.config import SHIPPED, ServiceOptions
    from srfast.video.untrusted import Limits

    models = dict(key_value(text) for text in args.model)
    for name, path in models.items():
        if name in SHIPPED:
            raise ValueError(f"{name} is a shipped model; give {path} another name")
        if not Path(path).is_file():
            raise InputError(f"{path} is missing")
    folders = tuple(getattr(args, "folder", ()))
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder")
    for name in ("max_jobs", "max_images", "keep_hours"):
        if not getattr(args, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} takes a positive number, not {getattr(args, name)}")
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return ServiceOptions(
        folder=args.jobs or state / "srfast" / command,
        models=models,
        device=args.device,
        limits=Limits(args.max_pixels, args.max_duration, args.max_frames),
        video_bytes=size_in_bytes(args.max_bytes),
        image_bytes=size_in_bytes(args.max_image_bytes),
        images_waiting=args.max_images,
        jobs_waiting=args.max_jobs,
        keep_hours=args.keep_hours,
        sources=folders,
    )
