"""
Answers that an upstream compressed although identity was asked for, made plain again.

gzip and deflate are undone piece by piece; any other coding is refused, since nothing could be
metered or translated in it.
"""

from __future__ import annotations

import zlib

from gateway.errors import ErrorKind, GatewayError
from gateway.ports import BodySink, Headers, UpstreamResponse

_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS
_PIECE_BYTES = 256 * 1024
"""Most that is made of one piece at a time: a bomb grows no faster than it is passed on."""


class InflatedResponse:
    """
    An `UpstreamResponse` whose body is plain.

    Args:
        response: Whose body is gzip or deflate.
    """

    def __init__(self, response: UpstreamResponse) -> None:
        self._response = response
        self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._sink: BodySink | None = None
        self._failed = False

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._response.status

    @property
    def headers(self) -> Headers:
        """The headers without those that told of the coding."""
        coded = (b"content-encoding", b"content-length")
        return [header for header in self._response.headers if header[0] not in coded]

    def start(self, sink: BodySink) -> None:
        """Push the plain body into `sink`."""
        self._sink = sink
        self._response.start(self)

    def pause(self) -> None:
        """Stop reading."""
        self._response.pause()

    def resume(self) -> None:
        """Read again."""
        self._response.resume()

    def close(self) -> None:
        """Drop the connection unless the body is complete."""
        self._response.close()

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole plain body, at most `limit_bytes`."""
        coded = await self._response.read(limit_bytes)
        try:
            plain = self._inflate.decompress(coded, limit_bytes)
        except zlib.error as error:
            raise _broken() from error
        if self._inflate.unconsumed_tail or not self._inflate.eof:
            raise _broken()
        return plain

    # The three calls of a BodySink.

    def body_chunk(self, chunk: bytes) -> None:
        """Pass a piece on, plain."""
        assert self._sink is not None
        while chunk and not self._failed:
            try:
                plain = self._inflate.decompress(chunk, _PIECE_BYTES)
            except zlib.error:
                self._failed = True
                self._sink.body_failed(_broken())
                return
            chunk = self._inflate.unconsumed_tail
            if plain:
                self._sink.body_chunk(plain)

    def body_end(self) -> None:
        """Pass the end on, if the coded stream has ended, too."""
        assert self._sink is not None
        if self._failed:
            return
        if self._inflate.eof:
            self._sink.body_end()
        else:
            self._sink.body_failed(_broken())

    def body_failed(self, error: GatewayError) -> None:
        """Pass the failure on."""
        assert self._sink is not None
        if not self._failed:
            self._sink.body_failed(error)


def plain_response(response: UpstreamResponse) -> UpstreamResponse:
    """
    Return the response itself, or one that undoes its coding.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: a coding that is not known here; the response is closed.
    """
    coding = next((value for name, value in response.headers if name == b"content-encoding"), b"")
    coding = coding.strip().lower()
    if coding in (b"", b"identity"):
        return response
    if coding in (b"gzip", b"x-gzip", b"deflate"):
        return InflatedResponse(response)
    response.close()
    raise GatewayError(
        ErrorKind.UPSTREAM_MALFORMED,
        "The upstream model answered in an unexpected format.",
        detail=f"content-encoding {coding[:50].decode('latin-1')}",
    )


def _broken() -> GatewayError:
    return GatewayError(
        ErrorKind.UPSTREAM_BROKEN, "The upstream model's compressed answer is damaged."
    )
