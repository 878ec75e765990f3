"""
The operator's REST API, `/admin/...`: who may use it, which path means what, errors in words.

It exists only when the settings give a token. The token is compared by digest in constant time;
wrong ones are counted by address. Every change is written to the audit log under the name
`admin`, or `admin:<name>` when the request says in `x-actor` for whom it is made.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from gateway.edge.account_pages import client_address
from gateway.edge.replies import Reply, send_reply
from gateway.edge.throttle import Throttle
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.client.channel import ClientChannel
from gateway.store.accounts.accounts import UnknownAccountError
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.codes import CodeSpentError, UnknownCodeError
from gateway.store.accounts.credits import (
    AlreadyRefundedError,
    AmountError,
    IdempotencyConflictError,
    UnknownChargeError,
)
from gateway.store.keys.repository import KeyRevokedError, UnknownKeyError

WRONG_TOKENS_A_MINUTE = 10
"""Of one address, per worker."""
_ACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_PREFIX = "/admin/"
_LONGEST_NAME = 200
_PROXY_HEADERS = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


class AdminRequest(NamedTuple):
    """One request of an operator whose token is right."""

    channel: ClientChannel
    by: Actor
    names: tuple[str, ...]
    """What stands in the path for `*`."""


Handler = Callable[[AdminRequest], Awaitable[Reply]]


class Route(NamedTuple):
    """One method of one path. `path` is below `/admin/`; `*` stands for a name."""

    method: str
    path: str
    handle: Handler


class _Refusal(NamedTuple):
    kind: ErrorKind
    message: str
    code: str | None = None
    param: str | None = None


_NOT_FOUND = ErrorKind.UNKNOWN_PATH
_REFUSALS: dict[type[Exception], _Refusal] = {
    UnknownAccountError: _Refusal(
        _NOT_FOUND, "There is no account '{0}'.", "account_not_found", "account_id"
    ),
    UnknownKeyError: _Refusal(_NOT_FOUND, "There is no key '{0}'.", "key_not_found", "key_id"),
    UnknownCodeError: _Refusal(_NOT_FOUND, "There is no such code.", "code_not_found", "code_id"),
    UnknownChargeError: _Refusal(
        _NOT_FOUND, "No call '{0}' was charged (yet).", "charge_not_found", "request_id"
    ),
    KeyRevokedError: _Refusal(
        ErrorKind.CONFLICT, "The key '{0}' is revoked, which is final.", "key_revoked"
    ),
    AlreadyRefundedError: _Refusal(
        ErrorKind.CONFLICT, "The call '{0}' was refunded before.", "already_refunded"
    ),
    CodeSpentError: _Refusal(ErrorKind.CONFLICT, "The code is {0}.", "code_spent"),
    IdempotencyConflictError: _Refusal(
        ErrorKind.IDEMPOTENCY_MISMATCH, "The idempotency key '{0}' belongs to another booking."
    ),
    AmountError: _Refusal(
        ErrorKind.BAD_REQUEST, "This cannot be booked: {0}.", "invalid_amount", "amount"
    ),
}
"""What refusals of the stores are in words; {0} is their argument."""


class AdminPages:
    """
    Answers everything below `/admin/`.

    Args:
        token: The operator's; None: nothing is there.
        routes: All paths.
        allow_forwarded: Answer requests that came through a proxy.
    """

    def __init__(
        self, token: str | None, routes: Iterable[Route], *, allow_forwarded: bool = False
    ) -> None:
        self._digest = None if token is None else _digest(token.encode())
        self._allow_forwarded = allow_forwarded
        self._routes = tuple((route, tuple(route.path.split("/"))) for route in routes)
        self._wrong = Throttle(WRONG_TOKENS_A_MINUTE, time.monotonic)

    async def answer(self, channel: ClientChannel, request_id: str) -> None:
        """
        Answer one request.

        Raises:
            GatewayError: UNKNOWN_PATH when there is no such path or no token, or a proxy has
                forwarded the request; MISSING_KEY,
                INVALID_KEY, RATE_LIMITED for who has not the token; else what is wrong.
        """
        path: str = channel.scope["path"]
        if self._digest is None or (self._is_forwarded(channel) and not self._allow_forwarded):
            raise GatewayError(ErrorKind.UNKNOWN_PATH, f"There is nothing at {path}.")
        self._authenticate(channel, self._digest)
        by = Actor(_actor(channel), request_id, client_address(channel))
        handle, names = self._match(channel.scope["method"], path)
        try:
            reply = await handle(AdminRequest(channel, by, names))
        except tuple(_REFUSALS) as failure:
            refusal = _REFUSALS[type(failure)]
            raise GatewayError(
                refusal.kind,
                refusal.message.format(*failure.args),
                param=refusal.param,
                code=refusal.code,
            ) from failure
        await send_reply(channel, reply, request_id)

    @staticmethod
    def _is_forwarded(channel: ClientChannel) -> bool:
        """Whether a proxy has left its mark. The one for clients must not reach this API."""
        return any(channel.header(name) is not None for name in _PROXY_HEADERS)

    def _authenticate(self, channel: ClientChannel, digest: bytes) -> None:
        """Let pass who has the token. It is too long to be guessed: no lock could help more."""
        given = channel.header(b"authorization") or b""
        scheme, _, token = given.partition(b" ")
        if scheme.lower() == b"bearer" and hmac.compare_digest(_digest(token.strip()), digest):
            return
        address = client_address(channel) or ""
        self._wrong.check(address)
        self._wrong.count(address)
        if not given:
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
        raise GatewayError(ErrorKind.UNKNOWN_PATH, f"There is nothing at {path}.")


def _names(pattern: tuple[str, ...], parts: list[str]) -> tuple[str, ...] | None:
    """Return what stands for the stars; None when the path is another."""
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
    given = channel.header(b"x-actor")
    if given is None:
        return "admin"
    name = given.decode("latin-1")
    if not _ACTOR.match(name):
        raise GatewayError(
            ErrorKind.BAD_REQUEST,
            "x-actor must be at most 64 letters, digits and . _ @ -",
            param="x-actor",
        )
    return f"admin:{name}"


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
