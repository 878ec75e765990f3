"""One authenticated request of the operators' API, and the routes that handle it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from gateway.errors import ErrorKind, GatewayError
from gateway.operations.http_api import (
    BODY_TIMEOUT_S,
    MAX_BODY_BYTES,
    Response,
    check_content_type,
    decode_json,
)
from gateway.store.accounts.audit import Actor

PAGE = 100
MAX_PAGE = 1000

Shape = TypeVar("Shape")
Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class AdminRequest:
    """
    An authenticated request.

    Args:
        query: The query string, percent-encoded.
        headers: By their names in lower case.
        receive: Yields the body.
        by: Who sends it, for the audit log.
        names: The parts of the path that match `*`.
    """

    def __init__(
        self,
        query: bytes,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        by: Actor,
        names: tuple[str, ...],
    ) -> None:
        self.query = query
        self.by = by
        self.names = names
        self._headers = headers
        self._receive = receive

    def header(self, name: bytes) -> bytes | None:
        """Return a header by its name in lower case."""
        return self._headers.get(name)

    async def json(self, shape: type[Shape]) -> Shape:
        """
        Return the body as `shape`, a struct that forbids unknown fields.

        Raises:
            GatewayError: BAD_REQUEST naming the field, CONTENT_TYPE, BODY_TOO_LARGE, BODY_TIMEOUT,
                CLIENT_GONE.
        """
        kind = self._headers.get(b"content-type")
        check_content_type(kind)
        return decode_json(await self._body(), kind, shape)

    async def _body(self) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise GatewayError(ErrorKind.CLIENT_GONE, "The client has left.")
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY_BYTES:
                        raise GatewayError(
                            ErrorKind.BODY_TOO_LARGE,
                            f"The request body exceeds {MAX_BODY_BYTES} bytes.",
                        )
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise GatewayError(
                ErrorKind.BODY_TIMEOUT,
                f"The request body was not received within {BODY_TIMEOUT_S:.0f} s.",
            ) from error


Handler = Callable[[AdminRequest], Awaitable[Response]]


class Route(NamedTuple):
    """
    One method of one path, relative to `/admin/`.

    `*` matches one segment; `**` at the end matches the rest, for names that contain slashes.
    """

    method: str
    path: str
    handle: Handler
