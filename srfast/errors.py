"""The errors srfast raises on purpose; each message says what was given, what was expected and what to do."""

from __future__ import annotations

_NAMED = {"\n": "\\n", "\t": "\\t"}


def escaped(text: object) -> str:
    r"""Return one line for a terminal or a log: what does not print, line breaks among it, as an escape sequence.

    Names of files and keys in them may hold sequences that clear the screen or type into it, bytes that are no UTF-8, and
    lines that look like another message.

    >>> escaped("body.0\x1b[2J\n")
    'body.0\\x1b[2J\\n'
    """
    return "".join(c if c.isprintable() else _escape(c) for c in str(text))


def escaped_lines(text: object) -> str:
    r"""Return a report of several lines, each of them ``escaped``; a name within it may not bring lines of its own.

    >>> escaped_lines("one\ntwo\x07")
    'one\ntwo\\x07'
    """
    return "\n".join(escaped(line) for line in str(text).split("\n"))


def _escape(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    code -= 0xDC00 if 0xDC80 <= code <= 0xDCFF else 0  # how Python keeps a byte that it cannot decode
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable(text: object, longest: int = 60) -> str:
    r"""Quote a name or key from a file for a message: escaped, and cut where it is long.

    >>> printable("body.0\x1b[2J")
    "'body.0\\x1b[2J'"
    """
    name = str(text)
    return repr(name if len(name) <= longest else f"{name[: longest - 3]}...")


class SrfastError(Exception):
    """Base of all errors that a user can act on. The message holds no control characters, whatever it quotes.

    Args:
        lines: of the message. Names of files and keys in them could move the cursor, colour the terminal, or begin lines:
            what does not print is escaped, so the message has as many lines as are given here.
    """

    exit_code = 1

    def __init__(self, *lines: object) -> None:
        super().__init__(*(escaped(line) for line in lines))

    def __str__(self) -> str:
        return "\n".join(self.args)


def quoted(error: Exception, before: str = "", after: str = "") -> list[str]:
    r"""Return the lines of an error with text before the first and after the last, for an error that quotes another.

    >>> SrfastError(*quoted(SrfastError("a frame is short", "give another file"), "in.mkv: ", " (on node 2)")).args
    ('in.mkv: a frame is short', 'give another file (on node 2)')
    """
    first, *others = error.args if isinstance(error, SrfastError) else [str(error)]
    lines = [f"{before}{first}", *others]
    return [*lines[:-1], f"{lines[-1]}{after}"]


class UnsupportedModelError(SrfastError):
    """The network holds an operation that no plan node covers."""

    exit_code = 3


class CheckpointError(SrfastError):
    """The file is not a checkpoint of a known network."""

    exit_code = 3


class BackendError(SrfastError):
    """The asked-for backend cannot run this plan here."""

    exit_code = 4


class MissingDependencyError(SrfastError):
    """A feature needs a package that is not installed."""

    exit_code = 5


class InputError(SrfastError):
    """The input cannot be read, or is not what it should be."""

    exit_code = 6


class OutputError(SrfastError):
    """The output cannot be written."""

    exit_code = 7


class FrameLossError(SrfastError):
    """Fewer or more frames came out than went in."""

    exit_code = 8
