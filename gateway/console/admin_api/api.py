"""
The operators' API below `/admin/`: authentication, routing and errors.

It exists only if the settings contain a token. Every change is written to the audit log as made by
`admin`, or by `admin:<name>` if the request has the header `x-actor`. Workers relay requests
unchanged, with the address of their client in `x-capio-client`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple

from gateway.console.admin_api.request import AdminRequest, Handler, Receive, Route
from gateway.console.memory import is_out_of_memory
from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.http_api import Response, complete_headers
from gateway.operations.refusals import REFUSALS, refusal
from gateway.operations.throttle import Throttle
from gateway.operations.values import InvalidValueError
from gateway.protocols.http.errors.gateway_errors import render
from gateway.store.accounts.audit import Actor

logger = logging.getLogger(__name__)

PREFIX = "/admin/"
WRONG_TOKENS_A_MINUTE = 10  # from one address
CLIENT_HEADER = b"x-capio-client"
_ACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_LONGEST_NAME = 200
_PROXY_HEADERS = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")

Send = Callable[[dict[str, Any]], Awaitable[None]]


class _Target(NamedTuple):
    handle: Handler
    names: tuple[str, ...]


class AdminApi:
    """
    The ASGI application that handles all requests below `/admin/`.

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

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Respond to one request, whatever its path."""
        if scope["type"] != "http":
            return
        request_id = f"req_{os.urandom(13).hex()}"
        try:
            response = await self._respond(scope, receive, request_id)
        except GatewayError as error:
            status, headers, body = render(error, Wire.OPENAI, request_id)
            if error.kind is ErrorKind.CLIENT_GONE:
                return
        except Exception as error:  # the root of a request
            if is_out_of_memory(error):
                raise
            logger.exception("admin_request_failed", extra={"request_id": request_id})
            internal = GatewayError(ErrorKind.INTERNAL, "Internal error.")
            status, headers, body = render(internal, Wire.OPENAI, request_id)
        else:
            status, body = response.status, response.body
            headers = complete_headers(response, request_id)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        shown = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": shown})

    async def _respond(
        self, scope: Mapping[str, Any], receive: Receive, request_id: str
    ) -> Response:
        """
        Return the response of one request.

        Raises:
            GatewayError: UNKNOWN_PATH if the path is unknown, the API is disabled, or a proxy
                forwarded the request; MISSING_KEY, INVALID_KEY or RATE_LIMITED without the right
                token; otherwise the operation's error.
        """
        raw = scope.get("raw_path")
        # As sent: a proxy that blocks `/admin` by its text blocks all of it.
        path: str = scope["path"] if raw is None else raw.decode("latin-1")
        headers = dict(reversed(scope["headers"]))
        # A public proxy must not expose this API by accident.
        forwarded = any(name in headers for name in _PROXY_HEADERS)
        unknown = not path.startswith(PREFIX) or "%" in path
        if self._digest is None or unknown or (forwarded and not self._allow_forwarded):
            raise _not_found(path)
        address = _client_address(scope, headers)
        self._authenticate(headers, address, self._digest)
        by = Actor(_actor(headers), request_id, address)
        target = self._match(scope["method"], path)
        request = AdminRequest(scope["query_string"], headers, receive, by, target.names)
        try:
            return await target.handle(request)
        except REFUSALS as error:
            raise refusal(error) from error

    def _authenticate(
        self, headers: Mapping[bytes, bytes], address: str | None, digest: bytes
    ) -> None:
        # Wrong tokens are throttled by address, but the right token is never locked out: tokens
        # are at least 32 characters, too many to guess.
        header = headers.get(b"authorization", b"")
        scheme, _, token = header.partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), digest):
            return
        self._wrong_tokens.check(address or "")
        self._wrong_tokens.count(address or "")
        if not header:
            raise GatewayError(
                ErrorKind.MISSING_KEY, "Missing operator token.", code="invalid_token"
            )
        raise GatewayError(ErrorKind.INVALID_KEY, "Invalid operator token.", code="invalid_token")

    def _match(self, method: str, path: str) -> _Target:
        parts = path.removeprefix(PREFIX).split("/")
        wanted = "GET" if method == "HEAD" else method
        methods: list[str] = []
        for route, pattern in self._routes:
            names = _names(pattern, parts)
            if names is None:
                continue
            if route.method == wanted:
                return _Target(route.handle, names)
            methods.append(route.method)
        if methods:
            allowed = "GET, HEAD" if methods == ["GET"] else ", ".join(methods)
            raise GatewayError(
                ErrorKind.WRONG_METHOD,
                f"{path} takes {' or '.join(methods)}, not {method}.",
                headers=((b"allow", allowed.encode()),),
            )
        raise _not_found(path)


def _names(pattern: tuple[str, ...], parts: list[str]) -> tuple[str, ...] | None:
    """Return the parts that match `*`, or None if the path does not match; `**` takes the rest."""
    if pattern[-1] == "**" and len(parts) > len(pattern):
        rest = "/".join(parts[len(pattern) - 1 :])
        parts = [*parts[: len(pattern) - 1], rest]
    if len(pattern) != len(parts):
        return None
    names: list[str] = []
    for wanted, part in zip(pattern, parts, strict=True):
        if wanted in ("*", "**") and part.isprintable() and 0 < len(part) <= _LONGEST_NAME:
            names.append(part)
        elif wanted != part:
            return None
    return tuple(names)


def _client_address(scope: Mapping[str, Any], headers: Mapping[bytes, bytes]) -> str | None:
    """Return the client's address, which workers on this host send in a header."""
    client = scope.get("client")
    peer: str | None = client[0] if client else None
    named = headers.get(CLIENT_HEADER)
    try:
        is_worker = peer is not None and ipaddress.ip_address(peer).is_loopback
        if named is None or not is_worker:
            return peer
        if not named:
            return None  # a client of a UNIX socket
        return str(ipaddress.ip_address(named.decode("latin-1")))
    except ValueError:
        return peer


def _actor(headers: Mapping[bytes, bytes]) -> str:
    header = headers.get(b"x-actor")
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
