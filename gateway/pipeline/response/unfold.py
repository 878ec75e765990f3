"""Detects whole responses to streamed requests by their first bytes, and converts them."""

from __future__ import annotations

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import BodySink, Headers, UpstreamResponse
from gateway.protocols.codec.json_decode import BOM
from gateway.protocols.http.errors.response_faults import MALFORMED_RESPONSE, read_response_fault
from gateway.protocols.streams.refold import begins_document, begins_stream, unfolded

HELD_BYTES = 32 * 1024 * 1024


class UnfoldedResponse:
    """
    An `UpstreamResponse` whose body is a stream, if necessary converted from a whole response.

    Once the body is known to be a stream, it is pushed into the sink directly.

    Args:
        response: A response with a success status.
        wire: The upstream's API.
        endpoint: The operation that was requested of it.
        labelled: The content type is a stream's: a body that is not JSON is treated as a stream.
    """

    def __init__(
        self, response: UpstreamResponse, wire: Wire, endpoint: Endpoint, *, labelled: bool
    ) -> None:
        self._response = response
        self._labelled = labelled
        self._wire = wire
        self._endpoint = endpoint
        self._held: bytearray | None = bytearray()
        self._sink: BodySink | None = None
        self.status = response.status
        self.pause = response.pause
        self.resume = response.resume
        self.read = response.read
        self.headers: Headers = response.headers if labelled else _renamed(response.headers)
        """The headers, with a stream's content type and without a length."""

    @property
    def complete(self) -> bool:
        """Whether the whole body has been received."""
        return self._response.complete

    def start(self, sink: BodySink) -> None:
        """Push the stream into `sink`."""
        self._sink = sink
        self._response.start(self)

    def close(self) -> None:
        """Close the connection unless the body is complete."""
        self._sink = None
        self._response.close()

    # `ports.BodySink`.

    def body_chunk(self, chunk: bytes) -> None:
        """Forward a piece of a stream; keep the pieces of another body."""
        sink, held = self._sink, self._held
        if sink is None:
            return
        if held is None:
            sink.body_chunk(chunk)
            return
        held += chunk
        if self._is_stream(bytes(held[:64])):
            self._held = None
            sink.body_chunk(bytes(held))
            if self._sink is not None:
                self._response.start(sink)
        elif len(held) > HELD_BYTES:
            self._fail("a whole response that is too large")

    def body_end(self) -> None:
        """Forward the end, after converting a whole response to a stream."""
        sink, held = self._sink, self._held
        if sink is None:
            return
        if held is not None:
            body = bytes(held).removeprefix(BOM)
            fault = read_response_fault(self._wire, self._endpoint, body)
            if fault is MALFORMED_RESPONSE:
                self._fail("neither a stream nor a response")
                return
            if fault is None:
                try:
                    stream = unfolded(self._wire, body)
                except GatewayError as error:
                    self._fail(error.detail or "")
                    return
                sink.body_chunk(stream)
            else:  # forwarded as the upstream sent it
                data = body.replace(b"\r", b" ").replace(b"\n", b" ")
                sink.body_chunk(b"event: error\ndata: %b\n\n" % data)
        sink.body_end()

    def body_failed(self, error: GatewayError) -> None:
        """Forward the failure."""
        if self._sink is not None:
            self._sink.body_failed(error)

    def _is_stream(self, start: bytes) -> bool:
        if self._labelled:
            return not begins_document(start)
        return begins_stream(start) is True

    def _fail(self, detail: str) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.body_failed(
                GatewayError(
                    ErrorKind.UPSTREAM_MALFORMED, MALFORMED_RESPONSE.message, detail=detail
                )
            )


def _renamed(headers: Headers) -> Headers:
    renamed = (b"content-type", b"content-length")
    kept = [header for header in headers if header[0] not in renamed]
    return [*kept, (b"content-type", b"text/event-stream")]
