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


class _Formatter(argparse.HelpFormatter):
    """Writes "-o, --output OUTPUT" in every version, as Python does from 3.13 on, so that the page depends on none."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        values = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {values}"


def page() -> str:
    """Return the reference of every command, as ``--help`` of Python 3.13 prints it at 80 columns."""
    # argparse wraps to it, less two; the pages hold about as many characters in a line without scrolling.
    os.environ["COLUMNS"] = "80"
    from srfast.cli.main import _parser

    parser = _parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    parts = [HEAD, _section("srfast", parser)]
    parts += [_section(f"srfast {name}", command) for name, command in commands.choices.items()]
    return "\n".join(parts)


def _section(title: str, parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = type("_Formatter", (_Formatter, parser.formatter_class), {})
    return f"## {title}\n\n```text\n{parser.format_help().rstrip()}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
