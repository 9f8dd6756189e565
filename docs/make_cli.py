"""Writes docs/cli.md from the command's own parser: ``python docs/make_cli.py``; a test compares."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Command line

<!-- made by docs/make_cli.py from the parser, not by hand -->

Exit codes are in [Troubleshooting](troubleshooting.md).
"""


def page() -> str:
    """Return the reference of every command, as ``--help`` prints it at 80 columns."""
    # argparse wraps to it, less two; the pages hold about as many characters in a line without scrolling.
    os.environ["COLUMNS"] = "80"
    from srfast.cli.main import _parser

    parser = _parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    parts = [HEAD, _section("srfast", parser)]
    parts += [_section(f"srfast {name}", command) for name, command in commands.choices.items()]
    return "\n".join(parts)


def _section(title: str, parser: argparse.ArgumentParser) -> str:
    return f"## {title}\n\n```text\n{parser.format_help().rstrip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
