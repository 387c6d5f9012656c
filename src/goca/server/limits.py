"""What is checked of a request before anything is read or computed: who asks, from where, how many bytes, how many at
once."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from goca.server.metrics import Metrics
from goca.server.refusals import RETRY_AFTER, Refusal, error_answer, refusal_of
from goca.server.settings import TOKEN_VARIABLE, Settings

log = logging.getLogger("goca.server")
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
OPEN_PATHS = ("/", "/health", "/docs", "/openapi.json", "/favicon.ico", "/page")  # and what is below the last
BODIES_PER_PLACE = 2


class Guard:
    """ASGI middleware in front of the whole application.

    A body is read here, in memory, up to the limit of bytes and within the time to read; the application gets it whole.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self._bodies = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 499  # a client that left gets no answer

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name.lower() for name, _ in message["headers"]}
                extra = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {
                    **message,
                    "headers": [*message["headers"], *(each for each in extra if each[0] not in present)],
                }
            await send(message)

        try:
            await self._guarded(scope, receive, answer)
        finally:
            self.metrics.answered(_route(scope), status, time.monotonic() - started)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        try:
            check_host(headers, self.settings)
            check_origin(headers)
            check_token(headers, scope["path"], self.settings.token)
            if self._bodies >= BODIES_PER_PLACE * self.settings.queue:
                raise Refusal(429, "too many requests are being read; try again later", RETRY_AFTER)
        except Refusal as error:
            await error_answer(error)(scope, receive, send)
            return
        self._bodies += 1
        try:
            body = await asyncio.wait_for(self._read(headers, receive), self.settings.read_timeout)
        except Refusal as error:
            await error_answer(error)(scope, receive, send)
            return
        except asyncio.TimeoutError:
            reason = f"the request did not arrive within {self.settings.read_timeout:g} seconds; send it faster"
            await error_answer(Refusal(408, reason))(scope, receive, send)
            return
        finally:
            self._bodies -= 1
        if body is not None:
            await self._hand_on(scope, _replay(body, receive), send)

    async def _hand_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application answer; a fault of it is answered, too."""
        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, note)
        except Exception as error:
            log.exception("a request failed")
            if started:
                raise
            await error_answer(refusal_of(error))(scope, receive, send)

    async def _read(self, headers: Headers, receive: Receive) -> bytes | None:
        """The body; ``None`` where the client left."""
        limit = self.settings.body_bytes
        too_large = Refusal(413, f"the request has more than {limit} bytes; send a smaller image")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > limit:
                raise too_large
            if not message.get("more_body", False):
                return bytes(body)


def check_host(headers: Mapping[str, str], settings: Settings) -> None:
    """Refuse requests for a name that is none of this service's, which a hostile page can let point at it.

    Addresses, ``localhost``, this machine's name and the names of the settings are its own.

    Raises:
        Refusal: 421.
    """
    name = _host_name(headers.get("host", ""))
    known = {
        "localhost",
        socket.gethostname().lower(),
        *(each.lower() for each in (settings.host, *settings.allowed_hosts)),
    }
    if name not in known and not _is_address(name):
        raise Refusal(421, "this service is not known by that name; start it with --allow-host to add it")


def check_origin(headers: Mapping[str, str]) -> None:
    """Refuse requests by pages of another site.

    Raises:
        Refusal: 403.
    """
    origin, host = headers.get("origin"), headers.get("host", "").lower()
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        raise Refusal(
            403, "pages of other sites may not use this service; open its own page, or call it from a program"
        )


def check_token(headers: Mapping[str, str], path: str, token: str | None) -> None:
    """Refuse callers without the token; the pages themselves, which hold nothing secret, are open to all.

    It is given as ``Authorization: Bearer TOKEN``, as the password of basic authentication, or as ``Token: TOKEN``.

    Raises:
        Refusal: 401.
    """
    if token is None or path in OPEN_PATHS or path.startswith(f"{OPEN_PATHS[-1]}/"):
        return
    kind, _, value = headers.get("authorization", "").partition(" ")
    given = value.strip()
    if kind.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, ValueError):
            given = ""
    given = given or headers.get("token", "")  # where X-AnyLabeling sends it
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise Refusal(401, f"this service asks for a token; send Authorization: Bearer TOKEN ({TOKEN_VARIABLE} there)")


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _replay(body: bytes, receive: Receive) -> Callable[[], Any]:
    """What the application receives: the body at once, then what comes after it."""
    sent = False

    async def again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _route(scope: Scope) -> str:
    """The path of the route that answered; one name for all that no route has."""
    return getattr(scope.get("route"), "path", "other")
