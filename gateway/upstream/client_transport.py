"""
Our connections under an ordinary `httpx2.AsyncClient`, for everything that is not hot.

    transport = PooledClientTransport(upstream_transport)
    async with httpx2.AsyncClient(transport=transport) as client:
        await client.get("https://api.example.com/v1/models")

Closing the client does not close the connections: they belong to the `UpstreamTransport`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Final

import httpx2
from typing_extensions import override

from gateway.core.model import Clocks, Origin
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Transport, UpstreamRequest, UpstreamResponse

_NEVER_S: Final = 86_400.0
"""A time-out that the client left out."""

_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding"))


class PooledClientTransport(httpx2.AsyncBaseTransport):
    """
    An httpx2 transport that sends over `transport`.

    The request body is read into memory first. Of the client's time-outs, `connect` bounds the
    connecting, `read` the wait for the head and for each further part of the body; `write` and
    `pool` do not apply. Failures are raised as httpx2's own exceptions, chained to the
    GatewayError.

    Args:
        transport: Not closed with the client.
        max_connections: For each origin; a full pool raises PoolTimeout at once.
        keepalive_s: How long an idle connection is kept.
    """

    def __init__(
        self, transport: Transport, *, max_connections: int = 128, keepalive_s: float = 30.0
    ) -> None:
        self._transport = transport
        self._max_connections = max_connections
        self._keepalive_s = keepalive_s

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        timeouts = request.extensions.get("timeout", {})
        read_s = _seconds(timeouts, "read")
        try:
            upstream = await self._transport.send(await self._own(request, timeouts, read_s))
        except GatewayError as error:
            raise _foreign(error, request) from error
        return httpx2.Response(
            upstream.status, headers=upstream.headers, stream=_Body(upstream, request, read_s)
        )

    async def _own(
        self, request: httpx2.Request, timeouts: Mapping[str, float | None], read_s: float
    ) -> UpstreamRequest:
        url = request.url
        tls = url.scheme == "https"
        connect_s = _seconds(timeouts, "connect")
        return UpstreamRequest(
            origin=Origin(
                host=url.raw_host.decode("ascii"),
                port=url.port or (443 if tls else 80),
                tls=tls,
                max_connections=self._max_connections,
                keepalive_s=self._keepalive_s,
            ),
            method=request.method,
            path=url.raw_path.decode("ascii"),
            headers=tuple(
                header for header in request.headers.raw if header[0].lower() not in _FRAMING
            ),
            body=await request.aread(),
            clocks=Clocks(connect_s, _NEVER_S, _NEVER_S, _NEVER_S, _NEVER_S),
            head_timeout_s=read_s,
        )


class _Body(httpx2.AsyncByteStream):
    """
    Turns the pushed body into one that is pulled: a chunk waits here at most, then reading pauses.
    """

    def __init__(self, upstream: UpstreamResponse, request: httpx2.Request, read_s: float) -> None:
        self._upstream = upstream
        self._request = request
        self._read_s = read_s
        self._chunks: list[bytes] = []
        self._ended = False
        self._error: GatewayError | None = None
        self._news = asyncio.Event()

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._upstream.start(self)
        while True:
            await self._wait()
            chunks, self._chunks = self._chunks, []
            for chunk in chunks:
                yield chunk
            if self._error is not None:
                raise _foreign(self._error, self._request) from self._error
            if self._ended:
                return
            self._news.clear()
            self._upstream.resume()

    @override
    async def aclose(self) -> None:
        self._upstream.close()

    def body_chunk(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._upstream.pause()
        self._news.set()

    def body_end(self) -> None:
        self._ended = True
        self._news.set()

    def body_failed(self, error: GatewayError) -> None:
        self._error = error
        self._news.set()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._read_s):
                await self._news.wait()
        except TimeoutError as error:
            self._upstream.close()
            raise httpx2.ReadTimeout("no more of the body", request=self._request) from error


def _seconds(timeouts: Mapping[str, float | None], name: str) -> float:
    seconds = timeouts.get(name)
    return _NEVER_S if seconds is None else seconds


def _foreign(error: GatewayError, request: httpx2.Request) -> httpx2.TransportError:
    message = error.detail or error.message
    match error.kind:
        case ErrorKind.UPSTREAM_CONNECT:
            return httpx2.ConnectError(message, request=request)
        case ErrorKind.UPSTREAM_TIMEOUT:
            return httpx2.ReadTimeout(message, request=request)
        case ErrorKind.OVERLOADED:
            return httpx2.PoolTimeout(message, request=request)
        case ErrorKind.UPSTREAM_MALFORMED:
            return httpx2.RemoteProtocolError(message, request=request)
        case ErrorKind.INTERNAL:
            return httpx2.LocalProtocolError(message, request=request)
        case _:
            return httpx2.ReadError(message, request=request)
