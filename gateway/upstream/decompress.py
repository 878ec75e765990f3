"""
Decompression of responses that an upstream compressed although identity was requested.

gzip and deflate are decoded piece by piece; any other coding is refused, since it could be neither
metered nor translated.

A small piece may inflate to a thousand times its size. So a paused response stops inflating and
holds the rest, which is inflated before more is read from the upstream.
"""

from __future__ import annotations

import asyncio
import zlib

from gateway.errors import ErrorKind, GatewayError
from gateway.ports import BodySink, Headers, UpstreamResponse

_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_PIECE_BYTES = 256 * 1024
"""Maximum bytes inflated at a time: a zip bomb is inflated no faster than it is forwarded."""


class DecompressedResponse:
    """
    An `UpstreamResponse` with a decoded body.

    Args:
        response: A response with a gzip or deflate body.
    """

    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response
        self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._sink: BodySink | None = None
        self._failed = False
        self._paused = False
        self._waiting = b""  # coded bytes received before a pause

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> Headers:
        """The headers without those that describe the coding."""
        coded = (b"content-encoding", b"content-length")
        return [header for header in self._response.headers if header[0] not in coded]

    @property
    def complete(self) -> bool:
        """Whether the whole body has been received."""
        return self._response.complete

    def start(self, sink: BodySink) -> None:
        """Push the decoded body into `sink`."""
        self._sink = sink
        self._response.start(self)

    def pause(self) -> None:
        """Stop reading and inflating."""
        self._paused = True
        self._response.pause()

    def resume(self) -> None:
        """Continue, first with the held bytes; pushes nothing before it returns."""
        self._paused = False
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._continue)
        else:
            self._response.resume()

    def close(self) -> None:
        """Drop the connection unless the body is complete."""
        self._waiting = b""
        self._sink = None
        self._response.close()

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole decoded body, at most `limit_bytes`."""
        coded = await self._response.read(limit_bytes)
        try:
            plain = self._inflate.decompress(coded, limit_bytes)
        except zlib.error as error:
            raise _broken() from error
        if self._inflate.unconsumed_tail or not self._inflate.eof:
            raise _broken()
        return plain

    # `ports.BodySink`.

    def body_chunk(self, chunk: bytes) -> None:
        """Forward a piece, decoded."""
        inflate = self._inflate
        while chunk and self._sink is not None and not (self._failed or inflate.eof):
            if self._paused:
                self._waiting += chunk
                return
            try:
                plain = inflate.decompress(chunk, _PIECE_BYTES)
            except zlib.error:
                self._failed = True
                self._sink.body_failed(_broken())
                return
            chunk = inflate.unconsumed_tail
            if plain:
                self._sink.body_chunk(plain)

    def body_end(self) -> None:
        """Forward the end, if the coded stream has ended, too."""
        if self._failed or self._sink is None:
            return
        if self._inflate.eof:
            self._sink.body_end()
        else:
            self._sink.body_failed(_broken())

    def body_failed(self, error: GatewayError) -> None:
        """Forward the failure."""
        if not self._failed and self._sink is not None:
            self._sink.body_failed(error)

    def _continue(self) -> None:
        """Inflate the held bytes, then resume the upstream."""
        if self._paused:
            return
        chunk, self._waiting = self._waiting, b""
        self.body_chunk(chunk)
        if not self._paused and self._sink is not None:
            self._response.resume()


def decompress(response: UpstreamResponse) -> UpstreamResponse:
    """
    Return the response itself, or one that decodes it.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: an unsupported coding; the response is closed.
    """
    coding = next((value for name, value in response.headers if name == b"content-encoding"), b"")
    coding = coding.strip().lower()
    if coding in (b"", b"identity"):
        return response
    if coding in (b"gzip", b"x-gzip", b"deflate"):
        return DecompressedResponse(response)
    response.close()
    raise GatewayError(
        ErrorKind.UPSTREAM_MALFORMED,
        "The upstream model responded in an unexpected format.",
        detail=f"content-encoding {coding[:50].decode('latin-1')}",
    )


def _broken() -> GatewayError:
    return GatewayError(
        ErrorKind.UPSTREAM_BROKEN, "The upstream model's compressed response is damaged."
    )
