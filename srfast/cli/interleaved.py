"""Options between the positions of a command line: ``srfast upscale IN -m MODEL OUT``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from srfast.errors import escaped


class Plain(argparse.ArgumentParser):
    """A parser whose complaints quote nothing that a terminal obeys."""

    def error(self, message: str) -> NoReturn:
        """Print the usage and the complaint, and exit."""
        super().error(escaped(message))


class Interleaved(Plain):
    """A parser of a command whose positions may stand before, between and after its options.

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
