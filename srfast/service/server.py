"""Runs an application behind a socket, until a signal ends it in order."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvicorn

from srfast.errors import OutputError
from srfast.service.access import Access, Application, Receive, Scope, Send, answer

_GRACE = 20  # seconds that requests at hand have to end when the server stops
_CONNECTIONS = 256


@dataclass(frozen=True)
class Address:
    """Say where a server listens, and what it asks of those who come.

    Attributes:
        host: a name or an address; of loopback only this machine reaches it.
        port: 0 takes a free one.
        token: that every request must bring; None asks for none.
        local: nobody else reaches it, so that requests of other sites' pages are refused instead.

    Examples:
        >>> Address("127.0.0.1", 8000, token=None, local=True).port
        8000
    """

    host: str
    port: int
    token: str | None
    local: bool


class _Server(uvicorn.Server):
    """Runs the application, and says when it begins to stop.

    Args:
        config: of the server.
        stopping: is called then, in its event loop.
    """

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what would go on for ever, and then wait for the requests at hand."""
        if self._stopping is not None:
            self._stopping()
        await super().shutdown(sockets)


class _CutOff:
    """Tells the client of a request that outlasts the server's end, which is cancelled then, in place of a fault of the server.

    Args:
        app: ASGI.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 503 to what was not answered; an answer that has begun breaks off, so that nobody takes it for whole."""
        begun = False

        async def noted(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if begun or scope["type"] != "http":
                raise
            await answer(send, 503, "the server stops", [(b"connection", b"close")])


def _said_of_the_end(record: logging.LogRecord) -> bool:
    """Says in this program's words that requests were cut off, and not where in the program each of them was."""
    if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
        return False
    if str(record.msg).startswith("Cancel %s running task(s)"):
        record.msg = f"requests that did not end within {_GRACE} s are cut off: %s"
    return True


def serve(app: Application, address: Address, what: str, stopping: Callable[[], None] | None = None) -> None:
    """Serve an application until SIGINT or SIGTERM, and return.

    The address is printed on the standard error stream. After a signal no request is taken; those at hand have 20 seconds to
    end, and jobs stop where they can be continued.

    Args:
        app: ASGI, such as ``build_app`` makes.
        address: where, and for whom.
        what: is served, in words, for the line that is printed.
        stopping: is called when a signal came, before requests at hand are waited for; it ends those that have no end.

    Raises:
        OutputError: the port is taken, or the address is none of this machine.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from srfast.service.app import build_app
        >>> from srfast.service.config import ServiceOptions
        >>> from srfast.service.service import Service
        >>> app = build_app(Service(ServiceOptions(Path(tempfile.mkdtemp()))))
        >>> with socket.create_server(("127.0.0.1", 0)) as taken:
        ...     address = Address("127.0.0.1", taken.getsockname()[1], token=None, local=True)
        ...     serve(app, address, "an example")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        srfast.errors.OutputError: cannot listen on 127.0.0.1:...
    """
    try:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        listening = socket.create_server((address.host, address.port), family=family)
    except (OSError, TypeError, UnicodeError) as error:  # names that cannot be asked for are no OSError
        why = getattr(error, "strerror", None) or error
        raise OutputError(f"cannot listen on {address.host}:{address.port}: {why}") from error
    host, port = listening.getsockname()[:2]
    place = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    suffix = f"?token={address.token}" if address.token else ""
    print(f"srfast: {what} on {place}{suffix} (Ctrl-C stops)", file=sys.stderr, flush=True)
    log = logging.getLogger("uvicorn.error")
    log.setLevel(logging.WARNING)
    log.addFilter(_said_of_the_end)
    config = uvicorn.Config(
        _CutOff(Access(app, address.token, address.local)),  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
    )
    try:
        _Server(config, stopping).run(sockets=[listening])
    except KeyboardInterrupt:  # as it raises the signal again that ended it
        print("srfast: stopped", file=sys.stderr, flush=True)
    finally:
        listening.close()
