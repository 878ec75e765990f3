"""The body of a streamed call: its first bytes say what it is, whatever its content type."""

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
    An `UpstreamResponse` whose body is a stream: as it is, or made from a whole response.

    Once the body is known to be a stream, its sink gets it directly.

    Args:
        response: A response with a success status.
        wire: The upstream's API.
        endpoint: The operation that was requested of it.
        labelled: The content type is that of a stream: what is no JSON passes as one.
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
        """With the content type of a stream and without a length."""

    def start(self, sink: BodySink) -> None:
        """Push the stream into `sink`."""
        self._sink = sink
        self._response.start(self)

    def close(self) -> None:
        """Drop the connection unless the body is complete."""
        self._sink = None
        self._response.close()

    # `ports.BodySink`.

    def body_chunk(self, chunk: bytes) -> None:
        """Forward a piece of a stream; hold the pieces of another body."""
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
        """Forward the end, after a whole response as a stream."""
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
            else:  # in the upstream's words
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
