"""
The operator's API below `/admin/`: authentication, routing and errors.

It exists only if the settings contain a token. Every change is written to the audit log as made by
`admin`, or by `admin:<name>` if the request has the header `x-actor`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from gateway.edge.http import Response, client_address, send_response
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.refusals import REFUSALS, refusal
from gateway.operations.throttle import Throttle
from gateway.operations.values import InvalidValueError
from gateway.pipeline.client.channel import ClientChannel
from gateway.store.accounts.audit import Actor

WRONG_TOKENS_A_MINUTE = 10  # from one address, per worker
PAGE = 100
MAX_PAGE = 1000
_ACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_PREFIX = "/admin/"
_LONGEST_NAME = 200
_PROXY_HEADERS = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


class AdminRequest(NamedTuple):
    """An authenticated request; `names` are the parts of the path that match `*`."""

    channel: ClientChannel
    by: Actor
    names: tuple[str, ...]


Handler = Callable[[AdminRequest], Awaitable[Response]]


class Route(NamedTuple):
    """One method of one path. `path` is relative to `/admin/`; `*` matches one segment."""

    method: str
    path: str
    handle: Handler


class AdminApi:
    """
    Handles all requests below `/admin/`.

    Args:
        token: The operator's token; None disables the API.
        routes: All routes.
        allow_forwarded: Accept requests that came through a proxy.
    """

    def __init__(
        self, token: str | None, routes: Iterable[Route], *, allow_forwarded: bool = False
    ) -> None:
        self._digest = None if token is None else _digest(token.encode())
        self._allow_forwarded = allow_forwarded
        self._routes = tuple((route, tuple(route.path.split("/"))) for route in routes)
        self._wrong_tokens = Throttle(WRONG_TOKENS_A_MINUTE, time.monotonic)

    async def handle(self, channel: ClientChannel, request_id: str) -> None:
        """
        Respond to one request.

        Raises:
            GatewayError: UNKNOWN_PATH if the path is unknown, the API is disabled, or a proxy
                forwarded the request; MISSING_KEY, INVALID_KEY or RATE_LIMITED without the right
                token; otherwise the operation's error.
        """
        path: str = channel.scope["path"]
        # A public proxy must not expose this API by accident.
        forwarded = any(channel.header(name) is not None for name in _PROXY_HEADERS)
        if self._digest is None or (forwarded and not self._allow_forwarded):
            raise _not_found(path)
        self._authenticate(channel, self._digest)
        by = Actor(_actor(channel), request_id, client_address(channel))
        handle, names = self._match(channel.scope["method"], path)
        try:
            response = await handle(AdminRequest(channel, by, names))
        except REFUSALS as error:
            raise refusal(error) from error
        await send_response(channel, response, request_id)

    def _authenticate(self, channel: ClientChannel, digest: bytes) -> None:
        # Wrong tokens are throttled by address, but the right token is never locked out: tokens
        # are at least 32 characters, too many to guess.
        header = channel.header(b"authorization") or b""
        scheme, _, token = header.partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), digest):
            return
        address = client_address(channel) or ""
        self._wrong_tokens.check(address)
        self._wrong_tokens.count(address)
        if not header:
            raise GatewayError(
                ErrorKind.MISSING_KEY, "Missing operator token.", code="invalid_token"
            )
        raise GatewayError(ErrorKind.INVALID_KEY, "Invalid operator token.", code="invalid_token")

    def _match(self, method: str, path: str) -> tuple[Handler, tuple[str, ...]]:
        parts = path.removeprefix(_PREFIX).split("/")
        wanted = "GET" if method == "HEAD" else method
        methods: list[str] = []
        for route, pattern in self._routes:
            names = _names(pattern, parts)
            if names is None:
                continue
            if route.method == wanted:
                return route.handle, names
            methods.append(route.method)
        if methods:
            raise GatewayError(
                ErrorKind.WRONG_METHOD, f"{path} takes {' or '.join(methods)}, not {method}."
            )
        raise _not_found(path)


def _names(pattern: tuple[str, ...], parts: list[str]) -> tuple[str, ...] | None:
    """Return the parts that match `*`, or None if the path does not match."""
    if len(pattern) != len(parts):
        return None
    names: list[str] = []
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted == "*" and part.isprintable() and 0 < len(part) <= _LONGEST_NAME:
            names.append(part)
        elif wanted != part:
            return None
    return tuple(names)


def _actor(channel: ClientChannel) -> str:
    header = channel.header(b"x-actor")
    if header is None:
        return "admin"
    name = header.decode("latin-1")
    if not _ACTOR.match(name):
        raise InvalidValueError("x-actor", "must be at most 64 letters, digits and . _ @ -")
    return f"admin:{name}"


def _not_found(path: str) -> GatewayError:
    return GatewayError(ErrorKind.UNKNOWN_PATH, f"There is nothing at {path}.")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
