"""The command ``srfast``."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from srfast._version import __version__
from srfast.cli import compare, models, segments, serve, tune, upscale, warm
from srfast.cli import estimate as plan
from srfast.cli.json_lines import lines_of_json
from srfast.cli.signals import ends_in_order, exit_code
from srfast.errors import OutputError, SrfastError, escaped

_READER_GONE = 128 + 13  # as a shell tells of a program that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0 done, 2 wrong usage, 130 interrupted (143 by SIGTERM), or a code of ``srfast.errors``."""
    _give_streams()
    args = _parser().parse_args(argv)
    as_json = getattr(args, "progress", None) == "json"
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING)
    if not args.verbose:  # OpenCV, which is not loaded yet, writes where in its sources a damaged picture was refused
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    # The first run on a GPU compiles for up to minutes, which nobody should take for a fault.
    logging.getLogger("srfast.compiling").setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Escaped("srfast: %(message)s"))
    with lines_of_json() if as_json else contextlib.nullcontext():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        with ends_in_order():
            code = int(args.run(args))
            sys.stdout.flush()
            return code
    except SrfastError as error:
        print(f"srfast: error: {error}", file=sys.stderr)
        return error.exit_code
    except ValueError as error:
        print(f"srfast: error: {escaped(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Who reads the output has seen enough. What Python still holds for it must not be written at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _READER_GONE
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"srfast: error: {escaped(f'{name}{error.strerror or error}')}", file=sys.stderr)
        return OutputError.exit_code
    except KeyboardInterrupt as error:  # with what is left behind, where a command says it
        print(escaped(f"srfast: interrupted; {error}" if str(error) else "srfast: interrupted"), file=sys.stderr)
        return exit_code(error)


class _Escaped(logging.Formatter):
    """Names of files and keys in a log line cannot move the cursor."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is logging's
        return escaped(super().formatMessage(record))


def _give_streams() -> None:
    """Programs with windows have no standard output and error: what is written there goes nowhere.

    Where a shell script was started without one, its number may be that of a file that is read.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or _is_read_only(stream):
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _is_read_only(stream: TextIO) -> bool:
    try:
        return fcntl.fcntl(stream.fileno(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    except (OSError, ValueError):  # no file of the system
        return False


class _Plain(argparse.ArgumentParser):
    """A parser whose complaints quote nothing that a terminal obeys."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the complaint, and exit."""
        super().error(escaped(message))


class _Interleaved(_Plain):
    """A parser of a command whose positions may stand before, between and after its options: ``IN -m MODEL OUT``.

    argparse gives all positions to the first group of them that it meets, and refuses the rest.
    """

    _inside = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the options first and then what is left of the line."""
        if self._inside:  # by the call below, once for each of the two
            return super().parse_known_args(args, namespace)
        self._inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._inside = False


def _parser() -> argparse.ArgumentParser:
    parser = _Plain(prog="srfast", description="Fast, exact super-resolution of images and video.")
    parser.add_argument("--version", action="version", version=f"srfast {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Interleaved)
    common = _Interleaved(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="log what is chosen and why")
    info = commands.add_parser("info", parents=[common], help="what is available here, and why not")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=_info)
    upscale.add(commands, common)
    plan.add(commands, common)
    segments.add(commands, common)
    models.add(commands, common)
    compare.add(commands, common)
    tune.add(commands, common)
    warm.add(commands, common)
    serve.add(commands, common)
    demo = commands.add_parser("demo", parents=[common], help="upscale the clip that comes with srfast")
    demo.add_argument("output", nargs="?", default="demo-output", type=Path, help="folder for the results")
    demo.set_defaults(run=_demo)
    return parser


def _info(args: argparse.Namespace) -> int:
    from srfast.diagnostics.info import collect

    info = collect()
    print(json.dumps(info.as_dict(), indent=2) if args.json else info)
    return 0


def _demo(args: argparse.Namespace) -> int:
    from srfast.cli.demo import run_demo

    run_demo(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
