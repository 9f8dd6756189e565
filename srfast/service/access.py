"""Who may come in: this machine's own programs, and others with the token."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

from srfast.service.uploads import drain

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
COOKIE = "srfast_token"
_OPEN = ("/health",)


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches a name or an address.

    Examples:
        >>> is_loopback("localhost"), is_loopback("[::1]"), is_loopback("192.168.0.7")
        (True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class Access:
    """Let this machine's own programs and owners of the token in, as ASGI middleware; answer strangers itself.

    A page of another site, opened in a browser on this machine, can send requests to a server on localhost: those carry the
    other site in ``Origin``, or a name that points here in ``Host``, and are refused.

    Args:
        app: what is behind it.
        token: that every request must bring; None where only this machine reaches the server.
        local: the server listens on loopback only.
    """

    def __init__(self, app: Application, token: str | None, local: bool) -> None:
        self._app, self._token, self._local = app, token, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with 401, 403 or 421."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await drain(scope, receive)
            await answer(send, *refusal, [(b"connection", b"close")])
            return
        if self._token and scope["type"] == "http" and self._in_address(scope) and scope["method"] == "GET":
            cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
            await answer(send, 303, "", [(b"location", scope["path"].encode()), (b"set-cookie", cookie.encode())])
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str] | None:
        host = headers.get(b"host", "")
        if self._local and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return 421, "this server answers on localhost only"
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "requests from pages of other sites are refused"
        if self._token is None or scope["path"] in _OPEN or self._in_address(scope):
            return None
        given = [headers.get(b"authorization", "").partition("Bearer ")[2], _cookie(headers.get(b"cookie", ""))]
        if not any(self._is_token(one) for one in given):
            return 401, "give the token: 'Authorization: Bearer TOKEN', or ?token=TOKEN once in a browser"
        return None

    def _in_address(self, scope: Scope) -> bool:
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])
        return self._is_token(given[0])

    def _is_token(self, given: str) -> bool:
        return bool(self._token) and hmac.compare_digest(given.encode(), str(self._token).encode())


def _cookie(text: str) -> str:
    try:
        morsel = SimpleCookie(text).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


async def answer(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    """Send a whole answer without the application.

    Args:
        send: of the request, as ASGI gives it.
        status: of HTTP.
        text: what is wrong, put into JSON; empty sends no body.
        headers: beside those of the body.
    """
    body = b'{"error": "%s"}' % text.encode() if text else b""
    told = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
