"""Reads a whole response body, up to a limit."""

from __future__ import annotations

import asyncio

from gateway.core.model import Origin
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import UpstreamResponse
from gateway.upstream.errors import upstream_failure


async def read_whole(response: UpstreamResponse, origin: Origin, limit_bytes: int) -> bytes:
    """
    Start the response, return its body and close it, also when cancelled.

    Raises:
        GatewayError: UPSTREAM_BROKEN if the body is incomplete, UPSTREAM_MALFORMED beyond the
            limit.
    """
    whole = _WholeBody(limit_bytes)
    try:
        response.start(whole)
        await whole.done
    finally:
        response.close()
    if whole.error is not None:
        raise whole.error
    if whole.size_bytes > limit_bytes:
        raise body_too_large(origin, limit_bytes)
    return b"".join(whole.chunks)


def body_too_large(origin: Origin, limit_bytes: int) -> GatewayError:
    """Return the error for a body beyond the reader's limit."""
    what = f"body over {limit_bytes} bytes"
    return upstream_failure(ErrorKind.UPSTREAM_MALFORMED, origin, what)


class _WholeBody:
    """A sink that collects a body up to a limit."""

    __slots__ = ("_limit_bytes", "chunks", "done", "error", "size_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.chunks: list[bytes] = []
        self.size_bytes = 0
        self.error: GatewayError | None = None

    def body_chunk(self, chunk: bytes) -> None:
        self.size_bytes += len(chunk)
        if self.size_bytes <= self._limit_bytes:
            self.chunks.append(chunk)
        else:
            self._finish()

    def body_end(self) -> None:
        self._finish()

    def body_failed(self, error: GatewayError) -> None:
        self.error = error
        self._finish()

    def _finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)
