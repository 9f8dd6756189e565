"""Bodies of requests, taken as they come and no further than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request

from srfast.errors import InputError
from srfast.video.untrusted import LimitError

# What is read of a refused upload before the connection is closed.
_DRAINED, _DRAIN_SECONDS = 4 << 20, 2.0
_WHOLE = "srfast.body_is_whole"  # in the scope of a request


async def drain(scope: MutableMapping[str, Any], receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
    """Read what a client still sends of a refused request's body, for a short while.

    A connection that is closed over unread bytes is reset, and a client that is reset may lose the answer. The answer says
    that the connection is closed: else all that the client still sends would be read, without an end.

    Args:
        scope, receive: of the request, as ASGI gives them.
    """
    size, until = 0, asyncio.get_running_loop().time() + _DRAIN_SECONDS
    while not scope.get(_WHOLE) and size < _DRAINED:
        try:
            message = await asyncio.wait_for(receive(), until - asyncio.get_running_loop().time())
        except asyncio.TimeoutError:
            return
        if message["type"] != "http.request" or not message.get("more_body", False):
            return
        size += len(message.get("body", b""))


async def body_of(request: Request, most: int, idle_seconds: float) -> bytes:
    """Read the whole body of a request.

    Args:
        request, most, idle_seconds: as for ``parts_of``.

    Raises:
        LimitError, InputError: as ``parts_of``.
    """
    return b"".join([part async for part in parts_of(request, most, idle_seconds)])


async def write_body(request: Request, path: Path, most: int, idle_seconds: float) -> None:
    """Write the body of a request to a new file, without holding it in memory.

    Args:
        path: of the file, which must not be there.
        request, most, idle_seconds: as for ``parts_of``.

    Raises:
        LimitError, InputError: as ``parts_of``.
        OSError: the disk does not take it.
    """
    with path.open("xb") as file:
        async for part in parts_of(request, most, idle_seconds):
            await asyncio.to_thread(file.write, part)


async def parts_of(request: Request, most: int, idle_seconds: float) -> AsyncIterator[bytes]:
    """Yield the parts of a body as they come.

    Args:
        request: whose.
        most: bytes that are allowed.
        idle_seconds: for which a sender may be silent.

    Raises:
        LimitError: there are more bytes than allowed, by the header or as they come.
        InputError: nothing comes, the connection is gone, or it was silent for too long.
    """
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > most:
        raise LimitError(f"the upload has {told[:20]} bytes; at most {most} are allowed")
    size, stream = 0, request.stream().__aiter__()
    while True:
        try:
            part = await asyncio.wait_for(stream.__anext__(), idle_seconds)
        except StopAsyncIteration:
            request.scope[_WHOLE] = True
            break
        except asyncio.TimeoutError as error:
            raise InputError(f"the upload stood still for {idle_seconds:g} s and is given up") from error
        except ClientDisconnect as error:
            raise InputError("the upload was cut off") from error
        size += len(part)
        if size > most:
            raise LimitError(f"the upload has more than {most} bytes, which are allowed")
        if part:
            yield part
    if not size:
        raise InputError("the upload is empty: send the file as the body of the request")
